//go:build unix

package sync_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

const (
	// crashDir tells the test binary to be the device that is killed, with its store and keys there.
	crashDir = "PEERSIGNAL_TEST_CRASH_DIR"
	// crashes is how often; make crash sets it.
	crashes = "PEERSIGNAL_TEST_CRASHES"
)

func crashCount(otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(crashes)); err == nil {
		return n
	}
	return otherwise
}

// A wire is a Transport over two files. onFrame, if any, is called for each frame either way.
type wire struct {
	r       *os.File
	in      *bufio.Reader
	w       *os.File
	mu      sync.Mutex // owns writes
	onFrame func()
}

func newWire(r, w *os.File, onFrame func()) *wire {
	return &wire{r: r, in: bufio.NewReader(r), w: w, onFrame: onFrame}
}

func (w *wire) Send(_ context.Context, lane groupsync.Lane, frame []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), byte(lane))
	_, err := w.w.Write(append(b, frame...))
	w.onFrame()
	return err
}

func (w *wire) Recv(context.Context) (groupsync.Lane, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(w.in, head[:]); err != nil {
		return 0, nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(w.in, frame)
	w.onFrame()
	return groupsync.Lane(head[4]), frame, err
}

func (w *wire) Close() error { return errors.Join(w.r.Close(), w.w.Close()) }

// deviceOf is how a device sees another one of its own user.
func deviceOf(n *node, device peercrypto.ID) groupsync.Peer {
	p := n.peer()
	p.DeviceID = device
	return p
}

// TestCrashVictim is no test but the device that TestCrash kills: it syncs over files 3 and 4 for as long as it lives.
func TestCrashVictim(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("it is for TestCrash")
	}
	ident, err := peercrypto.LoadKeystore(filepath.Join(dir, "keys", "b"), peercrypto.KeystoreOptions{Insecure: true})
	must(t, err)
	other, err := os.ReadFile(filepath.Join(dir, "other"))
	must(t, err)
	store, err := sqlite.Open(filepath.Join(dir, "b.db"), sqlite.Options{})
	must(t, err)
	n := openNode(t, ident, store, "a")
	s := n.NewSession(deviceOf(n, peercrypto.ID(other)), newWire(os.NewFile(3, "in"), os.NewFile(4, "out"), func() {}))
	err = s.Run(t.Context())
	must(t, errors.Join(n.Close(), store.Close()))
	t.Log(err)
}

// A device that is killed at any moment of a sync has a whole store with everything that it had, and completes.
func TestCrash(t *testing.T) {
	kills, entries := crashCount(10), int64(4_000)
	if raceEnabled {
		kills, entries = crashCount(4), 1_000
	}
	a := newNode(t, 0)
	g := a.create("crash")
	fill(t, a, g, int(entries))
	dir := t.TempDir()
	ident := a.ident
	key, err := peercrypto.GenerateSigningKey()
	must(t, err)
	ident.Device, ident.DeviceCreated = key, time.Now().UnixMilli()
	must(t, os.Mkdir(filepath.Join(dir, "keys"), 0o700))
	must(t, peercrypto.SaveKeystore(filepath.Join(dir, "keys", "b"), ident, peercrypto.KeystoreOptions{Insecure: true}))
	must(t, os.WriteFile(filepath.Join(dir, "other"), []byte(a.DeviceID()), 0o600))
	victim := deviceOf(a, ident.DeviceID())
	frames, had, whole := 30, int64(0), 0
	for range kills {
		frames = max(frames, crash(t, a, victim, dir, 1+rand.IntN(frames+frames/4)))
		has := surviving(t, dir, g)
		if has < had {
			t.Fatalf("%d entries of %d are left", has, had)
		}
		if had = has; had == entries {
			for _, end := range []string{"", "-wal", "-shm"} {
				_ = os.Remove(filepath.Join(dir, "b.db"+end))
			}
			had = 0
			whole++
		}
	}
	crash(t, a, victim, dir, -1)
	if has := surviving(t, dir, g); has != entries {
		t.Fatalf("%d entries of %d arrived", has, entries)
	}
	store, err := sqlite.Open(filepath.Join(dir, "b.db"), sqlite.Options{})
	must(t, err)
	b := openNode(t, ident, store, "a")
	if a.export(g) != b.export(g) {
		t.Error("the devices differ")
	}
	must(t, errors.Join(b.Close(), store.Close()))
	t.Logf("%d kills; %d times everything had arrived before", kills, whole)
}

// crash lets the victim sync and kills it after some frames, or lets it complete. It returns how many frames there were.
func crash(t *testing.T, a *node, victim groupsync.Peer, dir string, after int) int {
	t.Helper()
	theirIn, ourOut, err := os.Pipe()
	must(t, err)
	ourIn, theirOut, err := os.Pipe()
	must(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashVictim$")
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	must(t, errors.Join(theirIn.Close(), theirOut.Close()))
	var frames atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := a.NewSession(victim, newWire(ourIn, ourOut, func() {
		if frames.Add(1) == int64(after) {
			_ = cmd.Process.Kill()
		}
	}))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	dead := false
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for whole := false; !dead && !whole; {
		select {
		case <-ended:
			dead = true
		case <-tick.C:
			st := s.Status().Groups
			whole = len(st) > 0 && st[0].Synced
		}
	}
	if !dead && after > 0 {
		_ = cmd.Process.Kill() // everything came with fewer frames
	}
	cancel() // without a kill the victim sees the end of its input and closes its store
	<-done
	if !dead {
		<-ended
	}
	return int(frames.Load())
}

// surviving looks into the store that a kill left: it must be whole. It returns how many changes are there.
func surviving(t *testing.T, dir string, group peercrypto.ID) int64 {
	t.Helper()
	store, err := sqlite.Open(filepath.Join(dir, "b.db"), sqlite.Options{})
	must(t, err)
	must(t, store.Check(t.Context()))
	var sum groupsync.Summary
	must(t, store.View(t.Context(), func(r groupsync.Reader) error {
		sum, err = r.Summary(groupsync.Scope{Group: group, Kind: entry.Data}, groupsync.Ref{}, groupsync.Ref{Modified: 1 << 62})
		return err
	}))
	must(t, store.Close())
	return sum.Count
}
