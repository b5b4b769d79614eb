package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// take takes a verified offer of a later round for the keeper's connection. One
// without a description asks for an offer.
func (k *keeper) take(c *Conn, rd *round) error {
	o := rd.offer
	k.mu.Lock()
	defer k.mu.Unlock()
	if o.Gen <= k.seen {
		return ErrOfferReplayed
	}
	if (o.SDP == "") != c.outgoing {
		return fmt.Errorf("restart: %w: it is for the side that dialled to offer and for the other one to ask", ErrOffer)
	}
	k.seen = o.Gen
	if o.FP != k.a.offeredFP {
		err := fmt.Errorf("offer of a restart: %w", ErrFingerprintMismatch)
		c.fail(err)
		return err
	}
	k.issued = max(k.issued, o.Cert.Issued)
	if o.SDP == "" {
		k.asked = true
		k.wake()
		return nil
	}
	select {
	case <-k.offers: // an older one
	default:
	}
	k.offers <- rd
	return nil
}

// errNoConn means that a restart was for a connection that is not there.
var errNoConn = errors.New("restart of a connection that is not there")

// considerRestart decides about the verified offer of a later round.
func (l *Link) considerRestart(m *wire.Signal, rd *round) error {
	l.mu.Lock()
	a := l.byConn[m.Conn]
	var c *Conn
	if a != nil {
		c = a.result
	}
	l.mu.Unlock()
	if a != nil && (c == nil || a.device() != m.From) {
		return fmt.Errorf("restart: %w: connection is not authenticated, or another device's", ErrOffer)
	}
	remote := rd.offer.remote(m.Via)
	if c == nil || c.ctx.Err() != nil {
		if err := l.admit(l.runContext(), remote); err != nil {
			return err
		}
		return l.disown(m, rd, remote)
	}
	if remote.DeviceKey != c.remote.DeviceKey || remote.UserID != c.remote.UserID || remote.UserKey != c.remote.UserKey {
		return fmt.Errorf("restart: %w", ErrWrongUser)
	}
	known := c.remote
	known.Via = remote.Via
	if err := l.admit(l.runContext(), known); err != nil {
		return err
	}
	return c.keeper.take(c, rd)
}

// disown tells an admitted device that there is no such connection: an answer
// without a description.
func (l *Link) disown(m *wire.Signal, rd *round, to Remote) error {
	ctx, cancel := context.WithTimeout(l.runContext(), resultTimeout)
	defer cancel()
	if err := l.sendDescription(ctx, rd, m.Conn, to, wire.KindAnswer, "", ""); err != nil {
		return fmt.Errorf("%w: %w", errNoConn, err)
	}
	return errNoConn
}

// reach says how a device can be told something.
type reach struct {
	session bool      // there is a session with the server, and:
	heard   time.Time // when the server last gave a sign of life
	present bool      // the device is present on a topic of ours, and:
	cert    peercrypto.DeviceCert
	topic   Topic
}

func (l *Link) reach(device peercrypto.ID) reach {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := reach{session: l.session != nil}
	if r.session {
		r.heard = time.Unix(0, l.session.heard.Load())
	}
	if d := l.peers.devices[device]; r.session && d != nil {
		r.cert = d.cert
		r.topic, r.present = l.routeLocked(d)
	}
	return r
}

// wakeLocked makes the keeper of a device's connection look again; l.mu is held.
func (l *Link) wakeLocked(device peercrypto.ID) {
	if c := l.conns[device]; c != nil {
		c.keeper.wake()
	}
}

// wakeAllLocked is wakeLocked for all devices.
func (l *Link) wakeAllLocked() {
	for _, c := range l.conns {
		c.keeper.wake()
	}
}
