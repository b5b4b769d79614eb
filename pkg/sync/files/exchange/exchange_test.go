package exchange_test

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peersignal/peersignal/pkg/sync/files"
	"github.com/peersignal/peersignal/pkg/sync/files/exchange"
)

func TestOneSource(t *testing.T) {
	for i, n := range []int{0, 1, files.ChunkSize, 40*files.ChunkSize + 1} {
		synctest.Test(t, func(t *testing.T) {
			g := newGiver(t, exchange.ServerConfig{})
			content := random(n, byte(i))
			k := newTaker(t, add(t, g.store, content))
			k.from(t.Context(), "g", g.dial(t.Context(), "k"))
			k.finish(content)
			if err := <-g.ended; err != nil && n > 0 { // nothing has to be fetched of an empty file
				t.Error(err)
			}
			if k.Given()["g"] != int64(n) || g.server.Sent() < int64(n) {
				t.Errorf("given %v, sent %d of %d", k.Given(), g.server.Sent(), n)
			}
		})
	}
}

// TestTwoPages crosses a page of the tree.
func TestTwoPages(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("256 MiB")
	}
	g := newGiver(t, exchange.ServerConfig{})
	content := random(files.PageLen*files.ChunkSize+100, 1)
	k := newTaker(t, add(t, g.store, content))
	k.from(t.Context(), "a", g.dial(t.Context(), "k"))
	k.from(t.Context(), "b", g.dial(t.Context(), "k"))
	k.finish(content)
	<-g.ended
	<-g.ended
}

// TestTwoSources has two slow sources: both give, nothing comes twice but at the
// very end.
func TestTwoSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content := random(60*files.ChunkSize, 1)
		a := newGiver(t, exchange.ServerConfig{Rate: 4 << 20})
		b := newGiver(t, exchange.ServerConfig{Rate: 8 << 20})
		ref := add(t, a.store, content)
		add(t, b.store, content)
		k := newTaker(t, ref)
		k.from(t.Context(), "a", a.dial(t.Context(), "k"))
		k.from(t.Context(), "b", b.dial(t.Context(), "k"))
		k.finish(content)
		<-a.ended
		<-b.ended
		given := k.Given()
		if given["a"] < 10*files.ChunkSize || given["b"] < 20*files.ChunkSize {
			t.Errorf("given: %v", given)
		}
		if sent := a.server.Sent() + b.server.Sent(); sent > int64(len(content))+exchange.MaxWindow*files.ChunkSize {
			t.Errorf("%d bytes were sent for %d", sent, len(content))
		}
	})
}

// TestLiar has a source that changes a byte of what it gives, in different ways:
// it is given up, and the other one gives everything.
func TestLiar(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"chunk": func(b []byte) []byte {
			if b[0] == 132 {
				b[100] ^= 1
			}
			return b
		},
		"length": func(b []byte) []byte {
			if b[0] == 132 {
				return b[:100]
			}
			return b
		},
		"number": func(b []byte) []byte {
			if b[0] == 132 {
				b[4] ^= 1
			}
			return b
		},
		"page": func(b []byte) []byte {
			if b[0] == 131 {
				b[9] ^= 1
			}
			return b
		},
		"top": func(b []byte) []byte {
			if b[0] == 130 {
				b[9] ^= 1
			}
			return b
		},
		"bitmap": func(b []byte) []byte {
			if b[0] == 129 {
				return append(b, 1)
			}
			return b
		},
		"garbage": func([]byte) []byte { return []byte{77, 1, 2} },
		"empty":   func([]byte) []byte { return []byte{} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				content := random(30*files.ChunkSize, 1)
				liar, honest := newGiver(t, exchange.ServerConfig{}), newGiver(t, exchange.ServerConfig{Rate: 4 << 20})
				liar.change = change
				ref := add(t, liar.store, content)
				add(t, honest.store, content)
				k := newTaker(t, ref)
				k.from(t.Context(), "liar", liar.dial(t.Context(), "k"))
				k.wg.Wait()
				err := k.errors["liar"]
				if !errors.Is(err, exchange.ErrBadData) && !errors.Is(err, exchange.ErrProtocol) {
					t.Errorf("the liar: %v", err)
				}
				if k.p.Have() > 0 {
					t.Errorf("%d bytes of a liar", k.p.Have())
				}
				k.from(t.Context(), "honest", honest.dial(t.Context(), "k"))
				k.finish(content)
				<-liar.ended
				<-honest.ended
				if k.Given()["liar"] > 0 {
					t.Errorf("%v", k.Given())
				}
			})
		})
	}
}

// TestSourceDies loses a source in the middle: the other one takes over what it
// was asked for.
func TestSourceDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content := random(50*files.ChunkSize, 1)
		dies, stays := newGiver(t, exchange.ServerConfig{}), newGiver(t, exchange.ServerConfig{Rate: 2 << 20})
		var n atomic.Int32
		dies.change = func(b []byte) []byte {
			if n.Add(1) > 15 {
				return nil
			}
			return b
		}
		ref := add(t, dies.store, content)
		add(t, stays.store, content)
		k := newTaker(t, ref)
		k.from(t.Context(), "dies", dies.dial(t.Context(), "k"))
		k.from(t.Context(), "stays", stays.dial(t.Context(), "k"))
		k.finish(content)
		<-dies.ended
		<-stays.ended
		if k.errors["dies"] == nil || k.errors["stays"] != nil {
			t.Errorf("%v", k.errors)
		}
	})
}

// TestStalledSource is silent after some chunks.
func TestStalledSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content := random(20*files.ChunkSize, 1)
		g := newGiver(t, exchange.ServerConfig{})
		ref := add(t, g.store, content)
		k := newTaker(t, ref)
		ctx, cancel := context.WithCancel(t.Context())
		st, other := newPipe()
		go func() { // takes all questions and never answers but to open
			_, _ = other.ReadMessage(ctx)
			f, _ := g.store.Open(ref.ID)
			defer f.Close()
			_ = other.WriteMessage(ctx, append([]byte{129}, f.Bitmap()...))
			for {
				if _, err := other.ReadMessage(ctx); err != nil {
					return
				}
			}
		}()
		k.from(t.Context(), "stalled", st)
		k.wg.Wait()
		if err := k.errors["stalled"]; !errors.Is(err, exchange.ErrStalled) {
			t.Errorf("%v", err)
		}
		cancel()
		k.from(t.Context(), "g", g.dial(t.Context(), "k"))
		k.finish(content)
		<-g.ended
	})
}

// TestSwarm fetches from a device that is still fetching itself.
func TestSwarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content := random(40*files.ChunkSize+5, 1)
		seed := newGiver(t, exchange.ServerConfig{Rate: 1 << 20})
		ref := add(t, seed.store, content)
		middle := newTaker(t, ref)
		relay := newGiver(t, exchange.ServerConfig{Store: middle.store})
		last := newTaker(t, ref)
		middle.from(t.Context(), "seed", seed.dial(t.Context(), "middle"))
		time.Sleep(2 * time.Second) // virtual: the middle has something
		last.from(t.Context(), "relay", relay.dial(t.Context(), "last"))
		middle.finish(content)
		last.finish(content)
		<-seed.ended
		<-relay.ended
	})
}

// TestNothingToGive has a source that is fetching itself and gets nowhere.
func TestNothingToGive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := newGiver(t, exchange.ServerConfig{})
		content := random(8*files.ChunkSize, 1)
		ref := add(t, seed.store, content)
		middle := newTaker(t, ref)
		relay := newGiver(t, exchange.ServerConfig{Store: middle.store})
		// It has the tree, and no chunk.
		f, err := seed.store.Open(ref.ID)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := middle.p.SetTop(f.Top()); err != nil {
			t.Fatal(err)
		}
		k := newTaker(t, ref)
		k.from(t.Context(), "relay", relay.dial(t.Context(), "k"))
		k.wg.Wait()
		if err := k.errors["relay"]; !errors.Is(err, exchange.ErrNothing) {
			t.Errorf("%v", err)
		}
		<-relay.ended
	})
}

func TestNoneAndBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGiver(t, exchange.ServerConfig{MaxPeerStreams: 1, Rate: 1 << 20})
		content := random(8*files.ChunkSize, 1)
		ref := add(t, g.store, content)
		g.allow = func(files.Ref) bool { return false }
		denied, absent := newTaker(t, ref), newTaker(t, files.RefOf([]byte("nothing")))
		denied.from(t.Context(), "g", g.dial(t.Context(), "a"))
		denied.wg.Wait()
		g.allow = all
		absent.from(t.Context(), "g", g.dial(t.Context(), "a"))
		absent.wg.Wait()
		wrong := ref
		wrong.Root[0] ^= 1
		other := newTaker(t, wrong)
		other.from(t.Context(), "g", g.dial(t.Context(), "a"))
		other.wg.Wait()
		for _, k := range []*taker{denied, absent, other} {
			if !errors.Is(k.errors["g"], exchange.ErrNone) {
				t.Errorf("%v", k.errors["g"])
			}
		}
		first, second := newTaker(t, ref), newTaker(t, ref)
		first.from(t.Context(), "g", g.dial(t.Context(), "a"))
		synctest.Wait()
		second.from(t.Context(), "g", g.dial(t.Context(), "a"))
		second.wg.Wait()
		if !errors.Is(second.errors["g"], exchange.ErrBusy) {
			t.Errorf("%v", second.errors["g"])
		}
		first.finish(content)
		for range 5 {
			<-g.ended
		}
	})
}

// TestNoLongerAllowed takes the right away in the middle.
func TestNoLongerAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGiver(t, exchange.ServerConfig{})
		var left atomic.Int32
		left.Store(2)
		g.allow = func(files.Ref) bool { return left.Add(-1) >= 0 }
		content := random(100*files.ChunkSize, 1)
		k := newTaker(t, add(t, g.store, content))
		k.from(t.Context(), "g", g.dial(t.Context(), "k"))
		k.wg.Wait()
		if k.errors["g"] == nil || k.p.Have() > 40*files.ChunkSize {
			t.Errorf("%d bytes, %v", k.p.Have(), k.errors["g"])
		}
		if err := <-g.ended; err == nil {
			t.Error("the server saw no reason")
		}
	})
}

// TestRates checks the bounds in virtual time.
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound = 1 << 20
		content := random(16<<20, 1)
		for name, cfg := range map[string]exchange.ServerConfig{"all": {Rate: bound}, "peer": {PeerRate: bound}, "fetcher": {}} {
			g := newGiver(t, cfg)
			k := newTaker(t, add(t, g.store, content))
			if name == "fetcher" {
				k.Fetch = exchange.NewFetch(k.p, exchange.Limit(bound))
			}
			begin := time.Now()
			k.from(t.Context(), "g", g.dial(t.Context(), "k"))
			k.finish(content)
			<-g.ended
			if took := time.Since(begin); took < 15*time.Second || took > 18*time.Second {
				t.Errorf("%s: 16 MiB at 1 MiB/s took %s", name, took)
			}
		}
	})
}

// TestLocalFailure ends the fetch, not only the source.
func TestLocalFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGiver(t, exchange.ServerConfig{Rate: 1 << 20})
		content := random(30*files.ChunkSize, 1)
		k := newTaker(t, add(t, g.store, content))
		k.from(t.Context(), "g", g.dial(t.Context(), "k"))
		time.Sleep(2 * time.Second)
		if err := k.store.Forget(k.p.Ref().ID); err != nil {
			t.Fatal(err)
		}
		<-k.Done()
		k.wg.Wait()
		if err := k.Err(); err == nil {
			t.Error("the fetch goes on")
		}
		<-g.ended
	})
}

// TestServerRefuses sends what breaks the rules.
func TestServerRefuses(t *testing.T) {
	g := newGiver(t, exchange.ServerConfig{})
	ref := add(t, g.store, random(files.ChunkSize+1, 1))
	opening := append([]byte{1, 1}, ref.ID[:]...)
	opening = append(opening, ref.Root[:]...)
	opening = append(opening, 0, 0, 0, 0, 0, 4, 0, 1)
	huge := bytes.Clone(opening)
	huge[66] = 0xff
	for name, msgs := range map[string][][]byte{
		"no open": {{2}}, "empty": {{}}, "short open": {opening[:70]}, "version": {append([]byte{1, 9}, opening[2:]...)}, "size": {huge},
		"second open": {opening, opening}, "empty later": {opening, {}}, "unknown": {opening, {99}}, "chunk number": {opening, {4, 0, 0, 0, 2}},
		"page number": {opening, {3, 0, 0, 0, 1}}, "page length": {opening, {3, 0, 0}}, "top length": {opening, {2, 1}},
	} {
		st := g.dial(t.Context(), "a")
		for _, m := range msgs {
			if err := st.WriteMessage(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-g.ended; !errors.Is(err, exchange.ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
		_ = st.Close()
	}
}
