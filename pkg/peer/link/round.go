package link

import (
	"context"
	"fmt"

	"github.com/pion/webrtc/v4"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// round is one exchange of an offer and its answer: the first one of a
// connection, or one of a restart. It has keys of its own, which also seal the
// candidates that belong to it.
type round struct {
	gen     uint64 // 0: the first
	ours    bool   // this side made the offer
	via     peercrypto.Tag
	eph     peercrypto.BoxPublicKey
	keys    sealKeys
	offer   offer              // the peer's, unless ours
	answers chan wire.Envelope // a few: late ones of rounds before may come first

	// Guarded by the attempt's mutex.
	described bool               // the peer's description was applied: candidates may be
	waiting   []wire.Envelope    // candidates that came before
	remotes   int                // candidates that came, those in the SDP included
	stop      context.CancelFunc // ends trickling; nil before
}

// newRound makes a round of ours with fresh keys for a device.
func newRound(gen uint64, cert peercrypto.DeviceCert, topic Topic) (*round, error) {
	secret, err := peercrypto.GenerateBoxKey()
	if err != nil {
		return nil, err
	}
	shared, err := secret.SharedSecret(cert.BoxKey)
	if err != nil {
		return nil, err
	}
	return &round{
		gen: gen, ours: true, via: topic.Tag, eph: secret.Public(),
		keys: newSealKeys(shared, topic.EnvSalt), answers: make(chan wire.Envelope, 4),
	}, nil
}

// dirs returns the direction of what this side and of what the peer sends.
func (r *round) dirs() (ours, theirs string) {
	if r.ours {
		return dirOfferer, dirAnswerer
	}
	return dirAnswerer, dirOfferer
}

// context is the additional data of what goes in a direction between this
// device and another one.
func (r *round) context(self, device, conn peercrypto.ID, dir string, kind wire.Kind) envelopeContext {
	c := envelopeContext{Conn: conn, Dir: dir, From: self, Kind: kind, To: device, Via: viaText(r.via)}
	if ours, _ := r.dirs(); dir != ours {
		c.From, c.To = c.To, c.From
	}
	return c
}

func (a *attempt) context(r *round, dir string, kind wire.Kind) envelopeContext {
	return r.context(a.link.device, a.device(), a.conn, dir, kind)
}

// send signs, seals and sends an offer or answer of this attempt.
func (a *attempt) send(ctx context.Context, r *round, kind wire.Kind, fp, sdp string) error {
	return a.link.sendDescription(ctx, r, a.conn, a.remote, kind, fp, sdp)
}

// sendDescription signs, seals and sends an offer or answer and waits until the
// server has delivered it.
func (l *Link) sendDescription(ctx context.Context, r *round, conn peercrypto.ID, to Remote, kind wire.Kind, fp, sdp string) error {
	cert, err := l.currentCert()
	if err != nil {
		return err
	}
	plain, err := offer{
		V: 2, Kind: kind, Conn: conn, FromDevice: l.device, ToDevice: to.DeviceID,
		FromUser: l.user, ToUser: to.UserID, FP: fp, SDP: sdp, Gen: r.gen,
		Time: l.cfg.Now().UnixMilli(), Nonce: peercrypto.NewNonce(), Eph: r.eph, Cert: cert,
	}.sign(l.cfg.Identity.Device)
	if err != nil {
		return err
	}
	ours, _ := r.dirs()
	sealed, err := r.keys.seal(r.context(l.device, to.DeviceID, conn, ours, kind), plain)
	if err != nil {
		return err
	}
	env := wire.NewEnvelope(nil, sealed)
	if kind == wire.KindOffer {
		env = wire.NewEnvelope(&r.eph, sealed)
	}
	err = l.deliver(ctx, resultTimeout, func(id uint64) wire.Message {
		return &wire.Signal{Kind: kind, ID: id, To: to.DeviceID, Via: r.via, Conn: conn, Env: env}
	})
	if err != nil {
		return fmt.Errorf("sending %s: %w", kind, err)
	}
	return nil
}

// openAnswer opens and verifies the answer to a round of ours.
func (a *attempt) openAnswer(r *round, env wire.Envelope) (offer, error) {
	plain, err := r.keys.open(a.context(r, dirAnswerer, wire.KindAnswer), env)
	if err != nil {
		return offer{}, err
	}
	want := a.link.expect(wire.KindAnswer, a.conn, a.device(), r.eph)
	want.dialled, want.gen = &a.remote.Cert, r.gen
	return parseOffer(plain, want)
}

// answer applies the offer of a round and sends the answer.
func (a *attempt) answer(ctx context.Context, tr *transport, r *round) error {
	if err := a.applyRemote(tr, r, webrtc.SDPTypeOffer, r.offer); err != nil {
		return err
	}
	sdp, err := tr.describe(ctx)
	if err != nil {
		return err
	}
	if err := a.send(ctx, r, wire.KindAnswer, tr.fp, sdp); err != nil {
		return err
	}
	a.trickle(r, tr, sdp)
	return nil
}

// begin makes r the round that candidates belong to.
func (a *attempt) begin(r *round) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.round.stop != nil {
		a.round.stop()
	}
	a.relays.Clear()
	r.waiting = append(r.waiting, a.early...)
	r.remotes += len(a.early)
	a.early, a.round = nil, r
}

// trickle sends local candidates, as they are found, until the next round.
func (a *attempt) trickle(r *round, tr *transport, sdp string) {
	ctx, stop := context.WithCancel(a.ctx)
	a.mu.Lock()
	r.stop = stop
	a.mu.Unlock()
	a.link.spawn(func() {
		tr.trickle(ctx, sdp, func(c candidate) { a.sendCandidate(r, c) })
	})
}

// sendCandidate sends one local candidate; losing one is no harm.
func (a *attempt) sendCandidate(r *round, c candidate) {
	plain, err := peercrypto.MarshalCanonical(c)
	if err != nil {
		return
	}
	ours, _ := r.dirs()
	sealed, err := r.keys.seal(a.context(r, ours, wire.KindCandidate), plain)
	if err != nil {
		return
	}
	if s := a.link.currentSession(); s != nil {
		_ = s.post(a.ctx, func(id uint64) wire.Message {
			return &wire.Signal{
				Kind: wire.KindCandidate, ID: id, To: a.device(), Via: r.via, Conn: a.conn, Env: wire.NewEnvelope(nil, sealed),
			}
		})
	}
}

// applyRemote checks and applies the peer's description, then the candidates
// that came before it.
func (a *attempt) applyRemote(tr *transport, r *round, typ webrtc.SDPType, o offer) error {
	n := 0
	d, err := checkedSDP(o.SDP, typ, o.FP, func(c string) bool {
		n++
		return n <= MaxCandidates && a.wants(c)
	})
	if err != nil {
		return err
	}
	if err := tr.setRemote(d); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if r == a.first {
		a.offeredFP = o.FP
	}
	r.described = true
	r.remotes += n
	for _, env := range r.waiting {
		if !a.applyCandidateLocked(r, env) {
			a.link.refused.add("candidate envelope")
		}
	}
	r.waiting = nil
	return nil
}

// candidate takes a sealed candidate of the peer.
func (a *attempt) candidate(env wire.Envelope, connected bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.round
	if r.remotes++; r.remotes > MaxCandidates {
		a.link.refused.add("candidates over the limit")
		return
	}
	if !r.described {
		r.waiting = append(r.waiting, env)
		return
	}
	if !a.applyCandidateLocked(r, env) {
		if connected && !a.outgoing && len(a.early) < MaxCandidates {
			// It may belong to a restart whose offer is being verified.
			a.early = append(a.early, env)
			return
		}
		a.link.refused.add("candidate envelope")
	}
}

// applyCandidateLocked reports whether the candidate belongs to the round.
func (a *attempt) applyCandidateLocked(r *round, env wire.Envelope) bool {
	_, theirs := r.dirs()
	plain, err := r.keys.open(a.context(r, theirs, wire.KindCandidate), env)
	if err != nil {
		return false
	}
	c, err := parseCandidate(plain)
	if err != nil || !a.wants(c.Candidate) {
		a.link.refused.add("candidate")
		return true
	}
	if err := a.tr.addCandidate(c); err != nil {
		a.link.refused.add("candidate")
	}
	return true
}
