package signaling_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

func (c *client) notify(to peercrypto.ID, via peercrypto.Tag) *wire.Result {
	c.t.Helper()
	return c.signal(wire.KindNotify, to, via, newConnID())
}

func (c *client) want(code wire.Code, r *wire.Result) {
	c.t.Helper()
	if r.Code != code {
		c.t.Errorf("got %+v, want %s", r, code)
	}
}

func TestNotifyWhoIsConnected(t *testing.T) {
	n := start(t, signaling.Config{})
	a, b := pair(t, n)
	b.want(wire.CodeDelivered, b.notify(a.id(), tag(1)))
	if s := read[*wire.Signal](a); s.Kind != wire.KindNotify || s.From != b.id() || s.Env.Eph == "" {
		t.Errorf("got %+v", s)
	}
	b.want(wire.CodeNotAllowed, b.notify(a.id(), tag(9)))
	b.want(wire.CodeNotAllowed, b.notify(newDevice(t).cert.DeviceID, tag(1)))
}

// gone ends the session of a device that can be resumed and waits until it is over.
func gone(t *testing.T, n *node, c *client) {
	t.Helper()
	c.snap()
	until(t, "session is over", func() bool { return n.Stats().Sessions == 1 && n.Stats().Parked == 0 })
}

func TestNotifyWhoWasHereMinutesAgo(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{ResumeWindow: 10 * time.Millisecond}})
	a, b := pair(t, n)
	gone(t, n, a)
	b.left(tag(1), a)
	stranger := connect(t, n, newDevice(t))
	stranger.hold(tag(2))
	stranger.want(wire.CodeNotAllowed, stranger.notify(a.id(), tag(2)))
	stranger.want(wire.CodeNotAllowed, stranger.notify(a.id(), peercrypto.Tag{}))
	stranger.bye()
	for range 3 {
		b.want(wire.CodeQueued, b.notify(a.id(), tag(1)))
	}
	if r := b.offer(a.id(), tag(1)); r.Code != wire.CodeNotAllowed {
		t.Errorf("an offer was kept: %+v", r)
	}
	// Nobody but the device gets them, token or not, and once.
	again := connect(t, n, a.device)
	for range 3 {
		if s := read[*wire.Signal](again); s.Kind != wire.KindNotify || s.From != b.id() {
			t.Errorf("got %+v", s)
		}
	}
	again.bye()
	connect(t, n, a.device).quiet()
}

// What a session had coming when it ended is kept, and its sender told so.
func TestNotifyWhileParked(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{ResumeWindow: 50 * time.Millisecond}})
	a, b := pair(t, n)
	b.want(wire.CodeDelivered, b.notify(a.id(), tag(1))) // a does not acknowledge it
	a.snap()
	parked(t, n, 1)
	id := b.ask(wire.KindNotify, a.id(), tag(1))
	b.left(tag(1), a)
	b.want(wire.CodeQueued, b.result(id))
	again := connect(t, n, a.device)
	for range 2 {
		if s := read[*wire.Signal](again); s.Kind != wire.KindNotify {
			t.Errorf("got %+v", s)
		}
	}
}

func TestNotificationsAreBounded(t *testing.T) {
	registry := prometheus.NewRegistry()
	n := start(t, signaling.Config{Registerer: registry, Limits: signaling.Limits{
		ResumeWindow: 10 * time.Millisecond, NotifiesPerMinute: 40, NotifyTime: time.Hour,
	}})
	a, b := pair(t, n)
	gone(t, n, a)
	b.left(tag(1), a)
	for range 32 {
		b.want(wire.CodeQueued, b.notify(a.id(), tag(1)))
	}
	b.want(wire.CodeOffline, b.notify(a.id(), tag(1)))
	if got := gauge(t, registry, "peersignal_signaling_mail_bytes"); got <= 0 {
		t.Errorf("%v bytes wait", got)
	}
	for range 7 {
		b.want(wire.CodeOffline, b.notify(a.id(), tag(1)))
	}
	if r := b.notify(a.id(), tag(1)); r.Code != wire.CodeRateLimited || r.RetryAfter == 0 {
		t.Errorf("got %+v", r)
	}
	again := connect(t, n, a.device)
	for range 32 {
		read[*wire.Signal](again)
	}
	if got := gauge(t, registry, "peersignal_signaling_mail_bytes"); got != 0 {
		t.Errorf("%v bytes wait", got)
	}
}

// TestNotificationsTakeSoMuch: what waits is bounded in bytes, for one device and for all, and can be nothing.
func TestNotificationsTakeSoMuch(t *testing.T) {
	big := wire.NewEnvelope(&peercrypto.BoxPublicKey{9}, make([]byte, 8<<10)) // 11 KiB of text
	for name, tc := range map[string]struct {
		limits signaling.Limits
		fit    int
	}{
		"one device":  {signaling.Limits{}, 5},
		"all devices": {signaling.Limits{NotifyBytes: 40 << 10}, 3},
		"none":        {signaling.Limits{NotifyTime: -1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			tc.limits.ResumeWindow = 10 * time.Millisecond
			n := start(t, signaling.Config{Limits: tc.limits})
			a, b := pair(t, n)
			gone(t, n, a)
			b.left(tag(1), a)
			for i := range tc.fit + 1 {
				b.nextID++
				b.send(&wire.Signal{Kind: wire.KindNotify, ID: b.nextID, To: a.id(), Via: tag(1), Conn: newConnID(), Env: big})
				want := wire.CodeQueued
				if i == tc.fit {
					want = wire.CodeOffline
				}
				b.want(want, b.result(b.nextID))
			}
			again := connect(t, n, a.device)
			for range tc.fit {
				read[*wire.Signal](again)
			}
			again.quiet()
		})
	}
}

// TestNotifyWhoWasHereLongAgo: what is left of a session says for minutes who may leave something for its device, and not longer.
func TestNotifyWhoWasHereLongAgo(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{ResumeWindow: 10 * time.Millisecond, RememberTime: -1}})
	a, b := pair(t, n)
	gone(t, n, a)
	b.left(tag(1), a)
	b.want(wire.CodeNotAllowed, b.notify(a.id(), tag(1)))
	connect(t, n, a.device).quiet()
}

func TestNotificationsExpire(t *testing.T) {
	n := start(t, signaling.Config{Limits: signaling.Limits{ResumeWindow: 10 * time.Millisecond, NotifyTime: time.Nanosecond}})
	a, b := pair(t, n)
	gone(t, n, a)
	b.left(tag(1), a)
	b.want(wire.CodeQueued, b.notify(a.id(), tag(1)))
	connect(t, n, a.device).quiet()
}

// pusher is a push service that takes tokens "for <device>".
type pusher struct {
	pushed chan wire.Wake
	busy   atomic.Bool
}

func (p *pusher) PublicKey() string { return "BKEY" }

func (p *pusher) Token(device peercrypto.ID, sub wire.PushSubscription) (string, time.Time, error) {
	if sub.Endpoint == "" {
		return "", time.Time{}, errors.New("the endpoint is missing")
	}
	return "for_" + string(device), time.Now().Add(time.Hour), nil
}

func (p *pusher) Push(w *wire.Wake, from peercrypto.ID) error {
	if p.busy.Load() {
		return signaling.ErrPushBusy
	}
	if w.Token != "for_"+string(w.To) {
		return fmt.Errorf("opening a token: %w", signaling.ErrPushGone)
	}
	p.pushed <- *w
	return nil
}

func TestWake(t *testing.T) {
	p := &pusher{pushed: make(chan wire.Wake, 1)}
	n := start(t, signaling.Config{Push: p})
	a, b := connect(t, n, newDevice(t)), connect(t, n, newDevice(t))
	a.send(&wire.PushRequest{ID: 1})
	if g := read[*wire.PushGrant](a); g.Key != "BKEY" || g.Token != "" {
		t.Errorf("got %+v", g)
	}
	a.send(&wire.PushRequest{ID: 2, Subscription: &wire.PushSubscription{}})
	if r := a.result(2); r.Code != wire.CodeInvalid || !strings.Contains(r.Message, "endpoint") {
		t.Errorf("got %+v", r)
	}
	a.send(&wire.PushRequest{ID: 3, Subscription: &wire.PushSubscription{Endpoint: "https://push.example.org"}})
	grant := read[*wire.PushGrant](a)
	if grant.Token == "" || grant.Expires == 0 {
		t.Fatalf("got %+v", grant)
	}
	a.bye()
	wake := func(token string) *wire.Result {
		b.nextID++
		env := envelope(wire.KindNotify)
		b.send(&wire.Wake{ID: b.nextID, To: a.id(), Token: token, TTL: 60, Conn: newConnID(), Eph: env.Eph, CT: env.CT})
		return b.result(b.nextID)
	}
	b.want(wire.CodeQueued, wake(grant.Token))
	if w := <-p.pushed; w.To != a.id() || w.TTL != 60 || w.CT == "" {
		t.Errorf("got %+v", w)
	}
	b.want(wire.CodeGone, wake("for_somebody-else"))
	p.busy.Store(true)
	if r := wake(grant.Token); r.Code != wire.CodeRateLimited || r.RetryAfter == 0 {
		t.Errorf("got %+v", r)
	}
	without := start(t, signaling.Config{})
	c := connect(t, without, newDevice(t))
	c.send(&wire.PushRequest{ID: 1})
	c.want(wire.CodeUnavailable, c.result(1))
}
