package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

const (
	group = peercrypto.ID("00mwrj0xzzgroup0000000001")
	begin = int64(1_600_000_000_000)
	year  = int64(365 * 24 * 60 * 60 * 1000)
	batch = 10_000
)

var scope = groupsync.Scope{Group: group, Kind: entry.Data}

// refs returns n refs over three years, a new day each time about 1,000 of a million were written, in no order within.
func refs(n int) []groupsync.Ref {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([]groupsync.Ref, n)
	for i := range out {
		at := begin + int64(float64(i)/float64(n)*3*float64(year)) + rng.Int64N(10_000)
		out[i] = groupsync.Ref{Modified: at, Hash: peercrypto.Sum(fmt.Append(nil, i))}
	}
	return out
}

// openPair opens two stores that hold all refs, and makes them in dir if they are not there.
func openPair(dir string, all []groupsync.Ref) (a, b *sqlite.Store, err error) {
	first, second := filepath.Join(dir, fmt.Sprintf("a-%d.db", len(all))), filepath.Join(dir, fmt.Sprintf("b-%d.db", len(all)))
	if _, err := os.Stat(second); err != nil {
		started := time.Now()
		if err := build(first, all); err != nil {
			return nil, nil, err
		}
		if err := copyFile(first, second); err != nil {
			return nil, nil, err
		}
		fmt.Fprintf(os.Stderr, "built two stores of %d entries in %s\n", len(all), time.Since(started).Round(time.Second))
	}
	if a, err = sqlite.Open(first, sqlite.Options{}); err != nil {
		return nil, nil, err
	}
	b, err = sqlite.Open(second, sqlite.Options{})
	return a, b, err
}

func build(path string, all []groupsync.Ref) error {
	for _, left := range []string{path, path + "-wal", path + "-shm"} {
		_ = os.Remove(left)
	}
	store, err := sqlite.Open(path, sqlite.Options{})
	if err != nil {
		return err
	}
	for at := 0; at < len(all) && err == nil; at += batch {
		err = store.Update(context.Background(), func(tx groupsync.Tx) error {
			for i, ref := range all[at:min(at+batch, len(all))] {
				r := groupsync.Record{
					Ref: ref, Group: group, Kind: entry.Data, Subject: peercrypto.ID(fmt.Sprintf("00mwrj0xzzsubject%08d", at+i)),
					As: peercrypto.Sum([]byte("grant")), Dev: "00mwrj0xzzdevice000000001", Seq: int64(at + i), Raw: []byte("{}"), Valid: true, Shared: true,
				}
				if err := tx.PutRecord(r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err2 := store.Close(); err == nil {
		err = err2
	}
	return err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

// flip takes entries out of a store's set or into it.
func flip(store *sqlite.Store, list []groupsync.Ref, shared bool) error {
	return store.Update(context.Background(), func(tx groupsync.Tx) error {
		for _, ref := range list {
			if err := tx.SetFlags(ref.Hash, shared, shared); err != nil {
				return err
			}
		}
		return nil
	})
}
