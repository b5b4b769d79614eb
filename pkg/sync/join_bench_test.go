//go:build unix

package sync_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

// Whoever runs BenchmarkJoin names the number of members and the file that keeps their ids: to derive them takes as long as a join. With benchMakes set, the
// test binary only makes that file.
const (
	benchMembers = "PEERSIGNAL_BENCH_MEMBERS"
	benchIDs     = "PEERSIGNAL_BENCH_IDS"
	benchMakes   = "PEERSIGNAL_BENCH_MAKES_IDS"
)

// benchUser is the i-th member of a large group.
func benchUser(t testing.TB, i int) (peercrypto.SigningKey, peercrypto.UserGenesis) {
	t.Helper()
	seed := sha256.Sum256(fmt.Appendf(nil, "peersignal bench user %d", i))
	key, err := peercrypto.SigningKeyFromSeed(seed[:])
	must(t, err)
	return key, peercrypto.UserGenesis{V: 1, Created: 1_700_000_000_000 + int64(i), Key: key.Public()}
}

// onAllCores calls fn for 0 … n-1.
func onAllCores(n int, fn func(i int)) {
	var wg sync.WaitGroup
	for c := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := c; i < n; i += runtime.GOMAXPROCS(0) {
				fn(i)
			}
		})
	}
	wg.Wait()
}

// TestBenchIDs makes the file of ids, in a process of its own: in one that derived an id, it is at hand.
func TestBenchIDs(t *testing.T) {
	if os.Getenv(benchMakes) == "" {
		t.Skip("makes what BenchmarkJoin needs")
	}
	n, err := strconv.Atoi(os.Getenv(benchMembers))
	must(t, err)
	ids := make([]string, n)
	onAllCores(n, func(i int) {
		_, body := benchUser(t, i)
		ids[i] = string(body.ID())
	})
	must(t, os.WriteFile(os.Getenv(benchIDs), []byte(strings.Join(ids, "\n")), 0o600))
}

func readBenchIDs(b *testing.B, n int) []string {
	b.Helper()
	path := os.Getenv(benchIDs)
	if path == "" {
		path = filepath.Join(b.TempDir(), "ids")
	}
	read := func() []string {
		raw, _ := os.ReadFile(path) // if there is none, it is made
		return strings.Fields(string(raw))
	}
	if len(read()) < n {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestBenchIDs$", "-test.timeout", "2h")
		cmd.Env = append(os.Environ(), benchMakes+"=1", benchIDs+"="+path, fmt.Sprint(benchMembers, "=", n))
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("making ids: %v\n%s", err, out)
		}
	}
	return read()[:n]
}

// crowd makes a group of n members who came by invitations, as it is in the store of its owner an hour later.
func crowd(b *testing.B, n int) (owner *node, g peercrypto.ID) {
	b.Helper()
	ids := readBenchIDs(b, n)
	owner = openNode(b, identity(b, 0), openSQLite(b, "owner"), "owner")
	owner.clock.add(-time.Hour)
	g = owner.create("crowd")
	var invites []entry.Invitation
	for range (n + 999) / 1000 {
		invites = append(invites, owner.invite(g, groupsync.InviteOptions{Uses: 1000}))
	}
	log := group.NewLog(g)
	byIPK := map[peercrypto.PublicKey]peercrypto.Hash{}
	var last *entry.Entry
	for _, raw := range owner.logOf(g) {
		e, err := entry.Decode(raw)
		must(b, err)
		must(b, log.Restore(e))
		if op, ok := e.Op.(entry.Invite); ok {
			byIPK[op.IPK] = e.Hash
		}
		last = e
	}
	create, _ := log.Create()
	claims := make([]entry.Claim, n)
	onAllCores(n, func(i int) {
		key, body := benchUser(b, i)
		claim, err := entry.SignClaim(invites[i/1000].SigningKey(), key, entry.Claim{
			Group: g, Create: create.Hash, UserID: peercrypto.ID(ids[i]), Genesis: body.Hash(), DeviceID: owner.DeviceID(), Role: entry.Write, Time: last.Modified,
		})
		must(b, err)
		claims[i] = claim
	})
	var adds []*entry.Entry
	dev := peercrypto.DeviceBody{Created: 1, Key: owner.ident.Device.Public()}.ID()
	d := entry.OpDraft{Group: g, Signer: owner.UserID(), As: create.Hash, Modified: last.Modified, Deps: []peercrypto.Hash{last.Hash}, Dev: dev}
	for i := range n {
		_, body := benchUser(b, i)
		invite := byIPK[claims[i].IPK]
		d.ID, d.Modified = peercrypto.NewID(time.UnixMilli(d.Modified)), d.Modified+1
		d.Op = entry.Add{UserID: claims[i].UserID, User: body, Role: entry.Write, Invite: &invite, Claim: &claims[i]}
		e, err := entry.SignOperation(owner.ident.User, d)
		must(b, err)
		must(b, log.Restore(e))
		adds = append(adds, e)
		d.Seq, d.Prev, d.Dev, d.Deps = d.Seq+1, e.Hash, "", []peercrypto.Hash{e.Hash}
	}
	must(b, owner.Close())
	must(b, owner.store.Update(b.Context(), func(tx groupsync.Tx) error {
		for _, e := range adds {
			rec := groupsync.Record{
				Ref: groupsync.Ref{Modified: e.Modified, Hash: e.Hash}, Group: g, Kind: e.Kind, Subject: e.Subject, As: e.As, Prev: e.Prev,
				Dev: dev, Seq: e.Seq, Raw: e.Raw, Valid: true, Shared: true,
			}
			if err := tx.PutRecord(rec); err != nil {
				return err
			}
		}
		return nil
	}))
	owner.clock.add(time.Hour)
	owner.reopen()
	if members := len(owner.info(g).Members); members != n+1 {
		b.Fatalf("the group has %d members", members)
	}
	return owner, g
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // never fails
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkJoin joins a large group, with both sides on the same cores, while the joiner goes on writing to another one. Beside it, in the same run, ids are
// derived and nothing else: "bare" is the time of the join as a multiple of that of its ids, "bare-cpu" the same of processor time.
func BenchmarkJoin(b *testing.B) {
	n, _ := strconv.Atoi(os.Getenv(benchMembers))
	if n == 0 {
		b.Skip("takes minutes: make bench-join")
	}
	owner, g := crowd(b, n)
	j := openNode(b, identity(b, 1), openSQLite(b, "joiner"), "joiner")
	other := j.create("other")
	inv := owner.invite(g, groupsync.InviteOptions{})
	events := j.Subscribe(b.Context())
	must(b, j.Join(b.Context(), inv))

	sample := min(n, 200) // of users whose ids nobody knows
	bare, bareCPU := time.Now(), cpuTime()
	onAllCores(sample, func(i int) { _, body := benchUser(b, -1-i); body.ID() })
	perID, cpuPerID := time.Since(bare).Seconds()/float64(sample), (cpuTime()-bareCPU).Seconds()/float64(sample)

	begin, cpu := time.Now(), cpuTime()
	c := connect(b, owner, j)
	var puts []time.Duration
	told, peak := 0, uint64(0)
	for joined := false; !joined; {
		at := time.Now()
		_, err := j.Put(b.Context(), other, json.RawMessage(`{"type":"Row"}`))
		must(b, err)
		puts = append(puts, time.Since(at))
		time.Sleep(20 * time.Millisecond)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapInuse)
		for more := true; more; {
			select {
			case ev := <-events:
				if _, ok := ev.(groupsync.JoinChecking); ok {
					told++
				}
			default:
				more = false
			}
		}
		joined = c.synced(g)
	}
	took, spent := time.Since(begin), cpuTime()-cpu
	c.end()
	if members := len(j.info(g).Members); members != n+2 || !bytes.Equal([]byte(owner.export(g)), []byte(j.export(g))) {
		b.Fatalf("the joiner sees %d members", members)
	}
	slices.Sort(puts)
	b.ReportMetric(took.Seconds(), "s/join")
	b.ReportMetric(spent.Seconds(), "cpu-s/join")
	b.ReportMetric(took.Seconds()/(perID*float64(n)), "bare")
	b.ReportMetric(spent.Seconds()/(cpuPerID*float64(n)), "bare-cpu")
	b.ReportMetric(float64(puts[len(puts)/2].Microseconds())/1000, "ms-put-p50")
	b.ReportMetric(float64(puts[len(puts)-1].Microseconds())/1000, "ms-put-max")
	b.ReportMetric(float64(told), "progress")
	b.ReportMetric(float64(peak)/(1<<20), "MiB-heap")
}
