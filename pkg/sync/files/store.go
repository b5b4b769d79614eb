package files

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Options are the limits of a [Store]; zero means the default that is named.
type Options struct {
	// Quota bounds the bytes of all files, partial ones with their full size;
	// default none but the disk.
	Quota int64
	// MaxSize bounds one file, in bytes; default and at most MaxSize.
	MaxSize int64
	// Reserve is left free on the disk, in bytes; default 64 MiB, negative none.
	Reserve int64
	// Now is the clock for the age of files; default time.Now.
	Now func() time.Time
}

// A Store keeps files in a folder that is its own. It is safe for concurrent
// use, by one process at a time.
type Store struct {
	dir string
	o   Options

	mu       sync.Mutex
	complete map[ID]*content
	partial  map[partialKey]*partialEntry
	used     int64 // bytes of all of them, partial ones in full, and of what is being added
	closed   bool
}

func (s *Store) setCompleteLocked(c *content) {
	s.complete[c.ref.ID] = c
	s.used += c.ref.Size
}

func (s *Store) dropCompleteLocked(id ID) {
	s.used -= s.complete[id].ref.Size
	delete(s.complete, id)
}

func (s *Store) setPartialLocked(e *partialEntry) {
	s.partial[keyOf(e.ref)] = e
	s.used += e.ref.Size
}

func (s *Store) dropPartialLocked(key partialKey) {
	if e := s.partial[key]; e != nil {
		s.used -= e.ref.Size
		delete(s.partial, key)
	}
}

// content is a complete file.
type content struct {
	ref    Ref
	pinned bool
	added  time.Time
	open   int // readers; evicted only when there are none
	marks  marks
}

type partialKey struct {
	id   ID
	root Root
}

// partialEntry is a file that is not complete, open or not.
type partialEntry struct {
	ref   Ref
	want  []byte
	have  int64    // bytes, as of the last close
	p     *Partial // nil when nobody has it open
	marks marks
}

// Info describes a file of a [Store].
type Info struct {
	Ref
	Complete bool
	// Have counts the bytes that are here and verified.
	Have   int64
	Pinned bool
	// Added is when a complete file became so.
	Added time.Time
	// Want is what the caller of Begin gave; of a partial file.
	Want []byte
}

// Names of the store's files.
const (
	dirContent = "content"
	dirPartial = "partial"
	dirTmp     = "tmp"
	nameData   = "data"
	nameTree   = "tree"
	nameMap    = "map"
	nameWant   = "want"
	namePin    = "pin"
	nameMarks  = "marks"
)

const (
	defaultReserve = 64 << 20
	fileMode       = 0o600
	dirMode        = 0o700
	maxWant        = 64 << 10
)

// Open opens the store in dir, which it makes when it is missing.
func Open(dir string, o Options) (*Store, error) {
	if o.Quota < 0 || o.MaxSize < 0 || o.MaxSize > MaxSize {
		return nil, fmt.Errorf("opening files in %s: a limit is negative or above 1 TiB", dir)
	}
	o.MaxSize = cmp.Or(o.MaxSize, MaxSize)
	o.Reserve = cmp.Or(o.Reserve, defaultReserve)
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Store{dir: dir, o: o, complete: map[ID]*content{}, partial: map[partialKey]*partialEntry{}}
	for _, sub := range []string{dirContent, dirPartial, dirTmp} {
		if err := os.MkdirAll(filepath.Join(dir, sub), dirMode); err != nil {
			return nil, fmt.Errorf("opening files in %s: %w", dir, classify(err))
		}
	}
	if err := errors.Join(s.sweep(), s.loadContent(), s.loadPartial()); err != nil {
		return nil, fmt.Errorf("opening files in %s: %w", dir, err)
	}
	return s, nil
}

// sweep removes what additions left behind that did not end.
func (s *Store) sweep() error {
	tmp := filepath.Join(s.dir, dirTmp)
	left, err := os.ReadDir(tmp)
	for _, e := range left {
		err = errors.Join(err, os.RemoveAll(filepath.Join(tmp, e.Name())))
	}
	return err
}

func (s *Store) loadContent() error {
	paths, err := filepath.Glob(filepath.Join(s.dir, dirContent, "??", "*"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		ref, err := readRef(path)
		info, statErr := os.Stat(filepath.Join(path, nameData))
		if err != nil || statErr != nil || s.contentDir(ref.ID) != path || info.Size() != ref.Size {
			continue // not ours, or damaged: it takes space, and is nothing to rely on
		}
		_, pinErr := os.Stat(filepath.Join(path, namePin))
		s.setCompleteLocked(&content{ref: ref, pinned: pinErr == nil, added: info.ModTime(), marks: readMarks(path)})
		// A file that became complete just before a crash.
		_ = os.Remove(filepath.Join(path, nameMap))
		_ = os.Remove(filepath.Join(path, nameWant))
	}
	return nil
}

func (s *Store) loadPartial() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, dirPartial))
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(s.dir, dirPartial, e.Name())
		ref, err := readRef(path)
		if err != nil || s.partialDir(ref) != path {
			if err := os.RemoveAll(path); err != nil { // made, but not begun
				return err
			}
			continue
		}
		want, _ := os.ReadFile(filepath.Join(path, nameWant))
		bits, err := readMap(path, ref)
		if err != nil {
			return err
		}
		s.setPartialLocked(&partialEntry{ref: ref, want: want, have: heldBytes(ref, bits.written), marks: readMarks(path)})
	}
	return nil
}

// readRef reads the header of the tree in a folder.
func readRef(dir string) (Ref, error) {
	f, err := os.Open(filepath.Join(dir, nameTree))
	if err != nil {
		return Ref{}, err
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, treeHeader)
	if n, err := f.ReadAt(b, 0); n < treeHeader {
		return Ref{}, err
	}
	return parseTreeHeader(b)
}

func keyOf(r Ref) partialKey { return partialKey{r.ID, r.Root} }

func (s *Store) contentDir(id ID) string {
	text := id.String()
	return filepath.Join(s.dir, dirContent, text[:2], text)
}

// partialDir is one to one with partialKey: a folder that says something else
// inside than its name does is spoilt, and in the way of nobody.
func (s *Store) partialDir(r Ref) string {
	return filepath.Join(s.dir, dirPartial, r.ID.String()+"-"+r.Root.String())
}

// Stat describes a complete file, or else the partial one that has most.
func (s *Store) Stat(id ID) (Info, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.complete[id]; c != nil {
		return c.info(), true
	}
	var best Info
	found := false
	for key, e := range s.partial {
		if key.id == id {
			if info := e.info(); !found || info.Have > best.Have {
				best, found = info, true
			}
		}
	}
	return best, found
}

func (c *content) info() Info {
	return Info{Ref: c.ref, Complete: true, Have: c.ref.Size, Pinned: c.pinned, Added: c.added}
}

func (e *partialEntry) info() Info {
	have := e.have
	if e.p != nil {
		have = e.p.Have()
	}
	return Info{Ref: e.ref, Have: have, Want: e.want}
}

// List describes all files, complete ones first, in the order of their ids.
func (s *Store) List() []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Info, 0, len(s.complete)+len(s.partial))
	for _, c := range s.complete {
		out = append(out, c.info())
	}
	for _, e := range s.partial {
		out = append(out, e.info())
	}
	slices.SortFunc(out, func(a, b Info) int {
		if a.Complete != b.Complete {
			if a.Complete {
				return -1
			}
			return 1
		}
		return cmp.Or(slices.Compare(a.ID[:], b.ID[:]), slices.Compare(a.Root[:], b.Root[:]))
	})
	return out
}

// Usage returns the bytes that count against the quota, and the quota, 0 when
// there is none.
func (s *Store) Usage() (used, quota int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used, s.o.Quota
}

// reserveLocked checks that size more bytes may be stored, of which need are
// not on the disk yet.
func (s *Store) reserveLocked(size, need int64) error {
	if s.o.Quota > 0 && s.used+size > s.o.Quota {
		return fmt.Errorf("%w: %d of %d bytes used, %d more needed", ErrQuota, s.used, s.o.Quota, size)
	}
	if s.o.Reserve < 0 {
		return nil
	}
	if free, ok := freeSpace(s.dir); ok && free < need+s.o.Reserve {
		return fmt.Errorf("%w: %d bytes free, %d needed and %d left as a reserve", ErrNoSpace, free, need, s.o.Reserve)
	}
	return nil
}

// Room reports whether a file of so many bytes has room now: ErrTooLarge,
// ErrQuota or ErrNoSpace if not.
func (s *Store) Room(size int64) error {
	if size > s.o.MaxSize {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, s.o.MaxSize)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reserveLocked(max(size, 0), max(size, 0))
}

// Pin keeps a complete file from being evicted, or no longer.
func (s *Store) Pin(id ID, pinned bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.complete[id]
	if c == nil {
		return fmt.Errorf("pinning file %s: %w", id.Short(), ErrNotFound)
	}
	path := filepath.Join(s.contentDir(id), namePin)
	var err error
	if pinned {
		err = os.WriteFile(path, nil, fileMode)
	} else if err = os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("pinning file %s: %w", id.Short(), classify(err))
	}
	c.pinned = pinned
	return nil
}

// Forget removes a file, complete or partial, from this device. Readers that
// have it open go on until they close it, where the system allows that;
// a partial file that is open is closed.
func (s *Store) Forget(id ID) error {
	s.mu.Lock()
	var closing []*Partial
	found := s.complete[id] != nil
	for key, e := range s.partial {
		if key.id == id {
			found = true
			if e.p != nil {
				closing = append(closing, e.p)
			}
		}
	}
	s.mu.Unlock()
	if !found {
		return fmt.Errorf("forgetting file %s: %w", id.Short(), ErrNotFound)
	}
	for _, p := range closing {
		_ = p.shut(ErrNotFound) // what it has is removed anyway
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.complete[id] != nil {
		err = s.removeLocked(id)
	}
	for key, e := range s.partial {
		if key.id == id {
			err = errors.Join(err, os.RemoveAll(s.partialDir(e.ref)))
			s.dropPartialLocked(key)
		}
	}
	if err != nil {
		return fmt.Errorf("forgetting file %s: %w", id.Short(), err)
	}
	return nil
}

// removeLocked removes a complete file: in one step, so that no half of it is
// found after a crash.
func (s *Store) removeLocked(id ID) error {
	doomed := filepath.Join(s.dir, dirTmp, "gone-"+id.String())
	if err := os.RemoveAll(doomed); err != nil {
		return err
	}
	if err := os.Rename(s.contentDir(id), doomed); err != nil {
		return err
	}
	s.dropCompleteLocked(id)
	return os.RemoveAll(doomed)
}

// Collect removes complete files that are not pinned, not open, older than
// minAge, and that keep says no to. It returns how many, and their bytes. keep
// is called without locks.
func (s *Store) Collect(minAge time.Duration, keep func(ID) bool) (removed int, freed int64, err error) {
	now := s.o.Now()
	for _, info := range s.List() {
		if !info.Complete || info.Pinned || now.Sub(info.Added) < minAge || keep(info.ID) {
			continue
		}
		s.mu.Lock()
		if c := s.complete[info.ID]; c != nil && !c.pinned && c.open == 0 {
			if e := s.removeLocked(info.ID); e != nil {
				err = errors.Join(err, fmt.Errorf("evicting file %s: %w", info.ID.Short(), e))
			} else {
				removed++
				freed += c.ref.Size
			}
		}
		s.mu.Unlock()
	}
	return removed, freed, err
}

// Close closes what is open of partial files, so that what they have is
// durable. Readers of complete files go on. It is idempotent.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	var open []*Partial
	for _, e := range s.partial {
		if e.p != nil {
			open = append(open, e.p)
		}
	}
	s.mu.Unlock()
	var err error
	for _, p := range open {
		err = errors.Join(err, p.shut(ErrClosed))
	}
	return err
}

// syncDir makes renames in a folder durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return ignoreUnsupported(err)
}
