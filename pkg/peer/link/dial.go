package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// Dial returns the authenticated connection with a device that is present on a
// topic: the one that exists, the one that is being negotiated in either
// direction, or a new one. When both sides dial at once, exactly one connection
// survives, and both calls return it. ctx bounds the wait of this call; the
// attempt goes on for others that wait for it.
func (l *Link) Dial(ctx context.Context, device peercrypto.ID) (*Conn, error) {
	for {
		a, c, mine, err := l.dialOnce(device)
		if err != nil {
			return nil, fmt.Errorf("dialling device %s: %w", device.Short(), err)
		}
		if c != nil {
			return c, nil
		}
		select {
		case <-a.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("dialling device %s: %w", device.Short(), ctx.Err())
		}
		if a.err == nil {
			return a.result, nil
		}
		if mine && !errors.Is(a.err, ErrGlare) {
			return nil, fmt.Errorf("dialling device %s: %w", device.Short(), a.err)
		}
		// The other side's attempt survives, or somebody else's failed: look
		// again, and make an own one if there is nothing.
	}
}

// dialOnce returns the connection with a device, or the attempt to wait for.
func (l *Link) dialOnce(device peercrypto.ID) (a *attempt, c *Conn, mine bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil || l.ctx.Err() != nil {
		return nil, nil, false, ErrNotRunning
	}
	if c := l.conns[device]; c != nil && c.ctx.Err() == nil {
		return nil, c, false, nil
	}
	if a := l.attempts[device]; a != nil {
		return a, nil, false, nil
	}
	if l.session == nil {
		return nil, nil, false, ErrServerDown
	}
	d := l.peers.devices[device]
	if d == nil {
		return nil, nil, false, ErrUnknownDevice
	}
	topic, ok := l.routeLocked(d)
	if !ok {
		return nil, nil, false, ErrUnknownDevice
	}
	a, err = l.newOutgoing(d.cert, topic)
	if err != nil {
		return nil, nil, false, err
	}
	if !l.roomLocked(a) {
		return nil, nil, false, ErrBusy
	}
	l.startLocked(a)
	return a, nil, true, nil
}

// newOutgoing makes an attempt with fresh keys.
func (l *Link) newOutgoing(cert peercrypto.DeviceCert, topic Topic) (*attempt, error) {
	rd, err := newRound(0, cert, topic)
	if err != nil {
		return nil, err
	}
	r := remoteOf(cert)
	r.Via = []peercrypto.Tag{topic.Tag}
	return l.newAttempt(peercrypto.NewID(l.cfg.Now()), r, rd), nil
}

// startLocked registers an attempt and runs it. l.mu is held, Run is running.
func (l *Link) startLocked(a *attempt) {
	a.ctx, a.cancel = context.WithCancelCause(l.ctx)
	a.done = make(chan struct{})
	a.first.waiting = l.early.takeLocked(a.device(), a.conn, l.cfg.Now())
	a.first.remotes = len(a.first.waiting)
	l.attempts[a.device()] = a
	l.byConn[a.conn] = a
	l.wg.Go(a.run)
}

// install puts an authenticated connection in the place of the attempt and of
// an older connection. An attempt that lost its place meanwhile loses.
func (l *Link) install(a *attempt, c *Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.attempts[a.device()] != a {
		return ErrGlare
	}
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	delete(l.attempts, a.device())
	if old := l.conns[a.device()]; old != nil {
		old.fail(ErrReplaced)
	}
	l.conns[a.device()] = c
	c.arrivals = l.arrivals
	a.result = c
	close(a.done)
	l.queue.push(Connected{Conn: c})
	a.log().Info("connected", "session", c.session.Short(), "user", c.remote.UserID.Short())
	return nil
}

// abandoned cleans up after an attempt that came to nothing.
func (l *Link) abandoned(a *attempt, err error) {
	l.mu.Lock()
	if l.attempts[a.device()] == a {
		delete(l.attempts, a.device())
	}
	if l.byConn[a.conn] == a {
		delete(l.byConn, a.conn)
	}
	l.mu.Unlock()
	a.err = err
	close(a.done)
	if quiet(err) {
		return
	}
	a.log().Info("connection was not made", "err", err)
	l.queue.push(DialFailed{DeviceID: a.device(), Outgoing: a.outgoing, Err: err})
}

// ended cleans up after a connection. A newer one of the same device stays.
func (l *Link) ended(a *attempt, c *Conn) {
	l.mu.Lock()
	if l.conns[a.device()] == c {
		delete(l.conns, a.device())
	}
	if l.byConn[a.conn] == a {
		delete(l.byConn, a.conn)
	}
	l.mu.Unlock()
	a.log().Info("disconnected", "err", c.Err())
	l.queue.push(Disconnected{Conn: c, DeviceID: a.device(), Reason: c.Err()})
}

func (l *Link) currentSession() *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session
}

// expect is what an offer or answer for this device has to say.
func (l *Link) expect(kind wire.Kind, conn, from peercrypto.ID, eph peercrypto.BoxPublicKey) expectation {
	return expectation{
		kind: kind, conn: conn, from: from, toDevice: l.device, toUser: l.user, eph: eph, now: l.cfg.Now(),
	}
}

// earlyCandidates keeps sealed candidates that came before their offer was
// verified. The link's mutex guards it.
type earlyCandidates struct {
	held  map[replayKey]*earlyList
	total int
}

type earlyList struct {
	since time.Time
	envs  []wire.Envelope
}

func newEarlyCandidates() earlyCandidates {
	return earlyCandidates{held: make(map[replayKey]*earlyList)}
}

func (e *earlyCandidates) addLocked(from, conn peercrypto.ID, env wire.Envelope, now time.Time) bool {
	if e.total >= MaxEarly {
		e.sweepLocked(now)
	}
	key := replayKey{from, conn}
	list := e.held[key]
	if e.total >= MaxEarly || list != nil && len(list.envs) >= MaxCandidates {
		return false
	}
	if list == nil {
		list = &earlyList{since: now}
		e.held[key] = list
	}
	list.envs = append(list.envs, env)
	e.total++
	return true
}

func (e *earlyCandidates) takeLocked(from, conn peercrypto.ID, now time.Time) []wire.Envelope {
	e.sweepLocked(now)
	key := replayKey{from, conn}
	list := e.held[key]
	if list == nil {
		return nil
	}
	delete(e.held, key)
	e.total -= len(list.envs)
	return list.envs
}

func (e *earlyCandidates) sweepLocked(now time.Time) {
	for key, list := range e.held {
		if d := now.Sub(list.since); d > earlyLife || d < 0 {
			e.total -= len(list.envs)
			delete(e.held, key)
		}
	}
}
