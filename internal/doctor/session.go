package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/coder/websocket"

	"github.com/peersignal/peersignal/internal/throwaway"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// session is one authenticated connection of a device that lives for the examination.
type session struct {
	e     *examination
	ws    *websocket.Conn
	dev   throwaway.Device
	hello *wire.Hello
	ready *wire.Ready
}

var errStep = errors.New("step failed")

// session connects, authenticates and reports each step.
func (e *examination) session(ctx context.Context) (*session, error) {
	user, err := peercrypto.GenerateSigningKey()
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	s, err := e.open(ctx)
	if err != nil {
		e.fail("WebSocket", "A proxy in front must pass WebSocket upgrades of "+wire.Path+" (and their subprotocol).", "%v", err)
		return nil, errStep
	}
	e.ok("WebSocket", "protocol %s, version %d", wire.Subprotocol, s.hello.V)
	e.clock(s)
	if err := s.authenticate(ctx, user); err != nil {
		s.close()
		e.fail("authentication", adviceFor(err), "%v", err)
		return nil, errStep
	}
	e.ok("authentication", "as %s; the server sees this machine as %s", e.name, s.ready.You.Addr)
	if unbelieved(s.ready.You.Addr, e.addrs) {
		e.warn("addresses of clients", "Start the server with --trusted-proxy and the network of its proxy, which has to set X-Forwarded-For.",
			"the server takes its proxy for the client: all clients together have the limits of one address")
	}
	return s, nil
}

// unbelieved tells a proxy in front of the server that it does not know: who
// dials a public address does not come from a private one.
func unbelieved(seen string, dialled []netip.Addr) bool {
	at, err := netip.ParseAddrPort(seen)
	return err == nil && private(at.Addr().Unmap()) && len(dialled) > 0 && !slices.ContainsFunc(dialled, private)
}

// open dials and reads hello.
func (e *examination) open(ctx context.Context) (*session, error) {
	ctx, cancel := e.within(ctx)
	defer cancel()
	ws, resp, err := websocket.Dial(ctx, e.wsURL, &websocket.DialOptions{ //nolint:bodyclose // Dial closes it
		Subprotocols: []string{wire.Subprotocol}, CompressionMode: websocket.CompressionDisabled,
		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: e.tlsConfig(e.host)}},
	})
	if err != nil {
		if resp != nil {
			return nil, fmt.Errorf("the upgrade was answered %s", resp.Status)
		}
		return nil, plain(err)
	}
	s := &session{e: e, ws: ws}
	ws.SetReadLimit(wire.MaxTopicsFrame)
	hello, err := await[*wire.Hello](ctx, s)
	if err != nil {
		s.close()
		return nil, fmt.Errorf("waiting for hello: %w", err)
	}
	s.hello = hello
	return s, nil
}

// clock compares the clocks. The server accepts five minutes, documents one.
func (e *examination) clock(s *session) {
	off := time.Since(time.UnixMilli(s.hello.Time)).Round(time.Second)
	const advice = "Set the clock of this machine or of the server (NTP)."
	switch {
	case off.Abs() > wire.ClockSkew:
		e.fail("clock", advice, "this machine and the server differ by %s; more than %s is refused", off.Abs(), wire.ClockSkew)
	case off.Abs() > 30*time.Second:
		e.warn("clock", advice, "this machine and the server differ by %s", off.Abs())
	default:
		e.ok("clock", "this machine and the server agree within %s", max(off.Abs(), time.Second))
	}
}

// refusedError is what a server said instead of ready.
type refusedError struct{ *wire.Refused }

func (r refusedError) Error() string { return fmt.Sprintf("refused (%s): %s", r.Code, r.Message) }

func (s *session) authenticate(ctx context.Context, user peercrypto.SigningKey) error {
	ctx, cancel := s.e.within(ctx)
	defer cancel()
	var err error
	if s.dev, err = throwaway.NewDeviceOf(user, time.Hour); err != nil {
		return err
	}
	auth, err := wire.SignAuth(wire.AuthBody{
		Server: s.e.name, Nonce: s.hello.Nonce, CNonce: peercrypto.NewNonce(), Time: time.Now().UnixMilli(),
		Caps: []string{wire.CapRV1},
	}, s.dev.Key, s.dev.Cert)
	if err != nil {
		return err
	}
	if err := s.send(ctx, auth); err != nil {
		return err
	}
	s.ready, err = await[*wire.Ready](ctx, s)
	return err
}

// adviceFor says what a refusal asks for.
func adviceFor(err error) string {
	r, ok := errors.AsType[refusedError](err)
	if !ok {
		return "The server ended the connection; its log at level debug says why."
	}
	switch r.Code {
	case wire.CodeUnknownName:
		return "Start the server with --name and the host:port that clients dial."
	case wire.CodeUseName:
		return "Give clients the canonical name: " + r.Name
	case wire.CodeBadTime:
		return "Set the clock of this machine or of the server (NTP)."
	case wire.CodeTooManySessions:
		return "Declare the proxy with --trusted-proxy, or raise --max-sessions-per-address."
	case wire.CodeServerFull:
		return "Raise --max-sessions, or wait."
	case wire.CodeBlocked:
		return "The operator keeps this address out: peersignal admin blocked."
	default:
		return "See docs/signaling.md."
	}
}

func (s *session) send(ctx context.Context, m wire.Message) error {
	frame, err := wire.Encode(m)
	if err != nil {
		return err
	}
	return s.ws.Write(ctx, websocket.MessageText, frame)
}

// await reads until a message of one type comes. Others that a server may send at any time are passed over.
func await[T wire.Message](ctx context.Context, s *session) (T, error) {
	var none T
	for {
		_, frame, err := s.ws.Read(ctx)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return none, cause
			}
			return none, plain(err)
		}
		m, err := wire.DecodeFromServer(frame)
		if err != nil {
			return none, err
		}
		switch m := m.(type) {
		case T:
			return m, nil
		case *wire.Refused:
			return none, refusedError{m}
		}
	}
}

func (s *session) close() { _ = s.ws.CloseNow() }

// meeting has a second device of another user find the first one by a tag and send it an envelope.
func (e *examination) meeting(ctx context.Context, first *session) {
	const name, advice = "two devices meet", "Two devices that share a tag have to see each other: see the server's log."
	if err := e.meet(ctx, first); err != nil {
		e.fail(name, advice, "%v", err)
		return
	}
	e.ok(name, "presence and a sealed envelope came through")
}

func (e *examination) meet(ctx context.Context, first *session) error {
	user, err := peercrypto.GenerateSigningKey()
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	second, err := e.open(ctx)
	if err != nil {
		return err
	}
	defer second.close()
	if err := second.authenticate(ctx, user); err != nil {
		return err
	}
	var tag peercrypto.Tag
	if _, err := rand.Read(tag[:]); err != nil {
		return fmt.Errorf("drawing a tag: %w", err)
	}
	ctx, cancel := e.within(ctx)
	defer cancel()
	if err := first.publish(ctx, tag); err != nil {
		return err
	}
	if err := second.publish(ctx, tag); err != nil {
		return err
	}
	if err := first.seen(ctx, second.dev.Cert.DeviceID); err != nil {
		return err
	}
	offer, err := sealedOffer(first.dev.Cert.DeviceID, tag)
	if err != nil {
		return err
	}
	if err := second.send(ctx, offer); err != nil {
		return fmt.Errorf("sending an envelope: %w", err)
	}
	got, err := await[*wire.Signal](ctx, first)
	if err != nil {
		return fmt.Errorf("waiting for the envelope: %w", err)
	}
	if got.From != second.dev.Cert.DeviceID || got.Env.CT != offer.Env.CT {
		return errors.New("the envelope was changed on its way")
	}
	return nil
}

func (s *session) publish(ctx context.Context, tag peercrypto.Tag) error {
	if err := s.send(ctx, &wire.Topics{ID: 1, Add: []peercrypto.Tag{tag}}); err != nil {
		return fmt.Errorf("publishing a tag: %w", err)
	}
	res, err := await[*wire.Result](ctx, s)
	if err != nil {
		return fmt.Errorf("publishing a tag: %w", err)
	}
	if res.Code != wire.CodeOK {
		return fmt.Errorf("publishing a tag: %s %s", res.Code, res.Message)
	}
	return nil
}

// seen waits until the other device is present.
func (s *session) seen(ctx context.Context, device peercrypto.ID) error {
	for {
		p, err := await[*wire.Present](ctx, s)
		if err != nil {
			return fmt.Errorf("waiting to see the other device: %w", err)
		}
		for _, j := range p.Join {
			if j.Cert.DeviceID == device {
				return nil
			}
		}
	}
}

// sealedOffer is an offer that looks like a real one: servers can't open them.
func sealedOffer(to peercrypto.ID, via peercrypto.Tag) (*wire.Signal, error) {
	eph, err := peercrypto.GenerateBoxKey()
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	sealed := make([]byte, 1200)
	if _, err := rand.Read(sealed); err != nil {
		return nil, fmt.Errorf("drawing an envelope: %w", err)
	}
	public := eph.Public()
	return &wire.Signal{
		Kind: wire.KindOffer, ID: 2, To: to, Via: via, Conn: peercrypto.NewID(time.Now()), Env: wire.NewEnvelope(&public, sealed),
	}, nil
}
