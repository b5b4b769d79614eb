package sqlite

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// A fileLock keeps other processes, and other Stores of this one, out. The
// kernel drops it when the process ends in whatever way; the file stays.
type fileLock struct{ f *os.File }

func lockFile(path string) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, classify(err)
	}
	ok, err := tryLock(f)
	switch {
	case err != nil:
		err = fmt.Errorf("locking %s: %w", path, classify(err))
	case !ok:
		err = fmt.Errorf("%w (%s)", groupsync.ErrStoreInUse, owner(f))
	default:
		writeOwner(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &fileLock{f}, nil
}

// owner tells who holds the lock, as far as it can be read.
func owner(f *os.File) string {
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0) // the owner may be about to write it
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return "process unknown"
	}
	return "process " + strconv.Itoa(pid)
}

// writeOwner helps others to find the owner. It may fail: a store on a full
// disk can still be read.
func writeOwner(f *os.File) {
	if f.Truncate(0) == nil {
		_, _ = fmt.Fprintln(f, os.Getpid())
	}
}

func (l *fileLock) unlock() error { return l.f.Close() }
