package link

import (
	"errors"
	"fmt"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// onSignal takes an envelope from the server. It is called by the reader and
// does not block.
func (l *Link) onSignal(m *wire.Signal) {
	if m.From == l.device {
		l.refused.add("envelope from this device")
		return
	}
	switch m.Kind {
	case wire.KindOffer:
		l.onOffer(m)
	case wire.KindAnswer:
		rd := l.expectingAnswer(m)
		if rd == nil {
			l.refused.add("answer without offer")
			return
		}
		select {
		case rd.answers <- m.Env:
		default:
			l.refused.add("second answer")
		}
	case wire.KindNotify:
		l.onNotify(m)
	case wire.KindCandidate:
		if a, connected := l.attemptOrKeep(m); a != nil {
			a.candidate(m.Env, connected)
		}
	}
}

// attemptOrKeep returns the attempt of a candidate, and whether it is a
// connection by now, or keeps the candidate until its offer was verified.
func (l *Link) attemptOrKeep(m *wire.Signal) (a *attempt, connected bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a = l.byConn[m.Conn]
	switch {
	case a != nil && a.device() == m.From:
		return a, a.result != nil
	case a != nil:
		l.refused.add("candidate of another device")
	case !l.early.addLocked(m.From, m.Conn, m.Env, l.cfg.Now()):
		l.refused.add("candidates over the limit")
	}
	return nil, false
}

// expectingAnswer returns the round of ours that an answer is for: same
// connection, same device, same topic.
func (l *Link) expectingAnswer(m *wire.Signal) *round {
	l.mu.Lock()
	a := l.byConn[m.Conn]
	l.mu.Unlock()
	if a == nil || a.device() != m.From {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if rd := a.expecting; rd != nil && rd.ours && rd.via == m.Via {
		return rd
	}
	return nil
}

// onOffer verifies an offer in a goroutine of its own, a bounded number at once.
func (l *Link) onOffer(m *wire.Signal) {
	if err := l.seen.allow(m.From, l.cfg.OffersPerMinute, l.cfg.Now()); err != nil {
		l.refused.add("offers over the rate")
		return
	}
	l.mu.Lock()
	l.arrivals++
	arrival := l.arrivals
	l.mu.Unlock()
	l.consider("offers over the limit", func() {
		if err := l.considerOffer(m, arrival); err != nil {
			l.refused.add(offerReason(err))
			if !quiet(err) {
				l.log(m.From).Info("offer refused", "conn", m.Conn.Short(), "err", err)
			}
		}
	})
}

// consider runs f in a goroutine, a bounded number at once; what is over the
// limit is counted and dropped.
func (l *Link) consider(over string, f func()) {
	select {
	case l.inbound <- struct{}{}:
	default:
		l.refused.add(over)
		return
	}
	if !l.spawn(func() {
		defer func() { <-l.inbound }()
		f()
	}) {
		<-l.inbound
	}
}

// offerReason names a refusal in Status.Refused.
func offerReason(err error) string {
	for _, r := range []struct {
		err  error
		name string
	}{
		{ErrGlare, "offer gave way to ours"},
		{ErrNotAdmitted, "offer not admitted"},
		{ErrOfferReplayed, "offer replayed"},
		{ErrOfferTime, "offer time"},
		{ErrOfferSignature, "offer signature"},
		{ErrCertificate, "offer certificate"},
		{ErrFingerprint, "offer fingerprint"},
		{ErrEnvelope, "offer envelope"},
		{ErrUnknownDevice, "offer over a foreign topic"},
		{ErrBusy, "offers over the limit"},
		{errNoConn, "restart of a connection that is not there"},
		{ErrFingerprintMismatch, "restart with another certificate"},
		{ErrWrongUser, "restart by another user"},
	} {
		if errors.Is(err, r.err) {
			return r.name
		}
	}
	return "offer"
}

// considerOffer verifies an offer completely, and only then starts an attempt:
// until here nothing was allocated and no address of ours was disclosed.
func (l *Link) considerOffer(m *wire.Signal, arrival uint64) error {
	rd, err := l.openOffer(m)
	if err != nil {
		return err
	}
	if rd.gen > 0 {
		return l.considerRestart(m, rd)
	}
	remote := rd.offer.remote(m.Via)
	if err := l.admit(l.runContext(), remote); err != nil {
		return err
	}
	// Remembered after Admit: strangers cannot fill the memory.
	if err := l.seen.add(m.From, m.Conn, l.cfg.Now()); err != nil {
		return err
	}
	a := l.newAttempt(m.Conn, remote, rd)
	a.arrival = arrival
	return l.startIncoming(a)
}

// openOffer opens and verifies the envelope of an offer.
func (l *Link) openOffer(m *wire.Signal) (*round, error) {
	topic, err := l.topicOf(m.Via)
	if err != nil {
		return nil, err
	}
	eph, err := m.Env.EphKey()
	if err != nil {
		return nil, fmt.Errorf("opening offer: %w: %w", ErrEnvelope, err)
	}
	shared, err := l.cfg.Identity.DeviceBox.SharedSecret(eph)
	if err != nil {
		return nil, fmt.Errorf("opening offer: %w: %w", ErrEnvelope, err)
	}
	rd := &round{via: m.Via, keys: newSealKeys(shared, topic.EnvSalt), eph: eph}
	plain, err := rd.keys.open(rd.context(l.device, m.From, m.Conn, dirOfferer, wire.KindOffer), m.Env)
	if err != nil {
		return nil, err
	}
	want := l.expect(wire.KindOffer, m.Conn, m.From, eph)
	if m.SameUser() {
		want.sameUser = &l.userKey
	}
	if rd.offer, err = parseOffer(plain, want); err != nil {
		return nil, err
	}
	rd.gen = rd.offer.Gen
	return rd, nil
}

// topicOf returns the topic of a tag that we hold; the zero tag means a device
// of the same user and has no salt.
func (l *Link) topicOf(tag peercrypto.Tag) (Topic, error) {
	if tag == (peercrypto.Tag{}) {
		return Topic{}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.topics[tag]
	if !ok {
		return Topic{}, fmt.Errorf("opening offer: %w", ErrUnknownDevice)
	}
	return t, nil
}

// startIncoming decides between an offer and what else is going on with the
// device, and starts to answer.
//
// Glare: both devices apply the same rule to the same two offers, the offer of
// the lower device id survives. An own offer that is higher is given up here,
// before the peer, which ignored it, could miss it.
func (l *Link) startIncoming(a *attempt) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return ErrNotRunning
	}
	if l.byConn[a.conn] != nil {
		return ErrOfferReplayed
	}
	lower := l.device < a.device()
	if c := l.conns[a.device()]; c != nil && c.ctx.Err() == nil {
		if c.arrivals >= a.arrival && c.outgoing && lower {
			return ErrGlare // it crossed the offer that became c
		}
	}
	if other := l.attempts[a.device()]; other != nil {
		switch {
		case other.outgoing && lower:
			return ErrGlare
		case !other.outgoing && other.arrival > a.arrival:
			return ErrGlare // a newer offer is being answered
		}
		delete(l.attempts, a.device())
		other.cancel(ErrGlare)
	} else if !l.roomLocked(a) {
		return ErrBusy
	}
	l.startLocked(a)
	return nil
}

// roomLocked tells whether there is room for an attempt beside the connections
// and attempts with other devices.
func (l *Link) roomLocked(a *attempt) bool {
	a.invited = !a.outgoing && l.topics[a.first.via].EnvSalt != [32]byte{}
	all, same, invited := 0, 0, 0
	count := func(o *attempt) {
		if o.device() == a.device() {
			return
		}
		all++
		if o.remote.UserID == a.remote.UserID {
			same++
		}
		if o.invited {
			invited++
		}
	}
	for _, o := range l.attempts {
		count(o)
	}
	for _, c := range l.conns {
		count(c.keeper.a)
	}
	return all < l.cfg.MaxConns && same < l.cfg.MaxConnsPerUser && (!a.invited || invited < max(l.cfg.MaxConns/4, 1))
}
