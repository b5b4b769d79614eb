package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// Options of a store. The zero value is the default.
type Options struct {
	// Readers is how many Views run at once; more wait. 0 is 8.
	Readers int
	// MaxBytes is the largest size of the file without its log. A transaction
	// that needs more fails with ErrStoreFull. 0 is no limit but the disk's.
	MaxBytes int64
	// BusyTimeout is how long a transaction waits for a lock that another SQLite
	// program holds on the file. 0 is 5 s.
	BusyTimeout time.Duration
	// Progress is told how far the migration of an old store is, in entries. It may take minutes for millions. Nil is nobody.
	Progress func(done, total int64)
}

func (o Options) validate() (Options, error) {
	if o.Readers < 0 || o.MaxBytes < 0 || o.BusyTimeout < 0 {
		return o, errors.New("options must not be negative")
	}
	if o.Readers == 0 {
		o.Readers = 8
	}
	if o.BusyTimeout == 0 {
		o.BusyTimeout = 5 * time.Second
	}
	return o, nil
}

// Open opens the store in the file at path and creates it if there is none; the
// directory must exist. It keeps out other processes until Close. Errors match
// groupsync.ErrStoreInUse, ErrStoreReadOnly and ErrStoreFull, [ErrNotAStore],
// [ErrNewerSchema] and [ErrCorrupt]; a file that is refused is not changed.
func Open(path string, o Options) (*Store, error) {
	s, err := open(path, o)
	if err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", path, err)
	}
	return s, nil
}

func open(path string, o Options) (*Store, error) {
	o, err := o.validate()
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // so that both names lead to the same lock
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	s, err := openLocked(path, o)
	if err != nil {
		return nil, errors.Join(err, lock.unlock())
	}
	s.lock = lock
	return s, nil
}

func openLocked(path string, o Options) (*Store, error) {
	exists, err := checkFile(path)
	if err != nil {
		return nil, err
	}
	if !exists {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("creating it: %w", err)
		}
	}
	if err := checkModes(path); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dataSource(path))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(o.Readers + 2) // the writer, the folder
	db.SetMaxIdleConns(0)             // closing a session closes its connection
	s := newStore(path, db, o)
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.closeFiles())
	}
	return s, nil
}

// dataSource names a file that must exist.
func dataSource(path string) string {
	path = filepath.ToSlash(path)
	if runtime.GOOS == "windows" {
		path = "/" + path // file:///C:/…
	}
	u := url.URL{Path: path}
	return "file://" + u.EscapedPath() + "?mode=rw"
}

// create builds an empty store beside path and moves it there when it is whole,
// so that a file at path is never half a store.
func create(path string) error {
	temporary := path + ".new"
	for _, left := range []string{temporary, temporary + "-journal", temporary + "-wal", temporary + "-shm"} {
		if err := os.Remove(left); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return classify(err)
		}
	}
	f, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return classify(err)
	}
	if err := f.Close(); err != nil {
		return classify(err)
	}
	if err := build(temporary); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := os.Rename(temporary, path); err != nil {
		return classify(err)
	}
	return classify(syncDir(filepath.Dir(path)))
}

// build makes the tables; the log is folded into the file when it returns.
func build(path string) error {
	steps, err := migrations()
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", dataSource(path))
	if err != nil {
		return err
	}
	s, err := openSession(context.Background(), db, "synchronous = FULL")
	if err != nil {
		return errors.Join(err, db.Close())
	}
	err = migrate(s, steps, nil)
	if err == nil {
		err = s.run("PRAGMA journal_mode = WAL")
	}
	return errors.Join(err, s.close(), db.Close())
}

// header is what the first 100 bytes of an SQLite file tell.
const (
	headerSize      = 100
	headerMagic     = "SQLite format 3\x00"
	atPageSize      = 16
	atPages         = 28
	atUserVersion   = 60
	atApplicationID = 68
)

// checkFile refuses what is no store of ours without opening it as a database,
// which might change it. It reports false if there is nothing at path.
func checkFile(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, checkNoLog(path)
	}
	if err != nil {
		return false, classify(err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	switch {
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%w: it is no regular file", ErrNotAStore)
	case info.Size() == 0:
		return false, checkNoLog(path)
	}
	h := make([]byte, headerSize)
	if _, err := io.ReadFull(f, h); err != nil || string(h[:len(headerMagic)]) != headerMagic {
		return false, ErrNotAStore
	}
	return true, checkHeader(h, info.Size(), logSize(path))
}

func checkHeader(h []byte, size, log int64) error {
	if binary.BigEndian.Uint32(h[atApplicationID:]) != applicationID {
		return ErrNotAStore
	}
	if v := binary.BigEndian.Uint32(h[atUserVersion:]); v > schemaVersion {
		return fmt.Errorf("schema %d, this release knows %d: %w", v, schemaVersion, ErrNewerSchema)
	}
	page := int64(binary.BigEndian.Uint16(h[atPageSize:]))
	if page == 1 {
		page = 1 << 16
	}
	// With a log, pages may be missing until it is folded in.
	if want := page * int64(binary.BigEndian.Uint32(h[atPages:])); size < want && log == 0 {
		return fmt.Errorf("%w: it has %d bytes of %d", ErrCorrupt, size, want)
	}
	return nil
}

// checkNoLog refuses to put a new file beside the log of an old one, which
// SQLite would then apply to it.
func checkNoLog(path string) error {
	if logSize(path) > 0 {
		return fmt.Errorf("%w: the file is missing but its log %s-wal is there: bring the file back or move the log away",
			ErrCorrupt, path)
	}
	return nil
}

func logSize(path string) int64 {
	info, err := os.Stat(path + "-wal")
	if err != nil {
		return 0
	}
	return info.Size()
}

// checkModes takes the store away from everybody else. SQLite gives its other
// files the modes of this one.
func checkModes(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm()&0o077 == 0 {
			continue
		}
		if err := os.Chmod(name, info.Mode().Perm()&^0o077); err != nil {
			return fmt.Errorf("%w: others can read %s and its modes can't be set", groupsync.ErrStoreReadOnly, name)
		}
	}
	return nil
}
