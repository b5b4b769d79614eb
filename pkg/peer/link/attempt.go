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
	invited  bool   // it came over the topic of an invitation
	first    *round
	keeper   *keeper // of the connection; does nothing before there is one

	ctx    context.Context // ends with the attempt or the connection
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when result and err are set
	result *Conn         // set under the link's mutex
	err    error

	relays sync.Map // netip.AddrPort of the peer's relays that are not wanted; at most MaxCandidates a round

	mu        sync.Mutex
	tr        *transport
	round     *round          // the one that candidates belong to
	expecting *round          // of ours, the one that an answer is for
	early     []wire.Envelope // candidates that came before the offer of their round
	offeredFP string          // that the peer signed in the first round
}

// newAttempt makes the attempt whose first round is rd.
func (l *Link) newAttempt(conn peercrypto.ID, remote Remote, rd *round) *attempt {
	a := &attempt{link: l, conn: conn, remote: remote, outgoing: rd.ours, first: rd, round: rd, expecting: rd}
	a.keeper = newKeeper(a)
	return a
}

func (a *attempt) device() peercrypto.ID { return a.remote.DeviceID }

func (a *attempt) log() *slog.Logger {
	return a.link.log(a.device()).With("conn", a.conn.Short(), "outgoing", a.outgoing)
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
	ctx, cancel := context.WithTimeoutCause(a.ctx, l.cfg.timing.connect+l.cfg.DialTimeout, ErrICEFailed)
	defer cancel()
	api, socks, err := newAPI(l.cfg)
	if err != nil {
		return nil, fmt.Errorf("preparing WebRTC: %w", err)
	}
	tr, err := newTransport(transportConfig{
		api: api, sockets: socks, servers: iceServers(l.currentICE(ctx), l.cfg.ICETransport), policy: icePolicy(l.cfg.ICETransport),
		mainLabel: string(a.conn) + "-data", offerer: a.outgoing, hide: l.cfg.ICETransport == ICERelay, fail: a.cancel, changed: a.keeper.wake,
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
	case <-time.After(l.cfg.timing.connect):
		return nil, ErrICEFailed
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
	if err := a.send(ctx, a.first, wire.KindOffer, tr.fp, sdp); err != nil {
		return err
	}
	a.trickle(a.first, tr, sdp)
	var env wire.Envelope
	select {
	case env = <-a.first.answers:
	case <-time.After(a.link.cfg.DialTimeout):
		return ErrNoAnswer
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	answer, err := a.openAnswer(a.first, env)
	if err != nil {
		return err
	}
	return a.applyRemote(tr, a.first, webrtc.SDPTypeAnswer, answer)
}

// respond applies the offer and sends the answer.
func (a *attempt) respond(ctx context.Context, tr *transport) error {
	return a.answer(ctx, tr, a.first)
}

// authenticate runs the handshake on the open main channel.
func (a *attempt) authenticate(tr *transport, main *channel) (*Conn, error) {
	l := a.link
	ctx, cancel := context.WithTimeoutCause(a.ctx, l.cfg.AuthTimeout, ErrAuthTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = main.raw.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if a.relayed(tr.selected()) {
		return nil, errRelayed
	}
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
		self: selfProof{cert: cert, device: l.cfg.Identity.Device, genesis: l.cfg.Identity.Genesis, userDoc: l.cfg.UserDoc, history: l.cfg.Identity.History},
		now:  l.cfg.Now, verified: tr.peerVerified, checkKeys: l.cfg.CheckKeys,
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
	return newConn(a, tr, main, remote, id), nil
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
