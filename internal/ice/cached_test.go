package ice_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peersignal/peersignal/internal/ice"
)

// held is a Twilio double behind a cache and a chain that falls back to a
// fixed relay named "fallback".
type held struct {
	double *twilioDouble
	cached *ice.Cached
	chain  *ice.Chain
	logs   logs
}

// hold must run inside a synctest bubble.
func hold(t *testing.T, ttl time.Duration) *held {
	t.Helper()
	h := &held{double: &twilioDouble{ttl: fmt.Sprintf(`"%d"`, int(ttl.Seconds()))}}
	twilio, err := ice.NewTwilio(ice.TwilioConfig{
		AccountSID: accountSID, AuthToken: ice.NewSecret(theSecret), BaseURL: "http://127.0.0.1:1", Client: servePipes(t, h.double),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.cached = ice.NewCached(twilio, ice.CacheConfig{Logger: h.logs.logger()})
	fallback, err := ice.NewStatic([]ice.Server{{URLs: []string{"turn:b"}, Username: "fallback", Credential: "c"}})
	if err != nil {
		t.Fatal(err)
	}
	h.chain = ice.NewFailover(ice.ChainConfig{Logger: h.logs.logger()}, h.cached, fallback)
	return h
}

// ask returns who answered a client.
func (h *held) ask(t *testing.T) string {
	t.Helper()
	got, err := h.chain.ICEServers(t.Context(), ice.Request{Session: "s", User: "u"})
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(got.Expires); !got.Expires.IsZero() && left < 3*time.Minute {
		t.Fatalf("a client was given credentials for %v", left)
	}
	return relay(got)
}

// The original fetches a token when it starts, and all clients are without a
// relay a day later. Here it is renewed for as long as the server lives.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hold(t, 24*time.Hour)
		run(t, h.chain)
		const days = 30
		seen := make(map[string]bool)
		for range days * 24 {
			who := h.ask(t)
			if who == "fallback" {
				t.Fatalf("after %v clients got the fallback", time.Now())
			}
			seen[who] = true
			time.Sleep(time.Hour)
		}
		// Half of a day, give or take a twentieth of a day.
		if n := h.double.count(); n < days*24*100/1320 || n > days*24*100/1080+1 || len(seen) < n-1 {
			t.Errorf("%d requests and %d tokens in %d days", n, len(seen), days)
		}
		if ok, reason := h.cached.Healthy(); !ok || reason != "" {
			t.Errorf("healthy: %v, %q", ok, reason)
		}
		if lines := h.logs.taken(); len(lines) != 0 {
			t.Errorf("a good month was worth a line: %q", lines)
		}
		got := metrics(t, h.chain)
		if got["renewals_total{outcome=ok,source=twilio}"] != float64(h.double.count()) ||
			got["credentials_expiry_timestamp_seconds{source=twilio}"] < float64(time.Now().Add(11*time.Hour).Unix()) {
			t.Errorf("got %v", got)
		}
	})
}

func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hold(t, 10*time.Hour)
		run(t, h.chain)
		if who := h.ask(t); who != "user-1" {
			t.Fatalf("got %s", who)
		}
		begin, before := time.Now(), h.double.count()
		h.double.breakBy(answer(500, "<html>down"))

		// The token of before the outage is good until 5 minutes before its end.
		time.Sleep(9*time.Hour + 54*time.Minute)
		if who := h.ask(t); who != "user-1" {
			t.Fatalf("after %v clients got %s", time.Since(begin), who)
		}
		if ok, reason := h.cached.Healthy(); !ok || !strings.Contains(reason, "500") {
			t.Errorf("healthy: %v, %q, want a warning while the old token is good", ok, reason)
		}
		time.Sleep(time.Minute)
		for range 100 {
			at := time.Now()
			if who := h.ask(t); who != "fallback" || !time.Now().Equal(at) {
				t.Fatalf("after %v clients got %s, having waited %v", time.Since(begin), who, time.Since(at))
			}
		}
		time.Sleep(24*time.Hour - time.Since(begin))
		if n := h.double.count() - before; n < 19*60*2/15 || n > 20*60/5+10 {
			t.Errorf("%d requests in an outage of 19 hours, want one each 5 to 7.5 minutes", n)
		}

		h.double.breakBy(nil)
		time.Sleep(8 * time.Minute)
		if who := h.ask(t); !strings.HasPrefix(who, "user-") {
			t.Errorf("after the outage clients got %s", who)
		}
		lines := strings.Join(h.logs.taken(), "")
		for text, want := range map[string]int{
			"cannot be renewed": 1, "source failed": 1, "renewed again": 1, "answers again": 1, "\n": 4,
		} {
			if n := strings.Count(lines, text); n != want {
				t.Errorf("%q is %d times in the log, want %d:\n%s", text, n, want, lines)
			}
		}
		got := metrics(t, h.chain)
		for series, want := range map[string]float64{
			"source_up{source=twilio}":                        1,
			"source_transitions_total{source=twilio,to=down}": 1,
			"source_transitions_total{source=twilio,to=up}":   1,
			"requests_total{outcome=ok,source=twilio}":        3,
			"requests_total{outcome=error,source=twilio}":     100,
			"requests_total{outcome=ok,source=static}":        100,
		} {
			if got[series] != want {
				t.Errorf("%s is %v, want %v", series, got[series], want)
			}
		}
	})
}

// While nothing was ever had, a hanging provider delays the clients of its
// first request only.
func TestFirstRequestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hold(t, time.Hour)
		h.double.breakBy(func(_ http.ResponseWriter, r *http.Request) {
			_ = r.ParseForm()
			<-r.Context().Done()
		})
		run(t, h.chain)
		begin := time.Now()
		if who := h.ask(t); who != "fallback" || time.Since(begin) != ice.DefaultSourceTimeout {
			t.Errorf("got %s after %v", who, time.Since(begin))
		}
		for range 60 {
			time.Sleep(10 * time.Second)
			begin = time.Now()
			if who := h.ask(t); who != "fallback" || !time.Now().Equal(begin) {
				t.Fatalf("got %s after %v", who, time.Since(begin))
			}
		}
		if got := metrics(t, h.chain); got["requests_total{outcome=timeout,source=twilio}"] != 1 || got["source_up{source=twilio}"] != 0 {
			t.Errorf("got %v", got)
		}
		h.double.breakBy(nil)
		time.Sleep(8 * time.Minute)
		if who := h.ask(t); who == "fallback" {
			t.Errorf("got %s after the provider recovered", who)
		}
	})
}

// Wrong settings are asked about rarely, and the operator is told which.
func TestRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hold(t, time.Hour)
		h.double.breakBy(fail(401, 20003, "Authenticate"))
		run(t, h.chain)
		for range 24 * 60 {
			if who := h.ask(t); who != "fallback" {
				t.Fatalf("got %s", who)
			}
			time.Sleep(time.Minute)
		}
		if n := h.double.count(); n < 24*60*2/45 || n > 24*60/15+1 {
			t.Errorf("%d requests in a day, want one each 15 to 22.5 minutes", n)
		}
		_, err := h.cached.ICEServers(t.Context(), ice.Request{})
		if !errors.Is(err, ice.ErrRejected) || !strings.Contains(err.Error(), "check the account SID and the auth token") {
			t.Errorf("got %v", err)
		}
		if got := metrics(t, h.chain); got["renewals_total{outcome=rejected,source=twilio}"] != float64(h.double.count()) {
			t.Errorf("got %v", got)
		}
		if lines := h.logs.taken(); len(lines) != 2 {
			t.Errorf("a day of wrong settings is %d lines: %q", len(lines), lines)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for header, want := range map[string]time.Duration{
			"120":    2 * time.Minute,
			"999999": time.Hour, // as long as is believed
			"date":   10 * time.Minute,
			"soon":   time.Second,
			"-5":     time.Second,
		} {
			h := hold(t, time.Hour)
			var mu sync.Mutex
			var at []time.Time
			h.double.breakBy(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				at = append(at, time.Now())
				value := header
				if value == "date" {
					value = time.Now().Add(want).UTC().Format(http.TimeFormat)
				}
				w.Header().Set("Retry-After", value)
				fail(429, 20429, "Too Many Requests")(w, r)
			})
			stop := run(t, h.chain)
			for range 100 {
				_ = h.ask(t)
				time.Sleep(want * 2 / 100)
			}
			stop()
			mu.Lock()
			if len(at) < 2 || at[1].Sub(at[0]) < want-time.Second || at[1].Sub(at[0]) > want*3/2 {
				t.Errorf("Retry-After: %s: asked at %v, want %v between", header, at, want)
			}
			mu.Unlock()
			if got := metrics(t, h.chain); got["renewals_total{outcome=throttled,source=twilio}"] != float64(len(at)) {
				t.Errorf("%d requests, got %v", len(at), got)
			}
		}
	})
}

// A thousand clients make one request, when there is nothing yet, and when the
// credentials are due.
func TestHerd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hold(t, time.Hour)
		release := make(chan struct{})
		h.double.breakBy(func(w http.ResponseWriter, r *http.Request) {
			<-release
			h.double.breakBy(nil)
			w.WriteHeader(http.StatusCreated)
			_, _ = fmt.Fprint(w, twilioReply(1, "3600"))
		})
		run(t, h.chain)
		synctest.Wait()
		var clients sync.WaitGroup
		expires := make([]time.Time, 1000)
		crowd := func() {
			for i := range expires {
				clients.Go(func() {
					got, err := h.cached.ICEServers(t.Context(), ice.Request{})
					if err != nil || len(got.Servers) != 4 {
						t.Errorf("got %v, %v", got, err)
					}
					expires[i] = got.Expires
				})
			}
			synctest.Wait()
		}
		crowd()
		close(release)
		clients.Wait()
		if n := h.double.count(); n != 1 {
			t.Fatalf("%d requests for 1,000 clients", n)
		}
		// They are told different ends, so that they do not come back together.
		end, different := time.Now().Add(time.Hour), make(map[time.Time]bool)
		for _, e := range expires {
			different[e] = true
			if e.After(end) || e.Before(end.Add(-6*time.Minute)) {
				t.Fatalf("told %v for the end of %v", e, end)
			}
		}
		if len(different) < 900 {
			t.Errorf("1,000 clients come back at %d times", len(different))
		}
		time.Sleep(33 * time.Minute)
		for range 10 {
			crowd()
		}
		clients.Wait()
		if n := h.double.count(); n != 2 {
			t.Errorf("%d requests after half of the life, want 2", n)
		}
	})
}

// clocked answers with credentials of the wall clock.
type clocked struct {
	now   func() time.Time
	calls int
}

func (*clocked) Name() string { return "clocked" }

func (c *clocked) ICEServers(context.Context, ice.Request) (ice.Result, error) {
	c.calls++
	name := fmt.Sprintf("user-%d", c.calls)
	return ice.Result{
		Servers: []ice.Server{{URLs: []string{"turn:a"}, Username: name, Credential: "c"}}, Expires: c.now().Add(time.Hour),
	}, nil
}

// A machine that slept finds its credentials expired, though no timer ran; one
// whose clock was set back renews nevertheless.
func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var jump time.Duration
		now := func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(jump)
		}
		cached := ice.NewCached(&clocked{now: now}, ice.CacheConfig{Now: now, Jitter: func() float64 { return 0.5 }})
		run(t, cached)
		ask := func(want string) {
			t.Helper()
			got, err := cached.ICEServers(t.Context(), ice.Request{})
			if err != nil || relay(got) != want {
				t.Errorf("got %v, %v, want %s", got, err, want)
			}
		}
		set := func(d time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			jump += d
		}
		ask("user-1")
		set(2 * time.Hour)
		ask("user-2")
		set(-100 * time.Hour)
		ask("user-2")
		time.Sleep(31 * time.Minute)
		ask("user-3")
		// Due, and still good: the client is not made to wait.
		set(40 * time.Minute)
		ask("user-3")
		synctest.Wait()
		ask("user-4")
	})
}

func TestCachedStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hold(t, time.Hour)
		stop := run(t, h.chain)
		if who := h.ask(t); who != "user-1" {
			t.Fatalf("got %s", who)
		}
		stop()
		if who := h.ask(t); who != "user-1" {
			t.Errorf("what is held is not handed out after the end: %s", who)
		}
		if err := h.cached.Run(t.Context()); err == nil {
			t.Error("Run ran twice")
		}
		time.Sleep(time.Hour)
		if _, err := h.cached.ICEServers(t.Context(), ice.Request{}); !errors.Is(err, ice.ErrStopped) {
			t.Errorf("got %v, want ErrStopped", err)
		}

		// Clients that wait for the first answer are told.
		h = hold(t, time.Hour)
		h.double.breakBy(func(_ http.ResponseWriter, r *http.Request) {
			_ = r.ParseForm()
			<-r.Context().Done()
		})
		stop = run(t, h.cached)
		waiter := make(chan error, 1)
		go func() {
			_, err := h.cached.ICEServers(t.Context(), ice.Request{})
			waiter <- err
		}()
		synctest.Wait()
		stop()
		if err := <-waiter; !errors.Is(err, ice.ErrStopped) {
			t.Errorf("got %v, want ErrStopped", err)
		}
		if ok, reason := h.cached.Healthy(); ok || reason == "" {
			t.Errorf("healthy: %v, %q", ok, reason)
		}
	})
}

// A source that answers nothing, or what ends at once, is as one that fails.
func TestCachedUnusable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for want, result := range map[string]ice.Result{
			"gave no ICE servers": {},
			"too short to use":    one("stun:a", time.Now().Add(time.Minute)),
			"":                    one("stun:a", time.Time{}),
		} {
			cached := ice.NewCached(&source{name: "a", result: result}, ice.CacheConfig{})
			stop := run(t, cached)
			got, err := cached.ICEServers(t.Context(), ice.Request{})
			if want == "" && (err != nil || !got.Expires.IsZero()) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("got %v, %v, want %q", got, err, want)
			}
			if want == "" {
				got.Servers[0].URLs[0] = "changed by the receiver"
				again, err := cached.ICEServers(t.Context(), ice.Request{})
				if err != nil || again.Servers[0].URLs[0] != "stun:a" {
					t.Errorf("got %v, %v", again, err)
				}
			}
			stop()
		}
	})
}
