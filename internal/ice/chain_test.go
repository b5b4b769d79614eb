package ice_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peersignal/peersignal/internal/ice"
)

// source answers as it is told.
type source struct {
	name   string
	result ice.Result
	err    error
	hangs  bool
}

func (s *source) Name() string { return s.name }

func (s *source) ICEServers(ctx context.Context, _ ice.Request) (ice.Result, error) {
	if s.hangs {
		<-ctx.Done()
		return ice.Result{}, ctx.Err()
	}
	return s.result, s.err
}

func one(url string, expires time.Time) ice.Result {
	return ice.Result{Servers: []ice.Server{{URLs: []string{url}}}, Expires: expires}
}

func TestChain(t *testing.T) {
	var logs strings.Builder
	a := &source{name: "a", result: one("stun:a", expiry.Add(time.Hour))}
	b := &source{name: "b", err: errors.New("down")}
	c := &source{name: "c", result: one("stun:c", time.Time{})}
	d := &source{name: "d", result: one("stun:d", expiry)}
	chain := ice.NewChainWith(ice.ChainConfig{Logger: slog.New(slog.NewTextHandler(&logs, nil))}, a, b, c, d)
	for range 3 {
		got, err := chain.ICEServers(t.Context(), ice.Request{})
		want := []ice.Server{{URLs: []string{"stun:a"}}, {URLs: []string{"stun:c"}}, {URLs: []string{"stun:d"}}}
		if err != nil || !reflect.DeepEqual(got.Servers, want) || !got.Expires.Equal(expiry) {
			t.Fatalf("got %v, %v", got, err)
		}
	}
	b.err = nil
	if _, err := chain.ICEServers(t.Context(), ice.Request{}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(logs.String(), "\n"); got != 2 {
		t.Errorf("%d lines were logged, want one for the outage and one for its end:\n%s", got, &logs)
	}
	got := metrics(t, chain)
	for series, want := range map[string]float64{
		"requests_total{outcome=ok,source=a}":        4,
		"requests_total{outcome=ok,source=b}":        0,
		"requests_total{outcome=error,source=b}":     3,
		"requests_total{outcome=empty,source=b}":     1,
		"source_transitions_total{source=b,to=down}": 1,
		"source_transitions_total{source=b,to=up}":   1,
		"source_up{source=b}":                        1,
		"servers_left_out_total{}":                   0,
	} {
		if v, ok := got[series]; !ok || v != want {
			t.Errorf("%s is %v (%v), want %v", series, v, ok, want)
		}
	}
	if len(got) != 4*(5+2+1)+1 {
		t.Errorf("%d series, want each outcome of each source, from the start: %v", len(got), got)
	}
}

func TestChainAllFail(t *testing.T) {
	down := errors.New("down")
	same := &source{name: "a", err: down}
	chain := ice.NewChain(same, same)
	metrics(t, chain) // two sources of one name make no series twice
	if _, err := chain.ICEServers(t.Context(), ice.Request{}); !errors.Is(err, down) {
		t.Errorf("got %v, want the sources' error", err)
	}
	if got, err := ice.NewChain().ICEServers(t.Context(), ice.Request{}); err != nil || len(got.Servers) != 0 {
		t.Errorf("a chain of nothing: got %v, %v", got, err)
	}
}

func TestChainDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &source{name: "slow", hangs: true}
		chain := ice.NewChain(slow, &source{name: "a", result: one("stun:a", time.Time{})})
		begin := time.Now()
		got, err := chain.ICEServers(t.Context(), ice.Request{})
		if err != nil || len(got.Servers) != 1 || time.Since(begin) != ice.DefaultSourceTimeout {
			t.Errorf("got %v, %v after %v", got, err, time.Since(begin))
		}
		// A caller that gives up is told so, and is no outage of the source.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := ice.NewChain(slow).ICEServers(ctx, ice.Request{}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want Canceled", err)
		}
	})
}

func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("down")
		a := &source{name: "a", result: one("stun:a", expiry)}
		b := &source{name: "b", result: one("stun:b", time.Time{})}
		c := &source{name: "c", result: one("stun:c", time.Time{})}
		chain := ice.NewFailover(ice.ChainConfig{}, a, b, c)
		ask := func(want string, wait time.Duration) {
			t.Helper()
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			got, err := chain.ICEServers(ctx, ice.Request{})
			if err != nil || len(got.Servers) != 1 || got.Servers[0].URLs[0] != want || time.Since(begin) != wait {
				t.Fatalf("got %v, %v after %v, want %s after %v", got, err, time.Since(begin), want, wait)
			}
		}
		ask("stun:a", 0)
		a.err = down
		ask("stun:b", 0)
		b.result = ice.Result{} // an empty answer is none, and no failure
		ask("stun:c", 0)
		// 5 s for three steps: the two that hang get 1.5 and 1.575 s.
		a.hangs, b.hangs = true, true
		ask("stun:c", 1500*time.Millisecond+1575*time.Millisecond)
		a.hangs, a.err = false, nil
		ask("stun:a", 0)
		got := metrics(t, chain)
		if got["requests_total{outcome=timeout,source=a}"] != 1 || got["requests_total{outcome=error,source=a}"] != 2 {
			t.Errorf("got %v", got)
		}
		health := chain.Health()
		if !health[0].OK || health[1].OK || health[1].Reason == "" || !health[2].OK {
			t.Errorf("got %v", health)
		}
	})
}

func TestFailoverAllFail(t *testing.T) {
	down := errors.New("down")
	chain := ice.NewFailover(ice.ChainConfig{}, &source{name: "a", err: down}, &source{name: "b"})
	if _, err := chain.ICEServers(t.Context(), ice.Request{}); !errors.Is(err, down) || !strings.Contains(err.Error(), "a: down") {
		t.Errorf("got %v, want the error of the source that failed", err)
	}
	chain = ice.NewFailover(ice.ChainConfig{}, &source{name: "a"}, &source{name: "b"})
	if got, err := chain.ICEServers(t.Context(), ice.Request{}); err != nil || len(got.Servers) != 0 {
		t.Errorf("got %v, %v, want nothing", got, err)
	}
}

// A caller that goes away ends the search and is no outage of the sources.
func TestFailoverCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chain := ice.NewFailover(ice.ChainConfig{}, &source{name: "a", hangs: true}, &source{name: "b", hangs: true})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := chain.ICEServers(ctx, ice.Request{}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want Canceled", err)
		}
		got := metrics(t, chain)
		if got["requests_total{outcome=canceled,source=a}"] != 1 || got["source_up{source=a}"] != 1 ||
			got["requests_total{outcome=canceled,source=b}"] != 0 {
			t.Errorf("got %v", got)
		}
	})
}

func TestSteps(t *testing.T) {
	down := errors.New("down")
	a, b, c := &source{name: "a"}, &source{name: "b"}, &source{name: "c", result: one("stun:c", time.Time{})}
	chain := ice.NewSteps(ice.ChainConfig{}, []ice.Source{a, b}, []ice.Source{c})
	for _, x := range []struct {
		a, b []string
		want string
	}{
		{[]string{"stun:a"}, []string{"stun:b"}, "[stun:a stun:b]"},
		{nil, []string{"stun:b"}, "[stun:b]"},
		{[]string{"stun:a"}, nil, "[stun:a]"},
		{nil, nil, "[stun:c]"},
	} {
		for s, urls := range map[*source][]string{a: x.a, b: x.b} {
			s.result, s.err = ice.Result{}, down
			if urls != nil {
				s.result, s.err = one(urls[0], time.Time{}), nil
			}
		}
		got, err := chain.ICEServers(t.Context(), ice.Request{})
		var urls []string
		for _, s := range got.Servers {
			urls = append(urls, s.URLs...)
		}
		if err != nil || fmt.Sprint(urls) != x.want {
			t.Errorf("got %v, %v, want %s", urls, err, x.want)
		}
	}
}

func TestChainLimit(t *testing.T) {
	var logs logs
	many := &source{name: "a", result: ice.Result{Servers: make([]ice.Server, 20)}}
	also := &source{name: "b", result: ice.Result{Servers: make([]ice.Server, 20)}}
	chain := ice.NewChainWith(ice.ChainConfig{Logger: logs.logger()}, many, also)
	for range 3 {
		if got, err := chain.ICEServers(t.Context(), ice.Request{}); err != nil || len(got.Servers) != 32 {
			t.Fatalf("got %d servers, %v", len(got.Servers), err)
		}
	}
	if n := len(logs.taken()); n != 1 || metrics(t, chain)["servers_left_out_total{}"] != 24 {
		t.Errorf("%d lines, %v", n, metrics(t, chain))
	}
}
