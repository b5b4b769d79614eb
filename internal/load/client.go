package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// A client is one device of a run, and its connection when it has one.
type client struct {
	n      int
	run    *run
	device Device
	topics []Topic
	mate   *client // of a pair, else nil
	stats  *counters

	event  Event                  // the last one; of the reader
	sock   atomic.Pointer[socket] // nil: not connected
	back   atomic.Int64           // when to connect again, as the server said, in ns; 0: it did not
	cut    atomic.Bool            // this side ended the connection, and the client connects again at once
	nextID atomic.Uint64
	// sent holds when the messages were sent whose ids end in the index, in ns of
	// the run's clock; 0: none is waited for.
	sent [window]atomic.Int64
	// left is the same for envelopes, by the number of the exchange; their
	// receiver looks at it.
	left [window]atomic.Int64
	// last is when the client last got on with its scenario, in ns.
	last atomic.Int64
	// current is the exchange whose answer is waited for; one that comes twice,
	// over two connections, counts once.
	current atomic.Uint64
	// joined is when the client last asked to join its group, in ns.
	joined atomic.Int64
}

// window is how many messages of one client can be on their way.
const window = 64

// topicsID begins the ids of topics messages; those of signals are below.
const topicsID = 1 << 40

// topicOf is a topic that only devices of this run know.
func (r *run) topicOf(kind byte, n int) Topic {
	t := r.seed
	t[0] = kind
	binary.BigEndian.PutUint64(t[8:], uint64(n))
	return t
}

// newClient makes device n: its first topic is that of its group, the others are
// its own.
func (r *run) newClient(n int) (*client, error) {
	d, err := r.cfg.Dialect.Device(n)
	if err != nil {
		return nil, fmt.Errorf("making device %d: %w", n, err)
	}
	c := &client{n: n, run: r, device: d, stats: r.counters[n%len(r.counters)]}
	c.topics = append(c.topics, r.topicOf(1, n/r.cfg.GroupsOf))
	for i := 1; i < r.cfg.Topics; i++ {
		c.topics = append(c.topics, r.topicOf(2, n*r.cfg.Topics+i))
	}
	return c, nil
}

// connect opens a connection, authenticates, and publishes the topics that the
// session does not have. Nobody reads the connection yet.
func (c *client) connect(ctx context.Context, topics []Topic) (*socket, error) {
	ctx, cancel := context.WithTimeout(ctx, c.run.cfg.ConnectTimeout)
	defer cancel()
	begin := time.Now()
	s, err := c.run.target.open(ctx, c.n, c.device.Open())
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, s.cut)
	c.stats.connect.add(time.Since(begin))
	ready, err := c.authenticate(s)
	if err == nil {
		c.stats.auth.add(time.Since(begin))
		if !ready.Resumed && !ready.Kept && len(topics) > 0 {
			err = c.publish(s, topics)
		}
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.cut()
		return nil, err
	}
	if ready.Resumed {
		c.stats.resumed.Add(1)
	}
	s.ready()
	return s, nil
}

// A refusal is what a server said when it did not let a device in.
type refusal struct {
	code  string
	after time.Duration
}

func (e *refusal) Error() string { return "the server refuses: " + e.code }

func (c *client) authenticate(s *socket) (ready Event, err error) {
	if b := c.device.Greet(s.begin()); len(b) > headroom {
		err = s.finish(b)
	} else {
		s.abandon()
	}
	for err == nil {
		var e Event
		if e, err = c.read(s); err != nil {
			break
		}
		switch e.Kind {
		case Ready:
			return e, nil
		case Refused:
			return Event{}, &refusal{e.Code, e.RetryAfter}
		}
	}
	return Event{}, fmt.Errorf("authenticating: %w", err)
}

// publish sends topics and waits for the result.
func (c *client) publish(s *socket, topics []Topic) error {
	id := topicsID + c.nextID.Add(1)
	b := s.begin()
	all := c.device.Topics(b, id, topics, nil)
	if len(all) == len(b) {
		s.abandon()
		return nil
	}
	if err := s.finish(all); err != nil {
		return err
	}
	for {
		e, err := c.read(s)
		switch {
		case err != nil:
			return fmt.Errorf("publishing topics: %w", err)
		case e.Kind == Result && e.ID == id && e.Code != "":
			return &refusal{e.Code, e.RetryAfter}
		case e.Kind == Result && e.ID == id:
			return nil
		case e.Kind == Presence:
			c.run.scenario.event(c, &e)
		}
	}
}

// read takes the next message, and sends what the device replies.
func (c *client) read(s *socket) (Event, error) {
	message, err := s.next()
	if err != nil {
		return Event{}, err
	}
	return c.take(s, message)
}

// take reads a message, and sends what the device replies.
func (c *client) take(s *socket, message []byte) (Event, error) {
	b := s.begin()
	e, reply := c.device.Read(message, b)
	if len(reply) == len(b) {
		s.abandon()
		return e, nil
	}
	return e, s.finish(reply)
}

// serve reads until the connection ends, and says why.
func (c *client) serve(s *socket) error {
	c.last.Store(c.run.now())
	c.sock.Store(s)
	defer c.sock.CompareAndSwap(s, nil)
	return s.each(func(message []byte) error {
		var err error
		e := &c.event
		switch *e, err = c.take(s, message); {
		case err != nil:
			return err
		case e.Kind == Nothing:
		case e.Kind == Farewell:
			c.farewell(s, e)
		default:
			c.run.scenario.event(c, e)
		}
		return nil
	})
}

// farewell takes the announcement that the connection is going to end. When the
// server drains, the client leaves at the time that it was told.
func (c *client) farewell(s *socket, e *Event) {
	c.stats.note(c.run, "notice-"+e.Code)
	c.back.Store(c.run.now() + int64(e.RetryAfter))
	if e.Code != "draining" {
		return
	}
	time.AfterFunc(e.RetryAfter, func() {
		if c.sock.Load() != s || c.run.down.Load() {
			return
		}
		c.cut.Store(true)
		c.bye(s)
	})
}

// bye says goodbye; the server closes then. It says whether there is such a
// thing.
func (c *client) bye(s *socket) bool {
	b := s.begin()
	bye := c.device.Bye(b)
	if len(bye) == len(b) {
		s.abandon()
		return false
	}
	return s.finish(bye) == nil
}

// ack acknowledges what has arrived.
func (c *client) ack() {
	s, a := c.sock.Load(), c.device.(Acker)
	if s == nil {
		return
	}
	b := s.begin()
	if ack := a.Ack(b); len(ack) > len(b) {
		_ = s.finish(ack)
	} else {
		s.abandon()
	}
}

// signal sends an envelope to the mate. A conn of 0 begins an exchange whose
// number is the message's id.
func (c *client) signal(at int64, conn uint64) error {
	s := c.sock.Load()
	if s == nil {
		return errNotConnected
	}
	b := s.begin()
	id := c.nextID.Add(1)
	answer := conn != 0
	if !answer {
		conn = id
		c.current.Store(id)
	}
	c.sent[id%window].Store(at)
	c.left[conn%window].Store(at)
	c.stats.sent.Add(1)
	return s.finish(c.device.Signal(b, Signal{
		Answer: answer, ID: id, To: c.mate.device.ID(), Via: c.topics[0], Conn: conn, Size: c.run.cfg.Size,
	}))
}

// setTopics adds or drops topics; the result comes as an event.
func (c *client) setTopics(add, drop []Topic) error {
	s := c.sock.Load()
	if s == nil {
		return errNotConnected
	}
	b := s.begin()
	id := c.nextID.Add(1)
	c.sent[id%window].Store(c.run.now())
	c.stats.sent.Add(1)
	return s.finish(c.device.Topics(b, topicsID+id, add, drop))
}

// result takes a result: it measures, and says whether all is well.
func (c *client) result(e *Event) bool {
	if at := c.sent[e.ID%window].Swap(0); at != 0 {
		c.stats.result.add(time.Duration(c.run.now() - at))
	}
	if e.Code == "" {
		c.stats.delivered.Add(1)
		return true
	}
	c.stats.refuse(c.run, e.Code)
	return false
}

var errNotConnected = errors.New("not connected")

// codeOf gives a short name for why a connection failed or ended.
func codeOf(err error) string {
	var refused *refusal
	var status *statusError
	var closed *closedError
	var timeout net.Error
	switch {
	case errors.As(err, &refused):
		return refused.code
	case errors.As(err, &status):
		return "http-" + strconv.Itoa(status.status)
	case errors.As(err, &closed):
		return "close-" + strconv.Itoa(closed.code)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "no-file"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no-port"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection-refused"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	default:
		return "connection-lost"
	}
}
