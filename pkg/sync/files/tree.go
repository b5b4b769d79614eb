package files

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"
)

// node is the hash of a chunk or of a page.
type node = [hashLen]byte

const (
	chunkTag = 0x00
	pageTag  = 0x01
	rootTag  = "peers/file/1\n"
)

func tagged(tag byte, b []byte) node {
	h := sha256.New()
	_, _ = h.Write([]byte{tag})
	_, _ = h.Write(b)
	return node(h.Sum(nil))
}

// rootOf computes the root of a file out of its size and top.
func rootOf(size int64, top []byte) Root {
	h := sha256.New()
	_, _ = io.WriteString(h, rootTag)
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(size)))
	_, _ = h.Write(top)
	return Root(h.Sum(nil))
}

// RefOf computes the reference of a small content at once.
func RefOf(content []byte) Ref {
	var b treeBuilder
	for i := 0; i < len(content); i += ChunkSize {
		_ = b.add(content[i:min(i+ChunkSize, len(content))], io.Discard)
	}
	return Ref{ID: sha256.Sum256(content), Root: b.root(int64(len(content))), Size: int64(len(content))}
}

// treeBuilder computes a tree chunk by chunk. The hashes of chunks are written
// out, only those of pages are held.
type treeBuilder struct {
	page []byte
	top  []byte
}

func (b *treeBuilder) add(chunk []byte, leaves io.Writer) error {
	h := tagged(chunkTag, chunk)
	b.page = append(b.page, h[:]...)
	if _, err := leaves.Write(h[:]); err != nil {
		return err
	}
	if len(b.page) == PageLen*hashLen {
		b.endPage()
	}
	return nil
}

func (b *treeBuilder) endPage() {
	if len(b.page) > 0 {
		h := tagged(pageTag, b.page)
		b.top = append(b.top, h[:]...)
		b.page = b.page[:0]
	}
}

func (b *treeBuilder) root(size int64) Root {
	b.endPage()
	return rootOf(size, b.top)
}

// A tree file is the magic, the size, id and root, the top and the pages, one
// behind the other; what is not known yet is zero and does not verify.
const (
	treeMagic  = "PSTREE1\n"
	treeHeader = len(treeMagic) + 8 + 2*hashLen
)

func appendTreeHeader(b []byte, r Ref) []byte {
	b = append(b, treeMagic...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Size))
	b = append(b, r.ID[:]...)
	return append(b, r.Root[:]...)
}

// parseTreeHeader reads what a tree file is about.
func parseTreeHeader(b []byte) (Ref, error) {
	if len(b) < treeHeader || string(b[:len(treeMagic)]) != treeMagic {
		return Ref{}, fmt.Errorf("%w: not a tree file", ErrTree)
	}
	b = b[len(treeMagic):]
	r := Ref{Size: int64(binary.BigEndian.Uint64(b)), ID: ID(b[8 : 8+hashLen]), Root: Root(b[8+hashLen : 8+2*hashLen])}
	return r, r.Validate()
}

// pagesCached is how many pages a tree keeps in memory.
const pagesCached = 4

// tree reads and completes a tree file. Nothing that does not verify comes out
// of it. It is safe for concurrent use.
type tree struct {
	ref Ref
	f   *os.File

	mu    sync.Mutex
	top   []byte // nil until known
	known [pagesCached]struct {
		page   int
		hashes []byte
	}
	next int // place in known that is used next
}

// openTree opens the tree of a partial or complete file.
func openTree(path string, flag int) (*tree, error) {
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	header := make([]byte, treeHeader)
	if _, err := io.ReadFull(f, header); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%w: %w", ErrTree, err)
	}
	ref, err := parseTreeHeader(header)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	t := &tree{ref: ref, f: f}
	top := make([]byte, ref.Pages()*hashLen)
	if n, err := f.ReadAt(top, int64(treeHeader)); n == len(top) || err == nil {
		if rootOf(ref.Size, top) == ref.Root {
			t.top = top
		}
	}
	return t, nil
}

func (t *tree) hasTop() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.top != nil
}

// topBytes returns the top, which must not be changed, or nil.
func (t *tree) topBytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.top
}

// setTop verifies and keeps the top.
func (t *tree) setTop(b []byte) error {
	if len(b) != t.ref.Pages()*hashLen || rootOf(t.ref.Size, b) != t.ref.Root {
		return fmt.Errorf("top of file %s: %w", t.ref.ID.Short(), ErrTree)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.top != nil {
		return nil
	}
	if _, err := t.f.WriteAt(b, int64(treeHeader)); err != nil {
		return classify(err)
	}
	t.top = append([]byte{}, b...)
	return nil
}

func (t *tree) pageOffset(page int) int64 {
	return int64(treeHeader) + int64(t.ref.Pages())*hashLen + int64(page)*PageLen*hashLen
}

// page returns the verified hashes of a page, which must not be changed.
func (t *tree) page(page int) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pageLocked(page)
}

func (t *tree) pageLocked(page int) ([]byte, error) {
	for i := range t.known {
		if k := &t.known[i]; k.hashes != nil && k.page == page {
			return k.hashes, nil
		}
	}
	size := t.ref.pageBytes(page)
	if size == 0 || t.top == nil {
		return nil, fmt.Errorf("page %d of file %s: %w", page, t.ref.ID.Short(), ErrNoPage)
	}
	b := make([]byte, size)
	if n, err := t.f.ReadAt(b, t.pageOffset(page)); n < size {
		return nil, fmt.Errorf("page %d of file %s: %w (%w)", page, t.ref.ID.Short(), ErrNoPage, err)
	}
	if !t.fits(page, b) {
		return nil, fmt.Errorf("page %d of file %s: %w", page, t.ref.ID.Short(), ErrNoPage)
	}
	t.keep(page, b)
	return b, nil
}

func (t *tree) fits(page int, b []byte) bool {
	return len(b) == t.ref.pageBytes(page) && tagged(pageTag, b) == node(t.top[page*hashLen:(page+1)*hashLen])
}

func (t *tree) keep(page int, b []byte) {
	t.known[t.next].page, t.known[t.next].hashes = page, b
	t.next = (t.next + 1) % pagesCached
}

// setPage verifies and keeps a page; the top has to be known.
func (t *tree) setPage(page int, b []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.top == nil || t.ref.pageBytes(page) == 0 || !t.fits(page, b) {
		return fmt.Errorf("page %d of file %s: %w", page, t.ref.ID.Short(), ErrTree)
	}
	if _, err := t.pageLocked(page); err == nil {
		return nil
	}
	if _, err := t.f.WriteAt(b, t.pageOffset(page)); err != nil {
		return classify(err)
	}
	t.keep(page, append([]byte{}, b...))
	return nil
}

// verify reports whether b is a chunk of the file.
func (t *tree) verify(chunk int, b []byte) error {
	if n := t.ref.ChunkLen(chunk); n == 0 || len(b) != n {
		return fmt.Errorf("chunk %d of file %s: %w: %d bytes, want %d", chunk, t.ref.ID.Short(), ErrChunk, len(b), n)
	}
	hashes, err := t.page(chunk / PageLen)
	if err != nil {
		return err
	}
	at := chunk % PageLen * hashLen
	if tagged(chunkTag, b) != node(hashes[at:at+hashLen]) {
		return fmt.Errorf("chunk %d of file %s: %w", chunk, t.ref.ID.Short(), ErrChunk)
	}
	return nil
}

func (t *tree) close() error { return t.f.Close() }
