package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
	"github.com/peersignal/peersignal/pkg/sync/storetest"
)

// A disk is what survives of a store when the power goes.
type disk interface {
	// open makes the store usable; it is closed before the next open.
	open() (groupsync.Store, error)
	// freeze returns what would be found now, without what runs.
	freeze() (disk, error)
}

// A memoryDisk survives because nobody forgets it.
type memoryDisk struct{ m *storetest.Memory }

func newMemoryDisk() disk { return &memoryDisk{storetest.NewMemory().(*storetest.Memory)} }

func (d *memoryDisk) open() (groupsync.Store, error) {
	d.m = d.m.Snapshot() // the one before may be closed
	return d.m, nil
}

func (d *memoryDisk) freeze() (disk, error) { return &memoryDisk{d.m.Snapshot()}, nil }

// A fileDisk is a directory with an SQLite store.
type fileDisk struct {
	dirs *tempDirs
	dir  string
}

// tempDirs makes directories below one that the caller removes.
type tempDirs struct {
	root string
	n    int
}

func (t *tempDirs) next() (string, error) {
	t.n++
	dir := filepath.Join(t.root, fmt.Sprint(t.n))
	return dir, os.MkdirAll(dir, 0o700)
}

func newFileDisk(dirs *tempDirs) (disk, error) {
	dir, err := dirs.next()
	return &fileDisk{dirs, dir}, err
}

const storeName = "store.db"

func (d *fileDisk) open() (groupsync.Store, error) {
	return sqlite.Open(filepath.Join(d.dir, storeName), sqlite.Options{Readers: 2})
}

// freeze copies the files as they are: the database, and its log, in which a transaction may be half written.
func (d *fileDisk) freeze() (disk, error) {
	dir, err := d.dirs.next()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{storeName, storeName + "-wal"} {
		raw, err := os.ReadFile(filepath.Join(d.dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			return nil, err
		}
	}
	return &fileDisk{d.dirs, dir}, nil
}

// checkStore runs the store's own check, if it has one.
func checkStore(ctx context.Context, s groupsync.Store) error {
	if c, ok := s.(interface{ Check(context.Context) error }); ok {
		return c.Check(ctx)
	}
	return nil
}

var errCrashed = errors.New("the power is gone")

// A faultyStore crashes when it is told to: at the end of a transaction, just before or just after its commit, or has no room for one. After a
// crash nothing works any more, and frozen is what the next start finds.
type faultyStore struct {
	groupsync.Store
	disk disk

	mu     sync.Mutex
	armed  int  // transactions until the crash; 0: none planned
	after  bool // crash behind the commit
	full   int  // transactions that find no room
	frozen disk
}

// arm plans a crash.
func (s *faultyStore) arm(in int, after bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed, s.after = in, after
}

// fill lets the next transactions fail.
func (s *faultyStore) fill(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = n
}

func (s *faultyStore) hasRoom() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full == 0 {
		return true
	}
	s.full--
	return false
}

// crash freezes the disk.
func (s *faultyStore) crash() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen != nil {
		return errCrashed
	}
	d, err := s.disk.freeze()
	if err != nil {
		return err
	}
	s.frozen = d
	return errCrashed
}

func (s *faultyStore) crashed() disk {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frozen
}

// count tells whether the crash happens before or after this transaction's commit.
func (s *faultyStore) count() (before, after bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.armed == 0 {
		return false, false
	}
	s.armed--
	return s.armed == 0 && !s.after, s.armed == 0 && s.after
}

// Update runs a transaction unless the power is gone.
func (s *faultyStore) Update(ctx context.Context, fn func(groupsync.Tx) error) error {
	if s.crashed() != nil {
		return errCrashed
	}
	after := false
	err := s.Store.Update(ctx, func(tx groupsync.Tx) error {
		if s.crashed() != nil {
			return errCrashed
		}
		if err := fn(tx); err != nil {
			return err
		}
		if !s.hasRoom() {
			return groupsync.ErrStoreFull
		}
		var before bool
		if before, after = s.count(); before {
			return s.crash()
		}
		return nil
	})
	if err == nil && after {
		return s.crash()
	}
	return err
}

// View reads unless the power is gone.
func (s *faultyStore) View(ctx context.Context, fn func(groupsync.Reader) error) error {
	if s.crashed() != nil {
		return errCrashed
	}
	return s.Store.View(ctx, fn)
}
