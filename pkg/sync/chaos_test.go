package sync_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// TestSessionsUnderChange lets four members write at once while connections come and go, one of them is removed and another's role
// changes, and expects the rest to agree in the end.
func TestSessionsUnderChange(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	nodes := []*node{newNode(t, 0), newNode(t, 1), newNode(t, 2), newNode(t, 3)}
	owner := nodes[0]
	g := owner.create("busy")
	join(t, owner, g, entry.Write, nodes[1:]...)
	for _, n := range nodes[1:] {
		syncPair(t, owner, n, g).end()
	}
	var subjects []peercrypto.ID
	for i := range 5 {
		subjects = append(subjects, owner.put(g, `{"type":"Note","n":%d}`, i).Subject)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for range 60 {
				id := subjects[rng.IntN(len(subjects))]
				doc := fmt.Sprintf(`{"id":%q,"type":"Note","v":{"k%d":%d}}`, id, rng.IntN(4), rng.IntN(1000))
				_, _ = n.Put(t.Context(), g, json.RawMessage(doc)) // fails once the member is removed
				time.Sleep(time.Millisecond)
			}
		})
	}
	var links sync.WaitGroup
	for i := range nodes {
		for j := range i {
			links.Go(func() {
				rng := rand.New(rand.NewPCG(seed, uint64(100+10*i+j)))
				for {
					c := connect(t, nodes[i], nodes[j])
					time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
					c.end()
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
	}
	time.Sleep(30 * time.Millisecond)
	must(t, owner.Remove(t.Context(), g, nodes[3].UserID(), ""))
	must(t, owner.SetRole(t.Context(), g, nodes[2].UserID(), entry.Read))
	wg.Wait()
	close(stop)
	links.Wait()
	for range 2 {
		for _, n := range nodes[1:3] {
			syncPair(t, owner, n, g).end()
		}
	}
	for _, n := range nodes[1:3] {
		if n.export(g) != owner.export(g) || n.info(g).Fingerprint != owner.info(g).Fingerprint {
			t.Fatal("they differ")
		}
	}
	if n := len(owner.info(g).Members); n != 3 {
		t.Fatalf("%d members", n)
	}
}

// TestWhatCanNotBeTakenIsNotRepeated: one side refuses an entry for now; the rest is synced, and the sides do not keep each other busy.
func TestWhatCanNotBeTakenIsNotRepeated(t *testing.T) {
	identity(t, 1)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(25 * 365 * 24 * time.Hour)
		a, b, g := pair(t)
		b.clock.add(30 * time.Hour)
		early := b.put(g, `{"type":"Note","ahead":true}`)
		before := a.put(g, `{"type":"Note","now":true}`)
		c := connect(t, a, b)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if _, err := b.Get(t.Context(), g, before.Subject); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Get(t.Context(), g, early.Subject); err == nil {
			t.Fatal("an entry that lies 30 hours ahead counts")
		}
		if n := c.a.Status().FramesOut + c.b.Status().FramesOut; n > 300 {
			t.Errorf("%d frames in 10 minutes about one entry", n)
		}
		a.clock.add(30 * time.Hour)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if a.export(g) != b.export(g) {
			t.Fatal("they differ after the clock was set")
		}
		c.end()
	})
}

// FuzzSession speaks random frames to a member's session: nothing but its end may happen.
func FuzzSession(f *testing.F) {
	a, b := newNode(f, 0), newNode(f, 1)
	g := a.create("g")
	join(f, a, g, entry.Write, b)
	a.put(g, `{"type":"Note"}`)
	frame := func(lane byte, raw ...byte) []byte {
		out := append([]byte{lane}, binary.BigEndian.AppendUint16(nil, uint16(len(raw)))...)
		return append(out, raw...)
	}
	id := append([]byte{25}, g...)
	for _, kind := range []byte{1, 2} {
		f.Add(frame(0, append(append([]byte{0x03}, id...), kind, 1, 3, 0, 2, 0)...))        // RECON: I have nothing
		f.Add(frame(1, append(append([]byte{0x12}, id...), kind, 1, 0)...))                 // MARK
		f.Add(frame(1, append(append([]byte{0x13}, id...), kind, 1, 9, 1, 2, 3, 4)...))     // MARKED, cut
		f.Add(frame(0, append(append([]byte{0x05}, id...), append([]byte{1}, g...)...)...)) // HAVE, cut
	}
	f.Add(frame(0, append(append([]byte{0x06}, id...), append([]byte{1}, make([]byte, 32)...)...)...)) // WANT
	f.Add(frame(0, append(append([]byte{0x08}, id...), 0)...))                                         // JOIN
	f.Add(frame(0, 0x04, 0xff, 0x01))                                                                  // ACK of what was not sent
	f.Add(frame(1, append(append([]byte{0x11}, id...), 3, 0)...))                                      // LOG
	f.Fuzz(func(t *testing.T, script []byte) {
		pa, pb := newPipe()
		done := make(chan error, 1)
		s := a.NewSession(b.peer(), pa)
		go func() { done <- s.Run(t.Context()) }()
		go func() {
			for {
				if _, _, err := pb.Recv(t.Context()); err != nil {
					return
				}
			}
		}()
		_ = pb.Send(t.Context(), groupsync.Control, append([]byte{0x01, 1, 0}, make([]byte, 16)...))
		for len(script) >= 3 {
			n := min(int(binary.BigEndian.Uint16(script[1:])), len(script)-3)
			if pb.Send(t.Context(), groupsync.Lane(1+script[0]%2), script[3:3+n]) != nil {
				break
			}
			script = script[3+n:]
		}
		_ = pb.Close()
		<-done
	})
}

// A slowLane delays one lane, so that the other overtakes it.
type slowLane struct {
	groupsync.Transport
	lane groupsync.Lane
}

func (s slowLane) Send(ctx context.Context, lane groupsync.Lane, frame []byte) error {
	if lane == s.lane {
		time.Sleep(3 * time.Millisecond)
	}
	return s.Transport.Send(ctx, lane, frame)
}

func TestLanesOvertakeEachOther(t *testing.T) {
	for _, lane := range []groupsync.Lane{groupsync.Control, groupsync.Bulk} {
		t.Run(fmt.Sprint(lane), func(t *testing.T) {
			a, b, g := pair(t)
			for range 3 {
				fill(t, a, g, 300)
				fill(t, b, g, 300)
				must(t, a.Rename(t.Context(), g, fmt.Sprint(rand.Int())))
				pa, pb := newPipe()
				c := connectOver(t, a, b, slowLane{pa, lane}, slowLane{pb, lane})
				eventually(t, "both hold the same", func() bool { return c.synced(g) && a.info(g).Fingerprint == b.info(g).Fingerprint })
				sa, sb := c.a.Status(), c.b.Status()
				c.end()
				if n := sa.EntriesOut + sb.EntriesOut; n > 700 {
					t.Errorf("%d entries were sent for 601", n)
				}
			}
		})
	}
}

// A gate holds back control frames behind the first one until it is opened.
type gate struct {
	groupsync.Transport
	open chan struct{}
}

func (g gate) Send(ctx context.Context, lane groupsync.Lane, frame []byte) error {
	if lane == groupsync.Control && frame[0] != 0x01 {
		select {
		case <-g.open:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return g.Transport.Send(ctx, lane, frame)
}

// TestNewsOvertakesTheComparison lets a new entry arrive before the summary without it. The side that finds a difference
// which is none any more must hear so, or it never begins to tell its own news.
func TestNewsOvertakesTheComparison(t *testing.T) {
	lower, higher, g := pair(t)
	if lower.DeviceID() > higher.DeviceID() {
		lower, higher = higher, lower
	}
	pl, ph := newPipe()
	open := make(chan struct{})
	c := connectOver(t, lower, higher, gate{pl, open}, ph)
	eventually(t, "the lower one has compared", func() bool {
		groups := c.a.Status().Groups
		return len(groups) == 1 && groups[0].Synced
	})
	lower.put(g, `{"type":"Note"}`)
	// HELLO, GROUPS, and the ACK of the news.
	eventually(t, "its news is at the higher one", func() bool { return c.a.Status().FramesIn == 3 })
	close(open)
	eventually(t, "the higher one has compared", func() bool { return c.a.Status().FramesIn == 4 })
	news := higher.put(g, `{"type":"Note","text":"news"}`)
	eventually(t, "the higher one tells its news", func() bool {
		_, err := lower.Get(t.Context(), g, news.Subject)
		return err == nil
	})
}

func TestLargeDocuments(t *testing.T) {
	a, b, g := pair(t)
	for i := range 5 {
		a.put(g, `{"type":"Blob","data":%q}`, strings.Repeat(fmt.Sprint(i), 900<<10))
		b.put(g, `{"type":"Blob","data":%q}`, strings.Repeat(fmt.Sprint(i), 200<<10))
	}
	syncPair(t, a, b, g).end()
	if a.export(g) != b.export(g) || len(a.export(g)) < 5<<20 {
		t.Fatal("they differ")
	}
}
