package sqlite_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

const (
	// victimPath tells the test binary to be the process that is killed.
	victimPath = "PEERSIGNAL_TEST_STORE"
	// crashes is how often; make crash sets it.
	crashes = "PEERSIGNAL_TEST_CRASHES"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(victimPath); path != "" {
		fmt.Fprintln(os.Stderr, victim(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// victim writes for ever and prints a line for each transaction that was
// acknowledged. Each writes an entry and its document, makes the entry before
// it void, and counts in a value.
func victim(path string) error {
	store, err := sqlite.Open(path, sqlite.Options{})
	if err != nil {
		return err
	}
	n := 0
	err = store.View(context.Background(), func(r groupsync.Reader) error {
		n, err = acknowledged(r)
		return err
	})
	for ; err == nil; n++ {
		err = store.Update(context.Background(), func(tx groupsync.Tx) error {
			r := benchRecord(n)
			_, err := tx.PutDocument(benchDocument(r))
			err = errors.Join(err, tx.PutRecord(r), tx.PutValue("test", "n", strconv.AppendInt(nil, int64(n+1), 10)))
			if n > 0 {
				err = errors.Join(err, tx.SetFlags(benchRecord(n-1).Hash, false, n%2 == 0))
			}
			return err
		})
		if err == nil {
			_, err = fmt.Println(n + 1)
		}
	}
	return err
}

func acknowledged(r groupsync.Reader) (int, error) {
	v, found, err := r.Value("test", "n")
	if err != nil || !found {
		return 0, err
	}
	return strconv.Atoi(string(v))
}

// A process that is killed at any moment loses nothing that was acknowledged,
// and leaves no half transaction.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	rounds := 20
	if testing.Short() {
		rounds = 10
	}
	if n, err := strconv.Atoi(os.Getenv(crashes)); err == nil {
		rounds = n
	}
	written := 0
	for range rounds {
		least := killOnce(t, path, rand.IntN(40))
		least = max(least, written)
		store := open(t, path, sqlite.Options{})
		err := store.View(context.Background(), func(r groupsync.Reader) error {
			n, err := acknowledged(r)
			if n < least {
				t.Errorf("%d transactions are there, %d were acknowledged", n, least)
			}
			written = n
			return errors.Join(err, wantVictims(r, n))
		})
		if err != nil {
			t.Fatal(err)
		}
		check(t, store)
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d transactions survived %d kills", written, rounds)
}

// killOnce runs the victim, kills it after some acknowledgements and returns
// the last that it printed.
func killOnce(t *testing.T, path string, after int) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimPath+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := 0
	lines := bufio.NewScanner(out)
	for lines.Scan() { // also what it printed before it was killed
		if n, err := strconv.Atoi(lines.Text()); err == nil {
			last = n
		}
		if after--; after < 0 {
			_ = cmd.Process.Kill()
		}
	}
	if err := cmd.Wait(); err == nil || after >= 0 {
		t.Fatalf("the process ended by itself: %v", err)
	}
	return last
}

// wantVictims looks for exactly the first n transactions.
func wantVictims(r groupsync.Reader, n int) error {
	for i := range n + 2 {
		want := benchRecord(i)
		rec, found, err := r.Record(want.Hash)
		if err != nil {
			return err
		}
		_, document, err := r.Document(want.Group, want.Subject)
		if err != nil {
			return err
		}
		if found != (i < n) || document != (i < n) {
			return fmt.Errorf("of %d transactions, number %d: entry %v, document %v", n, i, found, document)
		}
		if found && (rec.Valid != (i == n-1) || rec.Shared != (i == n-1 || i%2 == 1)) {
			return fmt.Errorf("of %d transactions, number %d: valid %v, shared %v", n, i, rec.Valid, rec.Shared)
		}
	}
	return nil
}
