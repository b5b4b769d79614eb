package sync_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// BenchmarkIngest takes in batches of 2,000 changes of another member, and verifies as many bare signatures on all cores in the same run, because the
// speed of machines drifts.
func BenchmarkIngest(b *testing.B) {
	for _, kind := range []string{"memory", "sqlite"} {
		b.Run(kind, func(b *testing.B) { benchmarkIngest(b, kind) })
	}
}

func benchmarkIngest(b *testing.B, kind string) {
	const batch = 2_000
	store := newStore()
	if kind == "sqlite" {
		store = openSQLite(b, "bench")
	}
	a, w := openNode(b, identity(b, 0), store, "a"), newNode(b, 1)
	g := a.create("bench")
	join(b, a, g, entry.Write, w)
	p := newPen(b, w, g)
	var ingest, verify time.Duration
	changes := 0
	for b.Loop() {
		b.StopTimer()
		raws, entries := make([][]byte, batch), make([]*entry.Entry, batch)
		for i := range raws {
			entries[i] = p.write(nil)
			raws[i] = entries[i].Raw
		}
		b.StartTimer()
		begin := time.Now()
		res, err := a.Ingest(b.Context(), w.peer(), g, raws)
		ingest += time.Since(begin)
		if err != nil || res.Accepted != batch {
			b.Fatal(fmt.Sprint(res, err))
		}
		b.StopTimer()
		changes += batch
		begin = time.Now()
		var wg sync.WaitGroup
		for c := range runtime.GOMAXPROCS(0) {
			wg.Go(func() {
				for i := c; i < batch; i += runtime.GOMAXPROCS(0) {
					if !entries[i].VerifySignature(w.ident.User.Public()) {
						panic("a signature is wrong")
					}
				}
			})
		}
		wg.Wait()
		verify += time.Since(begin)
		b.StartTimer()
	}
	b.ReportMetric(float64(changes)/ingest.Seconds(), "changes/s")
	b.ReportMetric(float64(changes)/verify.Seconds(), "verifies/s")
}

// BenchmarkSession brings a new device of a member from nothing to a group of 10,000 changes, sender and receiver on the same cores.
func BenchmarkSession(b *testing.B) {
	for _, kind := range []string{"memory", "sqlite"} {
		b.Run(kind, func(b *testing.B) { benchmarkSession(b, kind) })
	}
}

func benchmarkSession(b *testing.B, kind string) {
	const changes = 10_000
	a := newNode(b, 0)
	g := a.create("bench")
	fill(b, a, g, changes)
	var spent time.Duration
	rounds := 0
	for b.Loop() {
		b.StopTimer()
		ident := a.ident
		key, err := peercrypto.GenerateSigningKey()
		must(b, err)
		ident.Device, ident.DeviceCreated = key, time.Now().UnixMilli()
		store := newStore()
		if kind == "sqlite" {
			store = openSQLite(b, fmt.Sprint("bench", rounds))
		}
		other := openNode(b, ident, store, "a")
		b.StartTimer()
		begin := time.Now()
		c := connect(b, a, other)
		eventually(b, "it has everything", func() bool { return c.synced(g) })
		spent += time.Since(begin)
		b.StopTimer()
		c.end()
		if other.info(g).Entries != changes {
			b.Fatal("it has not everything")
		}
		must(b, other.Close())
		rounds++
		b.StartTimer()
	}
	b.ReportMetric(float64(rounds*changes)/spent.Seconds(), "changes/s")
}
