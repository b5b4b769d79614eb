package link

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

const (
	loginTimeout  = 15 * time.Second // from dialling to ready
	resultTimeout = 15 * time.Second
	// A server holds the result of a notification to a device that is between
	// two connections for up to a minute.
	heldTimeout  = 75 * time.Second
	pingInterval = 25 * time.Second
	pongTimeout  = 20 * time.Second
	writeTimeout = 10 * time.Second
	maxPending   = 1024 // requests without a result
	maxQueued    = 256  // frames that wait for the writer
	// A server takes 200 messages in 10 s: 50 at once and 15/s stay below.
	sendBurst = 50
	sendRate  = 15
)

// RefusedError is a refusal by the signaling server: of a session or of one
// message. errors.Is(err, ErrRefused) matches it.
type RefusedError struct {
	Code       wire.Code
	Message    string
	RetryAfter time.Duration // 0 when the server did not say
	name       string        // of use-name
}

func (e *RefusedError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("%s: %s", ErrRefused, e.Code)
	}
	return fmt.Sprintf("%s: %s: %s", ErrRefused, e.Code, e.Message)
}

// Is makes the error match ErrRefused.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// session is one authenticated WebSocket with the server. Its writer goroutine
// owns all writes of messages.
type session struct {
	ws     *websocket.Conn
	name   string // the dialled name
	ready  *wire.Ready
	ctx    context.Context // ends, with the cause, when the session does
	cancel context.CancelCauseFunc
	out    chan []byte
	limit  *rate.Limiter
	local  netip.Addr    // of this machine; zero when unknown
	probe  chan struct{} // signalled when the server should show that it is there
	within time.Duration // for the answer to that
	heard  atomic.Int64  // when the server last answered a ping, in unix nanoseconds; first when it was ready
	pong   func()        // called then; set before run

	got      atomic.Uint64 // counted frames; set before run, then by the reader
	acked    atomic.Uint64 // of them, what was acknowledged last
	ackSeen  uint64        // acked when unacked began; of the reader
	unacked  int           // bytes of signals since then; of the reader
	ackTimer *time.Timer
	ended    chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	nextID  uint64
	pending map[uint64]chan wire.Message // Result or ICE; capacity 1
	notice  *wire.Notice                 // that the server is about to stop
	leave   *time.Timer                  // ends the session then
	leaveAt time.Time
}

// login is what a session shows to the server.
type login struct {
	device peercrypto.SigningKey
	cert   peercrypto.DeviceCert
	client *http.Client
	now    func() time.Time
	probe  time.Duration
	token  string // of the session to go on with, or ""
	got    uint64 // counted frames of it
	nextID uint64 // request ids that have been used
}

// openSession dials and authenticates. The session ends with ctx at the latest;
// it does nothing until run.
func openSession(ctx context.Context, name, wsURL string, l login) (*session, error) {
	loginCtx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	var local netip.Addr
	dialCtx := httptrace.WithClientTrace(loginCtx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if ap, err := netip.ParseAddrPort(info.Conn.LocalAddr().String()); err == nil {
			local = plainAddr(ap.Addr())
		}
	}})
	//nolint:bodyclose // the library leaves no body that could be closed
	ws, resp, err := websocket.Dial(dialCtx, wsURL, &websocket.DialOptions{
		HTTPClient: l.client, Subprotocols: []string{wire.Subprotocol},
	})
	if err != nil {
		if resp != nil {
			return nil, fmt.Errorf("connecting to %s: HTTP status %d; is it a peersignal server?: %w", name, resp.StatusCode, err)
		}
		return nil, fmt.Errorf("connecting to %s: %w", name, err)
	}
	s := &session{
		ws: ws, name: name, out: make(chan []byte, maxQueued),
		local: local, probe: make(chan struct{}, 1), within: l.probe,
		limit:   rate.NewLimiter(sendRate, sendBurst),
		pending: make(map[uint64]chan wire.Message), nextID: l.nextID, ended: make(chan struct{}),
	}
	s.ackTimer = time.AfterFunc(time.Hour, s.ack)
	s.ackTimer.Stop()
	ws.SetReadLimit(wire.MaxFrame)
	if s.ready, err = s.authenticate(loginCtx, l); err != nil {
		_ = ws.CloseNow()
		return nil, fmt.Errorf("signing in to %s: %w", name, err)
	}
	s.heard.Store(time.Now().UnixNano())
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s, nil
}

func (s *session) authenticate(ctx context.Context, l login) (*wire.Ready, error) {
	if s.ws.Subprotocol() != wire.Subprotocol {
		return nil, fmt.Errorf("the server does not speak %s", wire.Subprotocol)
	}
	m, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	hello, ok := m.(*wire.Hello)
	if !ok || hello.V != wire.Version {
		return nil, errors.New("the server does not begin with hello of version 1")
	}
	body := wire.AuthBody{
		V: wire.Version, Server: s.name, Nonce: hello.Nonce, CNonce: peercrypto.NewNonce(),
		DeviceID: l.cert.DeviceID, DeviceKey: l.cert.DeviceKey, UserID: l.cert.UserID, UserKey: l.cert.UserKey,
		Time: l.now().UnixMilli(), Caps: []string{wire.CapRV1},
	}
	if slices.Contains(hello.Caps, wire.CapResume) {
		body.Caps = append(body.Caps, wire.CapResume)
	}
	auth, err := wire.SignAuth(body, l.device, l.cert)
	if err != nil {
		return nil, err
	}
	if len(body.Caps) > 1 && l.token != "" {
		auth.Resume, auth.Got = l.token, l.got
	}
	frame, err := wire.Encode(auth)
	if err != nil {
		return nil, err
	}
	if err := s.ws.Write(ctx, websocket.MessageText, frame); err != nil {
		return nil, err
	}
	if m, err = s.read(ctx); err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *wire.Ready:
		return m, nil
	case *wire.Refused:
		return nil, &RefusedError{
			Code: m.Code, Message: m.Message, name: m.Name,
			RetryAfter: time.Duration(m.RetryAfter) * time.Millisecond,
		}
	default:
		return nil, errors.New("the server answered neither ready nor refused")
	}
}

// read returns the next message of a known type.
func (s *session) read(ctx context.Context) (wire.Message, error) {
	for {
		typ, frame, err := s.ws.Read(ctx)
		if err != nil {
			return nil, err
		}
		if typ != websocket.MessageText {
			return nil, errors.New("the server sent a binary message")
		}
		m, err := wire.DecodeFromServer(frame)
		if errors.Is(err, wire.ErrUnknownType) {
			continue
		}
		return m, err
	}
}

// run serves the session until it ends and returns why. handle gets every
// message that is not a result; it must not block.
func (s *session) run(handle func(wire.Message)) error {
	var wg sync.WaitGroup
	wg.Go(s.write)
	wg.Go(s.ping)
	var err error
	for {
		var m wire.Message
		if m, err = s.read(context.Background()); err != nil {
			break
		}
		if !s.resolve(m) {
			handle(m)
			s.count(m)
		}
	}
	s.cancel(err)
	close(s.ended)
	wg.Wait()
	s.ackTimer.Stop()
	return s.moved(context.Cause(s.ctx))
}

// write is the one writer. It closes the WebSocket when the session ends, which
// ends the reader.
func (s *session) write() {
	defer func() { _ = s.ws.CloseNow() }()
	for {
		select {
		case frame := <-s.out:
			if err := s.limit.Wait(s.ctx); err != nil {
				s.part()
				return
			}
			ctx, cancel := context.WithTimeout(s.ctx, writeTimeout)
			err := s.ws.Write(ctx, websocket.MessageText, frame)
			cancel()
			if err != nil {
				s.cancel(fmt.Errorf("writing to server: %w", err))
				return
			}
		case <-s.ctx.Done():
			s.part()
			return
		}
	}
}

// ping notices a server or network that went away silently.
func (s *session) ping() {
	t := time.NewTicker(pingInterval)
	defer t.Stop()
	for {
		within := pongTimeout
		select {
		case <-t.C:
		case <-s.probe:
			within = s.within
		case <-s.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(s.ctx, within)
		err := s.ws.Ping(ctx)
		cancel()
		if err != nil {
			s.cancel(fmt.Errorf("pinging server: %w", err))
			return
		}
		s.heard.Store(time.Now().UnixNano())
		s.pong()
	}
}

// resolve hands an answer to the request that waits for it.
func (s *session) resolve(m wire.Message) bool {
	var id uint64
	switch m := m.(type) {
	case *wire.Result:
		id = m.ID
	case *wire.ICE:
		id = m.ID
	case *wire.PushGrant:
		id = m.ID
	default:
		return false
	}
	s.mu.Lock()
	ch, ok := s.pending[id]
	delete(s.pending, id)
	s.mu.Unlock()
	if ok {
		ch <- m
	}
	_, isResult := m.(*wire.Result)
	return ok || isResult
}

// post queues a message whose result does not matter. build gets the id.
func (s *session) post(ctx context.Context, build func(id uint64) wire.Message) error {
	s.mu.Lock()
	s.nextID++
	id := s.nextID
	s.mu.Unlock()
	return s.enqueue(ctx, build(id))
}

func (s *session) enqueue(ctx context.Context, m wire.Message) error {
	if sig, ok := m.(*wire.Signal); ok {
		sig.Ack = s.toAck()
	}
	frame, err := wire.Encode(m)
	if err != nil {
		return err
	}
	select {
	case s.out <- frame:
		return nil
	case <-s.ctx.Done():
		return fmt.Errorf("sending %s: %w", m.Type(), ErrServerDown)
	case <-ctx.Done():
		return fmt.Errorf("sending %s: %w", m.Type(), context.Cause(ctx))
	}
}

// call sends a message and waits for its result. A result that says neither ok
// nor delivered is a RefusedError.
func (s *session) call(ctx context.Context, within time.Duration, build func(id uint64) wire.Message) (wire.Message, error) {
	answer := make(chan wire.Message, 1)
	s.mu.Lock()
	if len(s.pending) >= maxPending {
		s.mu.Unlock()
		return nil, ErrBusy
	}
	s.nextID++
	id := s.nextID
	s.pending[id] = answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.pending, id)
		s.mu.Unlock()
	}()
	if err := s.enqueue(ctx, build(id)); err != nil {
		return nil, err
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case m := <-answer:
		return m, resultError(m)
	case <-timer.C:
		return nil, fmt.Errorf("waiting for the server's result: %w", context.DeadlineExceeded)
	case <-s.ctx.Done():
		return nil, ErrServerDown
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func resultError(m wire.Message) error {
	r, ok := m.(*wire.Result)
	if !ok || r.Code == wire.CodeOK || r.Code == wire.CodeDelivered {
		return nil
	}
	return &RefusedError{Code: r.Code, Message: r.Message, RetryAfter: time.Duration(r.RetryAfter) * time.Millisecond}
}

// part ends the session at the server, if it is over, so that others see at once
// that this device has left; else it may go on over another connection. It is of
// the writer. A session that is followed by another one takes what the server has
// for it yet.
func (s *session) part() {
	cause := context.Cause(s.ctx)
	if !said(cause) {
		return
	}
	frame, err := wire.Encode(&wire.Bye{})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.ws.Write(ctx, websocket.MessageText, frame) != nil || errors.Is(cause, ErrClosed) {
		return
	}
	timer := time.NewTimer(leaveTimeout)
	defer timer.Stop()
	select {
	case <-s.ended:
	case <-timer.C:
	}
}
