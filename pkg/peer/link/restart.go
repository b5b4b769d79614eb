package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/peersignal/peersignal/pkg/wire"
)

const (
	// restartPause is the least between two restarts that events ask for, so
	// that neither peer nor server can keep a connection restarting.
	restartPause = time.Second
	idle         = time.Hour // until the next look at a path that is there
)

// keeper keeps the network path of one connection. When it is lost, or about to
// be, the side that made the first offer makes another one, and the other side
// asks for it. Its goroutine owns all negotiation after the first round.
type keeper struct {
	a      *attempt
	wakeup chan struct{} // capacity 1
	offers chan *round   // capacity 1: the newest verified offer of a restart

	mu       sync.Mutex
	seen     uint64 // highest generation of what the peer sent
	issued   int64  // of the newest certificate of the peer's process
	asked    bool   // the peer wants an offer
	forced   bool   // the path must be replaced although it seems to be there
	soon     bool   // something changed: try again
	lost     bool
	restarts uint64
	anchor   anchor
	moved    bool // addresses changed since anchor was set

	// Of the goroutine of run alone.
	c           *Conn
	sent        uint64 // highest generation of what we sent
	out         *round // of ours, waits for an answer
	pair        string // that was used last
	path        Path
	restarted   bool // since the path was lost
	lostAt      time.Time
	lastTry     time.Time
	nextTry     time.Time
	absentSince time.Time // the device is not present; zero if it is, or nobody can tell
	freshSince  time.Time // it is present with a newer certificate than the connection's
}

func newKeeper(a *attempt) *keeper {
	return &keeper{a: a, wakeup: make(chan struct{}, 1), offers: make(chan *round, 1)}
}

// wake makes the keeper look again. It does not block.
func (k *keeper) wake() { signal(k.wakeup) }

// retry makes the keeper look again, and try again if the path is lost.
func (k *keeper) retry() {
	k.mu.Lock()
	k.soon = true
	k.mu.Unlock()
	k.wake()
}

// onNetwork tells which addresses this machine has now.
func (k *keeper) onNetwork(have map[netip.Addr]struct{}) {
	k.mu.Lock()
	at := k.anchor
	k.moved = true
	k.mu.Unlock()
	gone := at.gone(have)
	k.mu.Lock()
	k.forced = k.forced || gone
	k.mu.Unlock()
	k.retry()
}

// state is for Stats.
func (k *keeper) state() (restarts uint64, lost bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.restarts, k.lost
}

// run keeps the path of c until it ends.
func (k *keeper) run(c *Conn) {
	k.c = c
	k.mu.Lock()
	k.issued = max(k.issued, c.remote.Cert.Issued)
	k.mu.Unlock()
	timer := time.NewTimer(idle)
	defer timer.Stop()
	defer func() {
		if !k.lostAt.IsZero() {
			k.a.link.lost.Add(-1)
		}
	}()
	for {
		timer.Reset(k.step(time.Now()))
		var answers chan wire.Envelope
		if k.out != nil {
			answers = k.out.answers
		}
		select {
		case <-c.ctx.Done():
			return
		case <-timer.C:
		case <-k.wakeup:
		case rd := <-k.offers:
			k.respond(rd)
		case env := <-answers:
			k.settle(env)
		}
	}
}

// step does what is due and returns how long nothing else is.
func (k *keeper) step(now time.Time) time.Duration {
	l := k.a.link
	up := k.c.tr.up()
	if k.c.ctx.Err() != nil || k.c.tr.closed() {
		return idle // it ends, or is about to
	}
	k.follow()
	r := l.reach(k.a.device())
	k.watchDevice(r, now)
	forced, soon := k.demands(up, now)
	if up && !forced {
		k.found()
		return idle
	}
	if k.lostAt.IsZero() {
		k.lose(now, forced)
	}
	if err := k.hopeless(r, up, now); err != nil {
		if up { // nobody could be told to replace it, and it is there after all
			k.mu.Lock()
			k.forced = false
			k.mu.Unlock()
			k.found()
		} else {
			k.c.fail(err)
		}
		return idle
	}
	if soon {
		k.nextTry = earlier(k.nextTry, later(now, k.lastTry.Add(restartPause)))
	}
	next := k.lostAt.Add(l.cfg.RestartTimeout)
	switch {
	case !r.present:
	case now.Before(k.nextTry):
		next = earlier(next, k.nextTry)
	case r.heard.Before(later(k.lostAt, k.lastTry)):
		// An offer gives up what may come back by itself: the server first has
		// to show that it can be told. Its answer wakes the keeper.
		l.urge()
	default:
		k.try(r, now)
		return 0
	}
	if !up && !k.absentSince.IsZero() {
		next = earlier(next, k.absentSince.Add(l.cfg.timing.gone))
	}
	return max(next.Sub(now), 0)
}

// demands takes what others want since the last step.
func (k *keeper) demands(up bool, now time.Time) (forced, soon bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.asked {
		k.asked = false
		trying := k.out != nil || !up && now.Sub(k.lastTry) < k.a.link.cfg.timing.try
		if !trying && now.Sub(k.lastTry) >= restartPause {
			k.forced, k.soon = true, true
		}
	}
	soon, k.soon = k.soon, false
	return k.forced, soon
}

// follow notes when another pair of candidates is used.
func (k *keeper) follow() {
	pair := k.c.tr.selected()
	key := pairKey(pair)
	if key == "" || key == k.pair {
		return
	}
	if k.a.relayed(pair) {
		k.c.fail(errRelayed)
		return
	}
	first := k.pair == ""
	k.pair, k.path = key, k.c.tr.path()
	k.c.newPath()
	at := anchorOf(pair)
	k.mu.Lock()
	k.anchor = at
	moved := k.moved
	k.moved = false
	k.mu.Unlock()
	if moved { // maybe away from this one, while it was not known that it matters
		if have := k.a.link.addresses(nil); have != nil && at.gone(have) {
			k.mu.Lock()
			k.forced = true
			k.mu.Unlock()
		}
	}
	if !first && k.lostAt.IsZero() {
		k.a.link.queue.push(PathChanged{Conn: k.c, Path: k.path})
	}
}

// watchDevice notes since when the device is away, or there as another process:
// each process certifies itself anew.
func (k *keeper) watchDevice(r reach, now time.Time) {
	switch {
	case !r.session || r.present:
		k.absentSince = time.Time{}
	case k.absentSince.IsZero():
		k.absentSince = now
	}
	k.mu.Lock()
	newer := r.present && r.cert.Issued > k.issued
	k.mu.Unlock()
	switch {
	case !newer:
		k.freshSince = time.Time{}
	case k.freshSince.IsZero():
		k.freshSince = now
	}
}

// lose begins the time in which there is no path.
func (k *keeper) lose(now time.Time, forced bool) {
	l := k.a.link
	k.lostAt, k.restarted = now, !k.lastTry.IsZero() && now.Sub(k.lastTry) < l.cfg.timing.try
	if k.restarted && !forced {
		k.nextTry = k.lastTry.Add(l.cfg.timing.try) // lost because it is being replaced
	} else {
		k.nextTry = later(now, k.lastTry.Add(restartPause))
	}
	k.setLost(true)
	l.lost.Add(1)
	l.urge()
	l.queue.push(PathChanged{Conn: k.c, Path: k.path, Lost: true})
	k.a.log().Info("network path is lost")
}

// found ends the time in which there was no path.
func (k *keeper) found() {
	if k.lostAt.IsZero() {
		return
	}
	l := k.a.link
	k.path = k.c.tr.path()
	k.mu.Lock()
	if k.restarted {
		k.restarts++
	}
	k.mu.Unlock()
	k.a.log().Info("network path is there", "restarted", k.restarted, "after", time.Since(k.lostAt).Round(time.Millisecond))
	k.lostAt, k.restarted = time.Time{}, false
	k.setLost(false)
	l.lost.Add(-1)
	l.queue.push(PathChanged{Conn: k.c, Path: k.path})
}

func (k *keeper) setLost(lost bool) {
	k.mu.Lock()
	k.lost = lost
	k.mu.Unlock()
}

// hopeless says why the connection has to end.
func (k *keeper) hopeless(r reach, up bool, now time.Time) error {
	t := k.a.link.cfg.timing
	if now.Sub(k.lostAt) >= k.a.link.cfg.RestartTimeout {
		return fmt.Errorf("%w: it was lost and not found again in time", ErrICEFailed)
	}
	if up {
		return nil
	}
	if !k.freshSince.IsZero() {
		if k.lostAt.Sub(k.freshSince) <= 3*t.disconnected {
			return fmt.Errorf("%w: the device has started anew", ErrICEFailed)
		}
		// The path went on after the new certificate came: it was renewed.
		k.mu.Lock()
		k.issued = max(k.issued, r.cert.Issued)
		k.mu.Unlock()
		k.freshSince = time.Time{}
	}
	if !k.absentSince.IsZero() && now.Sub(k.absentSince) >= t.gone {
		return fmt.Errorf("%w: and the device has left the signaling server", ErrICEFailed)
	}
	return nil
}

// try makes an offer, or asks for one.
func (k *keeper) try(r reach, now time.Time) {
	t := k.a.link.cfg.timing
	k.lastTry, k.nextTry = now, now.Add(t.try)
	ctx, cancel := context.WithTimeout(k.c.ctx, t.try)
	defer cancel()
	var err error
	if k.c.outgoing {
		err = k.offer(ctx, r)
	} else {
		err = k.ask(ctx, r)
	}
	if err == nil || k.c.ctx.Err() != nil {
		return
	}
	k.out = nil
	wait := max(t.try/4, restartPause)
	var refused *RefusedError
	if errors.As(err, &refused) {
		wait = max(wait, min(refused.RetryAfter, time.Minute))
	}
	k.nextTry = time.Now().Add(wait)
	k.a.log().Info("restarting the network path", "err", err)
}

// offer gives the path up and offers another one.
func (k *keeper) offer(ctx context.Context, r reach) error {
	tr := k.c.tr
	rd, err := k.round(r)
	if err != nil {
		return err
	}
	if err := k.renew(ctx); err != nil {
		return err
	}
	k.a.begin(rd)
	sdp, err := tr.describe(ctx)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.forced = false
	k.mu.Unlock()
	k.restarted = true
	if err := k.a.send(ctx, rd, wire.KindOffer, tr.fp, sdp); err != nil {
		return err
	}
	k.a.trickle(rd, tr, sdp)
	return nil
}

// ask asks the peer to make an offer.
func (k *keeper) ask(ctx context.Context, r reach) error {
	rd, err := k.round(r)
	if err != nil {
		return err
	}
	return k.a.send(ctx, rd, wire.KindOffer, k.c.tr.fp, "")
}

// round makes the next round of ours and expects its answer.
func (k *keeper) round(r reach) (*round, error) {
	rd, err := newRound(k.sent+1, r.cert, r.topic)
	if err != nil {
		return nil, err
	}
	k.sent++
	k.out = rd
	k.a.mu.Lock()
	k.a.expecting = rd
	k.a.mu.Unlock()
	return rd, nil
}

func (k *keeper) renew(ctx context.Context) error {
	l := k.a.link
	return k.c.tr.renew(iceServers(l.currentICE(ctx), l.cfg.ICETransport), icePolicy(l.cfg.ICETransport))
}

// settle takes the answer to the round that waits for it.
func (k *keeper) settle(env wire.Envelope) {
	rd, l := k.out, k.a.link
	answer, err := k.a.openAnswer(rd, env)
	switch {
	case err != nil:
	case answer.SDP == "":
		k.c.fail(fmt.Errorf("%w: it has no such connection", ErrPeerClosed))
		return
	case answer.FP != k.a.offeredFP:
		k.c.fail(fmt.Errorf("answer to a restart: %w", ErrFingerprintMismatch))
		return
	case !k.c.outgoing:
		err = fmt.Errorf("answer to a question for an offer: %w", ErrOffer)
	default:
		if err = k.a.applyRemote(k.c.tr, rd, webrtc.SDPTypeAnswer, answer); err == nil {
			k.out = nil
			return
		}
	}
	l.refused.add("answer of a restart")
	k.a.log().Info("answer of a restart refused", "err", err)
}

// respond answers the offer of a restart.
func (k *keeper) respond(rd *round) {
	t := k.a.link.cfg.timing
	ctx, cancel := context.WithTimeout(k.c.ctx, t.try)
	defer cancel()
	k.out = nil
	k.lastTry = time.Now()
	if k.lostAt.IsZero() {
		k.lose(k.lastTry, false) // only the other side had noticed
	}
	k.nextTry = k.lastTry.Add(t.try)
	k.restarted = true
	err := k.renew(ctx)
	if err == nil {
		k.a.begin(rd)
		err = k.a.answer(ctx, k.c.tr, rd)
	}
	k.mu.Lock()
	k.forced = k.forced && err != nil
	k.mu.Unlock()
	if err == nil || k.c.ctx.Err() != nil {
		return
	}
	k.a.log().Info("answering a restart", "err", err)
	if k.c.tr.pc.SignalingState() != webrtc.SignalingStateStable {
		k.c.fail(fmt.Errorf("answering a restart: %w: %w", ErrICEFailed, err))
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
