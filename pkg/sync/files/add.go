package files

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Add stores what r has until its end as a complete file, in one pass and
// without holding more than a chunk. It is durable when Add returns. progress,
// which may be nil, gets the bytes so far. What is there already stays.
func (s *Store) Add(ctx context.Context, r io.Reader, progress func(int64)) (Ref, error) {
	dir, err := os.MkdirTemp(filepath.Join(s.dir, dirTmp), "add-")
	if err != nil {
		return Ref{}, fmt.Errorf("adding a file: %w", classify(err))
	}
	defer func() { _ = os.RemoveAll(dir) }()
	a := &adder{store: s, dir: dir, progress: progress}
	defer a.release()
	ref, err := a.copy(ctx, r)
	if err == nil {
		err = s.install(dir, ref, &a.held)
	}
	if err != nil {
		return Ref{}, fmt.Errorf("adding a file: %w", classify(err))
	}
	return ref, nil
}

// adder is one addition.
type adder struct {
	store    *Store
	dir      string
	progress func(int64)
	held     int64 // bytes in store.used
}

func (a *adder) release() {
	a.store.mu.Lock()
	a.store.used -= a.held
	a.store.mu.Unlock()
}

// copy writes data and tree.
func (a *adder) copy(ctx context.Context, r io.Reader) (Ref, error) {
	data, err := os.OpenFile(filepath.Join(a.dir, nameData), os.O_CREATE|os.O_WRONLY|os.O_EXCL, fileMode)
	if err != nil {
		return Ref{}, err
	}
	defer func() { _ = data.Close() }()
	leaves, err := os.OpenFile(filepath.Join(a.dir, "leaves"), os.O_CREATE|os.O_RDWR|os.O_EXCL, fileMode)
	if err != nil {
		return Ref{}, err
	}
	defer func() { _ = leaves.Close() }()
	buffered := bufio.NewWriter(leaves)
	ref, top, err := a.stream(ctx, r, data, buffered)
	if err != nil {
		return Ref{}, err
	}
	if err := errors.Join(buffered.Flush(), data.Sync(), data.Close()); err != nil {
		return Ref{}, err
	}
	if _, err := leaves.Seek(0, io.SeekStart); err != nil {
		return Ref{}, err
	}
	if err := writeTree(filepath.Join(a.dir, nameTree), ref, top, leaves); err != nil {
		return Ref{}, err
	}
	return ref, os.Remove(leaves.Name())
}

// stream reads r chunk by chunk.
func (a *adder) stream(ctx context.Context, r io.Reader, data, leaves io.Writer) (Ref, []byte, error) {
	var ref Ref
	var b treeBuilder
	whole := sha256.New()
	buf := make([]byte, ChunkSize)
	for {
		if err := ctx.Err(); err != nil {
			return ref, nil, err
		}
		n, err := io.ReadFull(r, buf)
		if n == 0 && err == nil || err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return ref, nil, fmt.Errorf("reading it: %w", err)
		}
		if n == 0 {
			break
		}
		if err := a.grow(&ref, n); err != nil {
			return ref, nil, err
		}
		_, _ = whole.Write(buf[:n])
		if _, err := data.Write(buf[:n]); err != nil {
			return ref, nil, err
		}
		if err := b.add(buf[:n], leaves); err != nil {
			return ref, nil, err
		}
		if a.progress != nil {
			a.progress(ref.Size)
		}
		if n < len(buf) {
			break
		}
	}
	ref.ID = ID(whole.Sum(nil))
	ref.Root = b.root(ref.Size)
	return ref, b.top, nil
}

// grow takes room for n more bytes.
func (a *adder) grow(ref *Ref, n int) error {
	ref.Size += int64(n)
	if ref.Size > a.store.o.MaxSize {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, a.store.o.MaxSize)
	}
	s := a.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.reserveLocked(int64(n), int64(n)); err != nil {
		return err
	}
	s.used += int64(n)
	a.held += int64(n)
	return nil
}

// writeTree writes a tree file whose hashes of chunks come from leaves.
func writeTree(path string, ref Ref, top []byte, leaves io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	_, err = w.Write(append(appendTreeHeader(nil, ref), top...))
	if err == nil {
		_, err = io.Copy(w, leaves)
	}
	return errors.Join(err, w.Flush(), f.Sync(), f.Close())
}

// install makes the folder of a complete file a part of the store. The room that
// was taken for it is given back first. A file that is there already wins.
func (s *Store) install(dir string, ref Ref, held *int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= *held
	*held = 0
	if s.closed {
		return ErrClosed
	}
	if c := s.complete[ref.ID]; c != nil {
		c.added = s.o.Now() // it is wanted: its age begins anew
		return nil
	}
	to := s.contentDir(ref.ID)
	if err := os.MkdirAll(filepath.Dir(to), dirMode); err != nil {
		return err
	}
	// What is there and not known was damaged when the store was opened.
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.Rename(dir, to); err != nil {
		return err
	}
	s.setCompleteLocked(&content{ref: ref, added: s.o.Now()})
	return errors.Join(syncDir(filepath.Dir(to)), syncDir(filepath.Dir(filepath.Dir(to))))
}
