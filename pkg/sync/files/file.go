package files

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// File reads a complete file. Each chunk is verified whenever it is read from
// the disk; one that is not what was stored gives a *DamagedError. Read and Seek
// are for one goroutine, ReadChunk, Top and Page for any number.
type File struct {
	store *Store
	ref   Ref
	tree  *tree
	data  *os.File
	once  sync.Once

	at     int64
	buf    []byte // holds chunk, when it is not -1
	chunk  int
	loaded []byte
}

// Open opens a complete file; close it.
func (s *Store) Open(id ID) (*File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.complete[id]
	if c == nil {
		return nil, fmt.Errorf("opening file %s: %w", id.Short(), ErrNotFound)
	}
	dir := s.contentDir(id)
	t, err := openTree(filepath.Join(dir, nameTree), os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("opening file %s: %w", id.Short(), err)
	}
	data, err := os.Open(filepath.Join(dir, nameData))
	if err != nil {
		_ = t.close()
		return nil, fmt.Errorf("opening file %s: %w", id.Short(), err)
	}
	c.open++
	return &File{store: s, ref: t.ref, tree: t, data: data, chunk: -1}, nil
}

// Ref returns what the file is.
func (f *File) Ref() Ref { return f.ref }

// Bitmap returns a bitmap with all chunks.
func (f *File) Bitmap() Bitmap {
	b := NewBitmap(f.ref)
	b.Fill(f.ref)
	return b
}

// Top returns the top of the tree, which must not be changed, or nil when it is
// damaged.
func (f *File) Top() []byte { return f.tree.topBytes() }

// Page returns a page of the tree, which must not be changed.
func (f *File) Page(page int) ([]byte, error) { return f.tree.page(page) }

// ReadChunk reads and verifies a chunk into buf, which has room for ChunkSize
// bytes, and returns its length.
func (f *File) ReadChunk(chunk int, buf []byte) (int, error) {
	b := buf[:f.ref.ChunkLen(chunk)]
	n, err := f.data.ReadAt(b, int64(chunk)*ChunkSize)
	if n == len(b) {
		err = f.tree.verify(chunk, b)
	}
	if err == nil {
		return n, nil
	}
	if errors.Is(err, os.ErrClosed) {
		return 0, fmt.Errorf("reading file %s: %w", f.ref.ID.Short(), ErrClosed)
	}
	return 0, &DamagedError{ID: f.ref.ID, Chunk: chunk, Cause: err}
}

// Read reads the next bytes.
func (f *File) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if f.at >= f.ref.Size {
		return 0, io.EOF
	}
	chunk := int(f.at / ChunkSize)
	if chunk != f.chunk {
		if f.buf == nil {
			f.buf = make([]byte, ChunkSize)
		}
		f.chunk = -1
		n, err := f.ReadChunk(chunk, f.buf)
		if err != nil {
			return 0, err
		}
		f.chunk, f.loaded = chunk, f.buf[:n]
	}
	n := copy(b, f.loaded[f.at-int64(chunk)*ChunkSize:])
	f.at += int64(n)
	return n, nil
}

// Seek sets where Read goes on.
func (f *File) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += f.ref.Size
	default:
		return 0, fmt.Errorf("seeking in file %s: whence %d", f.ref.ID.Short(), whence)
	}
	if offset < 0 {
		return 0, fmt.Errorf("seeking in file %s: before its begin", f.ref.ID.Short())
	}
	f.at = offset
	return offset, nil
}

// Close gives the file back. It is idempotent.
func (f *File) Close() error {
	var err error
	f.once.Do(func() {
		f.store.mu.Lock()
		if c := f.store.complete[f.ref.ID]; c != nil && c.open > 0 {
			c.open--
		}
		f.store.mu.Unlock()
		err = errors.Join(f.data.Close(), f.tree.close())
	})
	return err
}

// A Source gives chunks of a file, complete or not. Close it.
type Source interface {
	// Ref returns what the file is.
	Ref() Ref
	// Bitmap returns a bitmap of the chunks that are here; the caller owns it.
	Bitmap() Bitmap
	// Top returns the top of the tree, or nil.
	Top() []byte
	// Page returns a page of the tree, or ErrNoPage.
	Page(page int) ([]byte, error)
	// ReadChunk reads and verifies a chunk into buf.
	ReadChunk(chunk int, buf []byte) (int, error)
	Close() error
}

// Source returns what is here of exactly this reference, or ErrNotFound.
func (s *Store) Source(ref Ref) (Source, error) {
	s.mu.Lock()
	c, e := s.complete[ref.ID], s.partial[keyOf(ref)]
	s.mu.Unlock()
	switch {
	case c != nil && c.ref == ref:
		return s.Open(ref.ID)
	case c == nil && e != nil && e.ref == ref:
		return s.Begin(ref, nil)
	}
	return nil, fmt.Errorf("file %s: %w", ref.ID.Short(), ErrNotFound)
}
