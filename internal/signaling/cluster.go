package signaling

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// cluster is a node's half of the conversation with the other nodes.
type cluster struct {
	// Static.
	hub       *hub
	bus       Bus
	node      string
	inc       uint64
	heartbeat time.Duration
	log       *slog.Logger
	metrics   *metrics
	queueMax  int
	refsMax   int
	wake      chan struct{} // capacity 1

	// Guarded by hub.mu.
	seq   uint64 // number of the last announcement
	peers map[string]*peer

	outMu    sync.Mutex
	out      []outgoing
	outBytes int

	refMu sync.Mutex
	ref   uint64
	refs  map[uint64]awaited
}

// outgoing waits for the bus. What is in msg does not change any more.
type outgoing struct {
	node     string // "": all
	msg      busMsg
	snapshot bool // instead of msg: the whole state
	size     int  // about
}

// awaited is a signal that another node has not answered yet.
type awaited struct {
	receipt
	until time.Time
}

func newCluster(h *hub, cfg *Config, m *metrics) *cluster {
	return &cluster{
		hub: h, bus: cfg.Bus, node: cfg.Node, inc: rand.Uint64() >> 12, heartbeat: cfg.Heartbeat,
		log: cfg.Logger, metrics: m, queueMax: cfg.Limits.BusQueueBytes, refsMax: cfg.Limits.BusPendingSignals,
		wake: make(chan struct{}, 1), peers: make(map[string]*peer), refs: make(map[uint64]awaited),
	}
}

// run takes part until ctx ends, then drains, says goodbye, and returns when
// nothing of it runs any more.
func (c *cluster) run(ctx context.Context, drain func()) error {
	cancel, err := c.bus.Subscribe(c.node, c.receive)
	if err != nil {
		drain()
		return fmt.Errorf("running signaling: %w", err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { c.publishLoop(stop) })
	ticks := time.NewTicker(c.heartbeat)
	defer ticks.Stop()
	c.beat("")
	for running := true; running; {
		select {
		case <-ctx.Done():
			running = false
		case <-ticks.C:
			c.tick(time.Now())
		}
	}
	drain()
	c.enqueue("", busMsg{Kind: busLeave})
	close(stop)
	wg.Wait()
	cancel()
	return nil
}

// publishLoop sends what is queued, in order, and after stop what is left.
func (c *cluster) publishLoop(stop <-chan struct{}) {
	for {
		c.outMu.Lock()
		batch := c.out
		c.out, c.outBytes = nil, 0
		c.outMu.Unlock()
		for i := range batch {
			if batch[i].snapshot {
				c.publishSnapshot(batch[i].node)
			} else {
				c.publish(batch[i].node, &batch[i].msg)
			}
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-c.wake:
		case <-stop:
			c.outMu.Lock()
			left := len(c.out)
			c.outMu.Unlock()
			if left == 0 {
				return
			}
		}
	}
}

func (c *cluster) publish(node string, m *busMsg) {
	m.V, m.From, m.Inc = busVersion, c.node, c.inc
	payload, err := m.encode()
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), c.heartbeat)
		err = c.bus.Publish(ctx, node, payload)
		cancel()
	}
	if err != nil {
		c.metrics.busDropped.WithLabelValues("publish-error").Inc()
		c.log.Warn("message to other nodes was not sent", "kind", m.Kind, "error", err)
		return
	}
	c.metrics.bus.WithLabelValues("sent").Inc()
}

// enqueue queues a message; what does not fit is lost, which others notice by
// the numbers, and senders of signals by the missing answer.
func (c *cluster) enqueue(node string, m busMsg) bool {
	return c.push(outgoing{
		node: node, msg: m,
		size: 256 + len(m.frame) + 32*(len(m.Add)+len(m.Del)) + 768*len(m.Sessions),
	})
}

func (c *cluster) push(o outgoing) bool {
	c.outMu.Lock()
	fits := c.outBytes+o.size <= c.queueMax
	if fits {
		c.out = append(c.out, o)
		c.outBytes += o.size
	}
	c.outMu.Unlock()
	if !fits {
		c.metrics.busDropped.WithLabelValues("queue-full").Inc()
		return false
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return true
}

// announce numbers and queues an announcement. hub.mu is held for writing, so
// that numbers and queue have one order.
func (c *cluster) announce(m busMsg) {
	c.seq++
	m.Seq = c.seq
	c.enqueue("", m)
}

func (c *cluster) announceUp(m *member) {
	cert, err := peercrypto.ParseDeviceCert(m.cert)
	if err != nil {
		c.log.Error("certificate of a session cannot be read again", "error", err)
		return
	}
	c.announce(busMsg{Kind: busUp, Sessions: []busSession{{Session: m.session, Started: m.started, Cert: &cert}}})
}

func (c *cluster) announceDown(m *member) {
	c.announce(busMsg{Kind: busDown, Session: &m.session})
}

func (c *cluster) announceTopics(m *member, add, del []peercrypto.Tag) {
	for len(add)+len(del) > 0 {
		a, d := min(len(add), busTagsPart), min(len(del), busTagsPart)
		c.announce(busMsg{Kind: busTags, Session: &m.session, Add: add[:a], Del: del[:d]})
		add, del = add[a:], del[d:]
	}
}

// beat says that this node lives.
func (c *cluster) beat(to string) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	c.beatLocked(to)
}

// beatLocked queues behind all announcements that it counts.
func (c *cluster) beatLocked(to string) { c.enqueue(to, busMsg{Kind: busBeat, Seq: c.seq}) }

// tick beats, forgets silent nodes and answers for signals that got no answer.
func (c *cluster) tick(now time.Time) {
	c.beat("")
	c.hub.mu.Lock()
	for name, p := range c.peers {
		if now.Sub(p.seen) > 3*c.heartbeat {
			c.log.Warn("node is silent and forgotten", "node", name)
			c.forgetLocked(name, p)
		}
	}
	c.hub.mu.Unlock()
	var late []awaited
	c.refMu.Lock()
	for ref, w := range c.refs {
		if now.After(w.until) {
			late = append(late, w)
			delete(c.refs, ref)
		}
	}
	c.refMu.Unlock()
	for _, w := range late {
		c.hub.settle(w.receipt, wire.CodeOffline)
	}
}

// forward sends a signal to the node of its target and returns "", or the code
// to answer with at once. The answer comes with busAck.
func (c *cluster) forward(from, to *member, over *conn, sig *wire.Signal) wire.Code {
	c.refMu.Lock()
	if len(c.refs) >= c.refsMax {
		c.refMu.Unlock()
		return wire.CodeOffline
	}
	c.ref++
	ref := c.ref
	c.refs[ref] = awaited{receipt: receipt{from: from, conn: over, id: sig.ID}, until: time.Now().Add(busAckTimeout)}
	c.refMu.Unlock()
	s := &busSignal{Kind: sig.Kind, To: sig.To, From: from.device, FromUser: from.userKey, Conn: sig.Conn}
	if !sig.SameUser() {
		s.Via = &sig.Via
	}
	if c.enqueue(to.node, busMsg{Kind: busSig, Ref: ref, Sig: s, frame: sig.Stamped(from.device)}) {
		return ""
	}
	if _, mine := c.takeRef(ref); mine {
		return wire.CodeOffline
	}
	return ""
}

func (c *cluster) takeRef(ref uint64) (awaited, bool) {
	c.refMu.Lock()
	defer c.refMu.Unlock()
	w, ok := c.refs[ref]
	delete(c.refs, ref)
	return w, ok
}

// answered takes another node's answer for a signal.
func (c *cluster) answered(ref uint64, code wire.Code) {
	c.refMu.Lock()
	w, ok := c.refs[ref]
	if ok && code == codeHeld {
		w.until = time.Now().Add(c.hub.limits.PingTimeout + busAckTimeout)
		c.refs[ref] = w
		ok = false
	} else {
		delete(c.refs, ref)
	}
	c.refMu.Unlock()
	if ok {
		c.hub.settle(w.receipt, code)
	}
}

// deliver hands a signal from another node to a session of this one. It is
// authorized with what this node knows, and goes nowhere else.
func (c *cluster) deliver(m *busMsg) {
	s := m.Sig
	h := c.hub
	h.mu.RLock()
	to := h.devices[s.To]
	allowed := to != nil && to.local()
	if allowed && s.Via != nil {
		_, allowed = to.tags[*s.Via]
	} else if allowed {
		allowed = to.userKey == s.FromUser
	}
	h.mu.RUnlock()
	code := wire.CodeNotAllowed
	if allowed {
		code = h.hand(to, append([]byte(nil), m.frame...), false, receipt{node: m.From, ref: m.Ref})
		if s.Kind == wire.KindAnswer && code != wire.CodeOffline {
			var pair *offerPair
			to.offers.answered(s.From, connKey([]byte(s.Conn)), &pair)
		}
	}
	c.enqueue(m.From, busMsg{Kind: busAck, Ref: m.Ref, Code: code})
}

// receive takes a message from the bus.
func (c *cluster) receive(payload []byte) {
	m, err := decodeBus(payload)
	if err != nil {
		c.metrics.busDropped.WithLabelValues("malformed").Inc()
		c.log.Warn("message from another node is malformed", "error", err)
		return
	}
	if m.From == c.node {
		if m.Inc != c.inc {
			c.log.Error("another node has this node's name", "node", c.node)
		}
		return
	}
	c.metrics.bus.WithLabelValues("received").Inc()
	switch m.Kind {
	case busSig:
		c.deliver(m)
	case busAck:
		c.answered(m.Ref, m.Code)
	case busWant:
		c.push(outgoing{node: m.From, snapshot: true, size: 256})
	default:
		c.hub.mu.Lock()
		c.learnLocked(m, time.Now())
		c.hub.mu.Unlock()
	}
}
