package turn_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"github.com/peersignal/peersignal/internal/turn"
)

func (r *rig) refused(c turn.Credentials) {
	r.t.Helper()
	relay, err := r.dial("udp", c).Allocate()
	if err == nil {
		_ = relay.Close()
		r.t.Error("an allocation was made")
	}
}

func TestExpiredCredential(t *testing.T) {
	r := start(t, nil)
	early := r.credentials("s1", "alice")
	client := r.dial("udp", early)
	relay, err := client.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	r.advance(2 * time.Hour)
	r.refused(early)
	if got := r.metric("auth_failures_total", "reason", "expired"); got == 0 {
		t.Error("the expired credential was not counted")
	}
	// Whoever has an allocation keeps it: a permission is an authenticated
	// request, as a refresh is.
	_, other := r.allocate("udp", "s2", "bob")
	if err := client.CreatePermission(other.LocalAddr()); err != nil {
		t.Errorf("the live allocation cannot go on after its credential expired: %v", err)
	}
	_ = relay.Close()
}

func TestAlteredCredential(t *testing.T) {
	r := start(t, nil)
	alice, bob := r.credentials("s1", "alice"), r.credentials("s2", "bob")
	later := strings.SplitN(alice.Username, ":", 2)
	for name, c := range map[string]struct {
		credential turn.Credentials
		reason     string
	}{
		"other user's name":  {turn.Credentials{Username: bob.Username, Password: alice.Password}, "bad_integrity"},
		"later expiry":       {turn.Credentials{Username: "9" + later[0] + ":" + later[1], Password: alice.Password}, "bad_integrity"},
		"wrong password":     {turn.Credentials{Username: alice.Username, Password: "x"}, "bad_integrity"},
		"unknown key":        {turn.Credentials{Username: strings.Replace(alice.Username, ":start:", ":other:", 1), Password: alice.Password}, "unknown_key"},
		"no name":            {turn.Credentials{Username: "bob", Password: "x"}, "malformed"},
		"name of many bytes": {turn.Credentials{Username: strings.Repeat("9", 400), Password: "x"}, "malformed"},
		"negative expiry":    {turn.Credentials{Username: "-" + alice.Username, Password: alice.Password}, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			before := r.metric("auth_failures_total", "reason", c.reason)
			r.refused(c.credential)
			if r.metric("auth_failures_total", "reason", c.reason) == before {
				t.Errorf("not counted as %s", c.reason)
			}
		})
	}
}

// A request on somebody's 5-tuple with other credentials, however good, does
// not touch the allocation.
func TestOtherUserOnLiveAllocation(t *testing.T) {
	r := start(t, nil)
	raw := newRaw(t, r.addr)
	raw.allocate(r.credentials("s1", "alice"))
	raw.refresh(r.credentials("s2", "bob"), 0)
	if got := r.metric("auth_failures_total", "reason", "wrong_user"); got != 1 {
		t.Errorf("%v counted, want 1", got)
	}
	if got := r.metric("allocations", "transport", "udp"); got != 1 {
		t.Errorf("%v allocations alive, want 1", got)
	}
}

func TestSecretRotation(t *testing.T) {
	older := turn.Secret{ID: "old", Key: []byte(strings.Repeat("o", 32))}
	newer := turn.Secret{ID: "new", Key: []byte(strings.Repeat("n", 32))}
	before := start(t, func(c *turn.Config) { c.Secrets = []turn.Secret{older} })
	after := start(t, func(c *turn.Config) { c.Secrets = []turn.Secret{newer, older} })
	alone := start(t, func(c *turn.Config) { c.Secrets = []turn.Secret{newer} })

	c := before.credentials("s1", "alice")
	relay, err := after.dial("udp", c).Allocate()
	if err != nil {
		t.Fatalf("a credential of the older secret: %v", err)
	}
	_ = relay.Close()
	alone.refused(c)
	if name := after.credentials("s1", "alice").Username; !strings.Contains(name, ":new:") {
		t.Errorf("%q is not of the newest secret", name)
	}
	// Revocation reaches what the older secret signed.
	after.Revoke("s1")
	after.refused(c)
}

func TestUsernameHidesWho(t *testing.T) {
	r := start(t, nil)
	c := r.credentials("session-1", "alice@example.org")
	if strings.Contains(c.Username, "alice") || strings.Contains(c.Username, "session-1") {
		t.Errorf("%q shows who it is", c.Username)
	}
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c)} {
		if strings.Contains(text, c.Password) {
			t.Errorf("%q holds the password", text)
		}
	}
	if _, err := r.Credentials("", "alice"); err == nil {
		t.Error("a session without an id got credentials")
	}
}

func TestRevoke(t *testing.T) {
	r := start(t, nil)
	c := r.credentials("s1", "alice")
	_, a1 := r.allocate("udp", "s1", "alice")
	r.allocate("tcp", "s1", "alice")
	_, b := r.allocate("udp", "s2", "alice")
	if got := r.Revoke("s1"); got != 2 {
		t.Errorf("%d allocations ended, want 2", got)
	}
	if got := r.metric("allocations", "transport", "udp"); got != 1 {
		t.Errorf("%v allocations over UDP are left, want the other session's", got)
	}
	if _, err := b.WriteTo([]byte("x"), a1.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	r.refused(c)
	if _, err := r.Credentials("s1", "alice"); !errors.Is(err, turn.ErrRevoked) {
		t.Errorf("got %v, want ErrRevoked", err)
	}
	r.credentials("s3", "alice")
	// After every credential has expired the session id is free again.
	r.advance(turn.DefaultTTL + time.Second)
	r.credentials("s1", "alice")
	if got := r.Revoke("unknown"); got != 0 {
		t.Errorf("%d allocations of an unknown session ended", got)
	}
}

// A user who is blocked loses what earlier sessions have, also their
// credentials, and not what is made later.
func TestRevokeUser(t *testing.T) {
	r := start(t, nil)
	unused := r.credentials("s1", "alice")
	client, _ := r.allocate("udp", "s2", "alice")
	r.allocate("tcp", "s3", "alice")
	_, b := r.allocate("udp", "s4", "bob")
	if got := r.RevokeUser("alice"); got != 2 {
		t.Errorf("%d allocations ended, want 2", got)
	}
	r.refused(unused)
	if client.CreatePermission(b.LocalAddr()) == nil {
		t.Error("the ended allocation is in use")
	}
	if got := r.metric("allocations", "transport", "udp"); got != 1 {
		t.Errorf("%v allocations over UDP are left, want the other user's", got)
	}
	r.advance(2 * time.Second)
	r.allocate("udp", "s1", "alice") // let in again
	r.refused(unused)
	if got := r.RevokeUser("alice"); got != 1 {
		t.Errorf("%d allocations ended the second time, want 1", got)
	}
	later := r.credentials("s5", "alice")
	r.refused(later)
	// What was revoked again is remembered from then on.
	r.advance(turn.DefaultTTL - time.Second)
	r.refused(later)
	r.advance(2 * time.Second)
	r.allocate("udp", "s1", "alice")
}

func TestBarred(t *testing.T) {
	var barred atomic.Bool
	r := start(t, func(c *turn.Config) { c.Barred = func(netip.Addr) bool { return barred.Load() } })
	c := r.credentials("s1", "alice")
	r.allocate("udp", "s2", "alice")
	barred.Store(true)
	if got := r.RevokeNetwork(netip.MustParsePrefix("10.0.0.0/8")); got != 0 {
		t.Errorf("%d allocations of another network ended", got)
	}
	if got := r.RevokeNetwork(netip.MustParsePrefix("127.0.0.0/8")); got != 1 {
		t.Errorf("%d allocations ended, want 1", got)
	}
	r.refused(c)
	barred.Store(false)
	r.allocate("udp", "s1", "alice")
}

// Revocation meets clients that are adding permissions and channels.
func TestRevokeWhileBusy(t *testing.T) {
	r := start(t, func(c *turn.Config) { c.UnauthenticatedPerSecond = -1 })
	// What a client asks for an allocation that is gone gets no answer.
	r.rto = 5 * time.Millisecond
	var busy sync.WaitGroup
	for i := range 20 {
		session := fmt.Sprint("s", i)
		client, relay := r.allocate([]string{"udp", "tcp"}[i%2], session, fmt.Sprint("u", i))
		before := r.metric("requests_total", "method", "create_permission")
		busy.Go(func() {
			for n := range 8 {
				peer := &net.UDPAddr{IP: net.IPv4(8, 8, byte(i), byte(n)), Port: 5000}
				if n == 4 {
					_, _ = relay.WriteTo([]byte("x"), peer) // binds a channel
				} else if client.CreatePermission(peer) != nil {
					return
				}
			}
		})
		eventually(t, "a permission was asked for", func() bool {
			return r.metric("requests_total", "method", "create_permission") > before
		})
		if got := r.Revoke(session); got != 1 {
			t.Fatalf("%d allocations ended, want 1", got)
		}
	}
	busy.Wait()
}

func TestShortLifetimesAreRefused(t *testing.T) {
	r := start(t, nil)
	raw := newRaw(t, r.addr)
	c := r.credentials("s1", "alice")
	raw.tryAllocate(c, overUDP, value(stun.AttrLifetime, 0, 0, 0, 59))
	if got := r.metric("allocations", "transport", "udp"); got != 0 {
		t.Fatal("an allocation of 59 seconds was made")
	}
	raw.refresh(c, 60)
	if got := r.metric("auth_failures_total", "reason", "lifetime"); got != 2 {
		t.Errorf("%v refusals counted, want 2: the short one, and the refresh of none", got)
	}
	raw.allocate(c)
	raw.refresh(c, 60)
	raw.refresh(c, 59)
	if got := r.metric("auth_failures_total", "reason", "lifetime"); got != 3 {
		t.Errorf("%v refusals counted, want 3", got)
	}
	raw.refresh(c, 0)
	eventually(t, "the allocation ended", func() bool { return r.metric("allocations", "transport", "udp") == 0 })
}
