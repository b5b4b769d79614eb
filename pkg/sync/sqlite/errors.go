package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// Errors beside those of package sync.
var (
	// ErrNotAStore is returned by Open for a file of another program. It is left as it was.
	ErrNotAStore = errors.New("the file is not a peersignal store")
	// ErrNewerSchema is returned by Open for a store of a newer release. It is left as it was.
	ErrNewerSchema = errors.New("the store was written by a newer release: install that one")
	// ErrCorrupt is returned when the file is damaged, and by Check when its parts contradict each other.
	ErrCorrupt = errors.New("the store is damaged: restore a backup or sync into a new store")
)

var errEnded = errors.New("the transaction has ended")

// classify adds the sentinel that callers branch on to an error of SQLite or
// of the file system.
func classify(err error) error {
	if sentinel := sentinelOf(err); sentinel != nil {
		return fmt.Errorf("%w (%w)", sentinel, err)
	}
	return err
}

func sentinelOf(err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		if e.Code() == sqlite3.SQLITE_IOERR_SHMSIZE {
			return groupsync.ErrStoreFull // the index of the log could not grow
		}
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_FULL:
			return groupsync.ErrStoreFull
		case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
			return groupsync.ErrStoreReadOnly
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return groupsync.ErrStoreInUse
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return ErrCorrupt
		}
		return nil
	}
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return groupsync.ErrStoreReadOnly
	case errors.Is(err, syscall.ENOSPC):
		return groupsync.ErrStoreFull
	}
	return nil
}
