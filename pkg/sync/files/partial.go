package files

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
)

// flushEvery is how many bytes are written until they are flushed to the disk.
const flushEvery = 64 << 20

// Partial is a file that is being put together. It is safe for concurrent use.
// Every Begin needs a Close.
type Partial struct {
	store *Store
	ref   Ref
	dir   string
	tree  *tree
	data  *os.File
	marks *os.File // the map: written, then durable

	mu      sync.Mutex
	bits    maps
	count   int   // bits set in written
	fresh   int64 // bytes written since the last flush
	users   int
	end     error // why it can't be used any more
	flushed sync.WaitGroup

	have atomic.Int64 // bytes
	wake chan struct{}

	// The hash of the content up to hashed; the holder of hashing owns it.
	hashing sync.Mutex
	whole   hash.Hash
	hashed  int
}

// Begin opens the partial file of a reference, or makes it when it is not there.
// want is kept with a new one. A file that is complete is ErrComplete.
func (s *Store) Begin(ref Ref, want []byte) (*Partial, error) {
	p, err := s.begin(ref, want)
	if err != nil {
		return nil, fmt.Errorf("beginning file %s: %w", ref.ID.Short(), classify(err))
	}
	return p, nil
}

func (s *Store) begin(ref Ref, want []byte) (*Partial, error) {
	if err := ref.Validate(); err != nil {
		return nil, err
	}
	if ref.Size > s.o.MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, ref.Size, s.o.MaxSize)
	}
	if len(want) > maxWant {
		return nil, fmt.Errorf("%w: %d bytes to remember", ErrTooLarge, len(want))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if s.complete[ref.ID] != nil {
		return nil, ErrComplete
	}
	e := s.partial[keyOf(ref)]
	if e == nil {
		if err := s.makePartial(ref, want); err != nil {
			return nil, err
		}
		e = &partialEntry{ref: ref, want: slices.Clone(want)}
		s.setPartialLocked(e)
	}
	if e.ref.Size != ref.Size {
		return nil, fmt.Errorf("%w: another size than before", ErrRef)
	}
	if e.p != nil {
		e.p.mu.Lock()
		defer e.p.mu.Unlock()
		if e.p.end != nil {
			return nil, e.p.end
		}
		e.p.users++
		return e.p, nil
	}
	p, err := s.openPartial(ref)
	if err == nil {
		e.p = p
	}
	return p, err
}

// makePartial makes the folder of a new partial file.
func (s *Store) makePartial(ref Ref, want []byte) error {
	if err := s.reserveLocked(ref.Size, ref.Size); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Join(s.dir, dirTmp), "begin-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for name, b := range map[string][]byte{
		nameTree: appendTreeHeader(nil, ref), nameMap: make([]byte, 2*ref.bitmapLen()), nameWant: want, nameData: nil,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, fileMode); err != nil {
			return err
		}
	}
	to := s.partialDir(ref)
	if err := os.Rename(dir, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// openPartial opens what is there and verifies what was written and may not
// have reached the disk.
func (s *Store) openPartial(ref Ref) (*Partial, error) {
	dir := s.partialDir(ref)
	t, err := openTree(filepath.Join(dir, nameTree), os.O_RDWR)
	if err != nil {
		return nil, err
	}
	p := &Partial{store: s, ref: ref, dir: dir, tree: t, users: 1, wake: make(chan struct{}, 1), whole: sha256.New()}
	if p.data, err = os.OpenFile(filepath.Join(dir, nameData), os.O_RDWR|os.O_CREATE, fileMode); err == nil {
		p.marks, err = os.OpenFile(filepath.Join(dir, nameMap), os.O_RDWR|os.O_CREATE, fileMode)
	}
	if err == nil {
		p.bits, err = readMap(dir, ref)
	}
	if err != nil {
		p.closeFiles()
		return nil, err
	}
	p.recover()
	p.flushed.Go(p.flushLoop)
	return p, nil
}

// recover verifies chunks that are written and not durable.
func (p *Partial) recover() {
	var buf []byte
	for i := range p.ref.Chunks() {
		if p.bits.written.Has(i) && !p.bits.durable.Has(i) {
			if buf == nil {
				buf = make([]byte, ChunkSize)
			}
			b := buf[:p.ref.ChunkLen(i)]
			if n, _ := p.data.ReadAt(b, int64(i)*ChunkSize); n < len(b) || p.tree.verify(i, b) != nil {
				p.bits.written.Clear(i)
			}
			p.fresh = 1 // it is flushed with the next flush
		}
		if p.bits.written.Has(i) {
			p.count++
		}
	}
	p.have.Store(heldBytes(p.ref, p.bits.written))
}

func (p *Partial) closeFiles() {
	_ = p.tree.close()
	for _, f := range []*os.File{p.data, p.marks} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// maps are the two bitmaps of a partial file.
type maps struct{ written, durable Bitmap }

// readMap reads the map in a folder; what is missing of it counts as zero.
func readMap(dir string, ref Ref) (maps, error) {
	b, err := os.ReadFile(filepath.Join(dir, nameMap))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return maps{}, err
	}
	n := ref.bitmapLen()
	b = append(b, make([]byte, 2*n)...)[:2*n]
	m := maps{written: b[:n:n], durable: b[n : 2*n]}
	m.written.trim(ref)
	m.durable.trim(ref)
	return m, nil
}

func heldBytes(ref Ref, b Bitmap) int64 {
	var n int64
	for i := range ref.Chunks() {
		if b.Has(i) {
			n += int64(ref.ChunkLen(i))
		}
	}
	return n
}

// Ref returns what the file is.
func (p *Partial) Ref() Ref { return p.ref }

// Have returns how many bytes are here and verified.
func (p *Partial) Have() int64 { return p.have.Load() }

// Has reports whether a chunk is here.
func (p *Partial) Has(chunk int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bits.written.Has(chunk)
}

// Bitmap returns a copy of the bitmap of the chunks that are here.
func (p *Partial) Bitmap() Bitmap {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.bits.written)
}

// Complete reports whether all chunks are here.
func (p *Partial) Complete() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count == p.ref.Chunks() && p.tree.hasTop()
}

// Top returns the top of the tree, which must not be changed, or nil.
func (p *Partial) Top() []byte { return p.tree.topBytes() }

// SetTop keeps the top if it fits the root, else it returns ErrTree.
func (p *Partial) SetTop(b []byte) error { return p.tree.setTop(b) }

// Page returns a page of the tree, which must not be changed, or ErrNoPage.
func (p *Partial) Page(page int) ([]byte, error) { return p.tree.page(page) }

// SetPage keeps a page if it fits the top, else it returns ErrTree.
func (p *Partial) SetPage(page int, b []byte) error { return p.tree.setPage(page, b) }

// Put verifies and writes a chunk, from which it keeps nothing. ErrChunk means
// that it is not the one of the tree; a chunk that is there already is no error.
func (p *Partial) Put(chunk int, b []byte) error {
	if err := p.tree.verify(chunk, b); err != nil {
		return err
	}
	if err := p.usable(); err != nil {
		return err
	}
	if p.Has(chunk) {
		return nil
	}
	// The same bytes at the same place, should two sources be here at once.
	if _, err := p.data.WriteAt(b, int64(chunk)*ChunkSize); err != nil {
		return fmt.Errorf("writing chunk %d of file %s: %w", chunk, p.ref.ID.Short(), classify(p.because(err)))
	}
	if err := p.mark(chunk, len(b)); err != nil {
		return fmt.Errorf("noting chunk %d of file %s: %w", chunk, p.ref.ID.Short(), classify(err))
	}
	p.digest(chunk, b)
	return nil
}

func (p *Partial) usable() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end
}

// because prefers the reason why the file was closed.
func (p *Partial) because(err error) error {
	if end := p.usable(); end != nil {
		return end
	}
	return err
}

// mark notes that a chunk is written.
func (p *Partial) mark(chunk, size int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end != nil {
		return p.end
	}
	if p.bits.written.Has(chunk) {
		return nil
	}
	p.bits.written.Set(chunk)
	if _, err := p.marks.WriteAt(p.bits.written[chunk/8:chunk/8+1], int64(chunk/8)); err != nil {
		p.bits.written.Clear(chunk)
		return err
	}
	p.count++
	p.have.Add(int64(size))
	if p.fresh += int64(size); p.fresh >= flushEvery {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// digestAhead bounds the chunks that one Put hashes beside its own.
const digestAhead = 8

// digest goes on with the hash of the whole content, as far as it is cheap:
// with a chunk that is in memory when it is the next one, and a few behind it.
func (p *Partial) digest(chunk int, b []byte) {
	if !p.hashing.TryLock() {
		return // whoever holds it, or the next Put, goes on from the disk
	}
	defer p.hashing.Unlock()
	if chunk == p.hashed {
		_, _ = p.whole.Write(b)
		p.hashed++
	}
	_ = p.digestFrom(digestAhead)
}

// digestFrom hashes at most n chunks from the disk that are there. The caller
// holds hashing.
func (p *Partial) digestFrom(n int) error {
	var buf []byte
	for ; n > 0 && p.hashed < p.ref.Chunks() && p.Has(p.hashed); n-- {
		if buf == nil {
			buf = make([]byte, ChunkSize)
		}
		size, err := p.ReadChunk(p.hashed, buf)
		if err != nil {
			return err
		}
		_, _ = p.whole.Write(buf[:size])
		p.hashed++
	}
	return nil
}

// ReadChunk reads and verifies a chunk into buf, which has room for ChunkSize
// bytes, and returns its length. One that does not verify is not here any more.
func (p *Partial) ReadChunk(chunk int, buf []byte) (int, error) {
	if err := p.usable(); err != nil {
		return 0, err
	}
	if !p.Has(chunk) {
		return 0, fmt.Errorf("chunk %d of file %s: %w", chunk, p.ref.ID.Short(), ErrNotFound)
	}
	b := buf[:p.ref.ChunkLen(chunk)]
	n, err := p.data.ReadAt(b, int64(chunk)*ChunkSize)
	if n == len(b) {
		err = p.tree.verify(chunk, b)
	}
	if err == nil {
		return n, nil
	}
	if end := p.usable(); end != nil {
		return 0, end
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bits.written.Has(chunk) {
		p.clearLocked(chunk)
	}
	return 0, &DamagedError{ID: p.ref.ID, Chunk: chunk, Cause: err}
}

// clearLocked takes a chunk back, with p.mu held.
func (p *Partial) clearLocked(chunk int) {
	p.bits.written.Clear(chunk)
	p.bits.durable.Clear(chunk)
	p.count--
	p.have.Add(-int64(p.ref.ChunkLen(chunk)))
	_, _ = p.marks.WriteAt(p.bits.written[chunk/8:chunk/8+1], int64(chunk/8))
	_, _ = p.marks.WriteAt(p.bits.durable[chunk/8:chunk/8+1], int64(len(p.bits.written)+chunk/8))
}

// flushLoop flushes whenever enough was written.
func (p *Partial) flushLoop() {
	for range p.wake {
		_ = p.flush() // what is not durable is verified when it is opened again
	}
}

// flush makes what is written durable: first the data, then the marks.
func (p *Partial) flush() error {
	p.mu.Lock()
	written := slices.Clone(p.bits.written)
	idle := p.fresh == 0
	p.fresh = 0
	p.mu.Unlock()
	if idle {
		return nil
	}
	if err := errors.Join(p.tree.f.Sync(), p.data.Sync()); err != nil {
		return err
	}
	p.mu.Lock()
	for i := range written {
		written[i] &= p.bits.written[i] // damaged meanwhile
	}
	p.bits.durable = written
	_, err := p.marks.WriteAt(written, int64(len(written)))
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return p.marks.Sync()
}

// Close gives the partial file back. The last Close makes what it has durable.
func (p *Partial) Close() error {
	p.mu.Lock()
	p.users--
	last := p.users == 0 && p.end == nil
	p.mu.Unlock()
	if !last {
		return nil
	}
	return p.shut(ErrClosed)
}
