package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// attempt is the negotiation of one connection, in either direction. Its
// goroutine goes on to serve the connection that comes of it.
type attempt struct {
	link     *Link
	conn     peercrypto.ID // connection id, chosen by the offerer
	remote   Remote        // whom we dialled, or who the verified offer is from
	outgoing bool
	arrival  uint64 // number of the offer, of an incoming attempt
	via      peercrypto.Tag
	keys     sealKeys
	eph      peercrypto.BoxPublicKey
	offer    offer // the peer's, of an incoming attempt
	answers  chan wire.Envelope

	ctx    context.Context // ends with the attempt or the connection
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when result and err are set
	result *Conn
	err    error

	mu        sync.Mutex
	tr        *transport      // candidates may be applied once it is set
	waiting   []wire.Envelope // candidates that came before
	remotes   int             // candidates that came, those in the SDP included
	offeredFP string          // that the peer signed
}

func (a *attempt) device() peercrypto.ID { return a.remote.DeviceID }

func (a *attempt) log() *slog.Logger {
	return a.link.log(a.device()).With("conn", a.conn.Short(), "outgoing", a.outgoing)
}

// dirs returns the direction of what this side and of what the peer sends.
func (a *attempt) dirs() (ours, theirs string) {
	if a.outgoing {
		return dirOfferer, dirAnswerer
	}
	return dirAnswerer, dirOfferer
}

// run negotiates, and serves the connection if that succeeds.
func (a *attempt) run() {
	c, err := a.negotiate()
	if err == nil {
		err = a.link.install(a, c)
	}
	if err != nil {
		// What ended the attempt says more than what failed because of it, but
		// less than what this side found wrong.
		if cause := context.Cause(a.ctx); cause != nil && !verdict(err) {
			err = cause
		}
		a.cancel(err)
		if tr := a.transport(); tr != nil {
			tr.close()
		}
		a.link.abandoned(a, err)
		return
	}
	c.serve()
	a.link.ended(a, c)
}

func (a *attempt) transport() *transport {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tr
}

// negotiate brings the attempt to an authenticated connection.
func (a *attempt) negotiate() (*Conn, error) {
	l := a.link
	limit := connectTimeout
	if a.outgoing {
		limit += l.cfg.DialTimeout
	}
	ctx, cancel := context.WithTimeoutCause(a.ctx, limit, ErrICEFailed)
	defer cancel()
	api, err := newAPI(l.cfg.AllowLoopback, l.cfg.ICETransport)
	if err != nil {
		return nil, fmt.Errorf("preparing WebRTC: %w", err)
	}
	tr, err := newTransport(transportConfig{
		api: api, servers: iceServers(l.currentICE(ctx), l.cfg.ICETransport), policy: icePolicy(l.cfg.ICETransport),
		mainLabel: string(a.conn) + "-data", offerer: a.outgoing, fail: a.cancel,
	})
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.tr = tr
	a.mu.Unlock()
	if a.outgoing {
		err = a.invite(ctx, tr)
	} else {
		err = a.respond(ctx, tr)
	}
	if err != nil {
		return nil, err
	}
	var main *channel
	select {
	case main = <-tr.main:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return a.authenticate(tr, main)
}

// invite sends the offer and applies the answer.
func (a *attempt) invite(ctx context.Context, tr *transport) error {
	sdp, err := tr.describe(ctx)
	if err != nil {
		return err
	}
	if err := a.send(ctx, tr, wire.KindOffer, sdp); err != nil {
		return err
	}
	a.link.spawn(func() { tr.trickle(a.ctx, sdp, a.sendCandidate) })
	var env wire.Envelope
	select {
	case env = <-a.answers:
	case <-time.After(a.link.cfg.DialTimeout):
		return ErrNoAnswer
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	plain, err := a.keys.open(a.context(dirAnswerer, wire.KindAnswer), env)
	if err != nil {
		return err
	}
	want := a.link.expect(wire.KindAnswer, a.conn, a.device(), a.eph)
	want.dialled = &a.remote.Cert
	answer, err := parseOffer(plain, want)
	if err != nil {
		return err
	}
	return a.applyRemote(tr, webrtc.SDPTypeAnswer, answer)
}

// respond applies the offer and sends the answer.
func (a *attempt) respond(ctx context.Context, tr *transport) error {
	if err := a.applyRemote(tr, webrtc.SDPTypeOffer, a.offer); err != nil {
		return err
	}
	sdp, err := tr.describe(ctx)
	if err != nil {
		return err
	}
	if err := a.send(ctx, tr, wire.KindAnswer, sdp); err != nil {
		return err
	}
	a.link.spawn(func() { tr.trickle(a.ctx, sdp, a.sendCandidate) })
	return nil
}

// context is the additional data of what goes in a direction.
func (a *attempt) context(dir string, kind wire.Kind) envelopeContext {
	c := envelopeContext{Conn: a.conn, Dir: dir, From: a.link.device, Kind: kind, To: a.device(), Via: viaText(a.via)}
	if ours, _ := a.dirs(); dir != ours {
		c.From, c.To = c.To, c.From
	}
	return c
}

// send signs, seals and sends the offer or answer and waits until the server
// has delivered it.
func (a *attempt) send(ctx context.Context, tr *transport, kind wire.Kind, sdp string) error {
	l := a.link
	cert, err := l.currentCert()
	if err != nil {
		return err
	}
	plain, err := offer{
		V: 2, Kind: kind, Conn: a.conn, FromDevice: l.device, ToDevice: a.device(),
		FromUser: l.user, ToUser: a.remote.UserID, FP: tr.fp, SDP: sdp,
		Time: l.cfg.Now().UnixMilli(), Nonce: peercrypto.NewNonce(), Eph: a.eph, Cert: cert,
	}.sign(l.cfg.Identity.Device)
	if err != nil {
		return err
	}
	ours, _ := a.dirs()
	sealed, err := a.keys.seal(a.context(ours, kind), plain)
	if err != nil {
		return err
	}
	s := l.currentSession()
	if s == nil {
		return fmt.Errorf("sending %s: %w", kind, ErrServerDown)
	}
	env := wire.NewEnvelope(nil, sealed)
	if kind == wire.KindOffer {
		env = wire.NewEnvelope(&a.eph, sealed)
	}
	_, err = s.call(ctx, func(id uint64) wire.Message {
		return &wire.Signal{Kind: kind, ID: id, To: a.device(), Via: a.via, Conn: a.conn, Env: env}
	})
	if err != nil {
		return fmt.Errorf("sending %s: %w", kind, err)
	}
	return nil
}

// sendCandidate sends one local candidate; losing one is no harm.
func (a *attempt) sendCandidate(c candidate) {
	plain, err := peercrypto.MarshalCanonical(c)
	if err != nil {
		return
	}
	ours, _ := a.dirs()
	sealed, err := a.keys.seal(a.context(ours, wire.KindCandidate), plain)
	if err != nil {
		return
	}
	if s := a.link.currentSession(); s != nil {
		_ = s.post(a.ctx, func(id uint64) wire.Message {
			return &wire.Signal{
				Kind: wire.KindCandidate, ID: id, To: a.device(), Via: a.via, Conn: a.conn, Env: wire.NewEnvelope(nil, sealed),
			}
		})
	}
}

// applyRemote checks and applies the peer's description, then the candidates
// that came before it.
func (a *attempt) applyRemote(tr *transport, typ webrtc.SDPType, o offer) error {
	n := 0
	d, err := checkedSDP(o.SDP, typ, o.FP, func(c string) bool {
		n++
		return n <= MaxCandidates && usableCandidate(c, a.link.cfg.AllowLoopback)
	})
	if err != nil {
		return err
	}
	if err := tr.setRemote(d); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.offeredFP = o.FP
	a.remotes += n
	for _, env := range a.waiting {
		a.applyCandidateLocked(env)
	}
	a.waiting = nil
	return nil
}

// candidate takes a sealed candidate of the peer.
func (a *attempt) candidate(env wire.Envelope) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.remotes++; a.remotes > MaxCandidates {
		a.link.refused.add("candidates over the limit")
		return
	}
	if a.offeredFP == "" {
		a.waiting = append(a.waiting, env)
		return
	}
	a.applyCandidateLocked(env)
}

func (a *attempt) applyCandidateLocked(env wire.Envelope) {
	_, theirs := a.dirs()
	plain, err := a.keys.open(a.context(theirs, wire.KindCandidate), env)
	if err != nil {
		a.link.refused.add("candidate envelope")
		return
	}
	c, err := parseCandidate(plain)
	if err != nil || !usableCandidate(c.Candidate, a.link.cfg.AllowLoopback) {
		a.link.refused.add("candidate")
		return
	}
	if err := a.tr.addCandidate(c); err != nil {
		a.link.refused.add("candidate")
	}
}

// authenticate runs the handshake on the open main channel.
func (a *attempt) authenticate(tr *transport, main *channel) (*Conn, error) {
	l := a.link
	ctx, cancel := context.WithTimeoutCause(a.ctx, l.cfg.AuthTimeout, ErrAuthTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = main.raw.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	remoteFP, err := tr.remoteFP(main)
	if err != nil {
		return nil, err
	}
	cert, err := l.currentCert()
	if err != nil {
		return nil, err
	}
	role := roleAnswerer
	if a.outgoing {
		role = roleOfferer
	}
	h := handshake{
		role: role, conn: a.conn, expect: a.remote, localFP: tr.fp, remoteFP: remoteFP, offeredFP: a.offeredFP,
		self: selfProof{cert: cert, device: l.cfg.Identity.Device, genesis: l.cfg.Identity.Genesis, userDoc: l.cfg.UserDoc},
		now:  l.cfg.Now, verified: tr.peerVerified,
		userID: func(g peercrypto.UserGenesis) (peercrypto.ID, error) { return l.ids.of(g, ctx.Done()) },
	}
	remote, id, err := h.run(mainChannel{main})
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return nil, cause
	}
	if err != nil {
		return nil, err
	}
	if err := l.admit(a.ctx, remote); err != nil {
		return nil, err
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	return newConn(a.ctx, a.cancel, tr, main, remote, id, a.outgoing, l.cfg.Now()), nil
}

// admit asks Config.Admit, for five seconds at most.
func (l *Link) admit(ctx context.Context, r Remote) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := l.cfg.Admit(ctx, r); err != nil {
		return fmt.Errorf("%w: %w", ErrNotAdmitted, err)
	}
	return nil
}

// verdict reports whether err is what this side found wrong with the peer.
func verdict(err error) bool {
	for _, v := range []error{
		ErrFingerprintMismatch, ErrAuthSignature, ErrReflection, ErrWrongUser, ErrCertificate, ErrAuthFrame,
		ErrNotAdmitted, ErrEnvelope, ErrOffer, ErrOfferSignature, ErrOfferTime, ErrFingerprint, ErrNoAnswer,
	} {
		if errors.Is(err, v) {
			return true
		}
	}
	return false
}

// quiet reports failures that are no news.
func quiet(err error) bool {
	return errors.Is(err, ErrGlare) || errors.Is(err, ErrClosed) || errors.Is(err, ErrReplaced)
}
