package files_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/peersignal/peersignal/pkg/sync/files"
	"github.com/peersignal/peersignal/test/leak"
)

func TestMain(m *testing.M) {
	if os.Getenv(killDir) != "" {
		os.Exit(writeUntilKilled())
	}
	leak.Main(m)
}

func open(t testing.TB, dir string, o files.Options) *files.Store {
	t.Helper()
	s, err := files.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// random returns content that is the same for the same seed.
func random(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func add(t testing.TB, s *files.Store, content []byte) files.Ref {
	t.Helper()
	ref, err := s.Add(t.Context(), bytes.NewReader(content), nil)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func read(t testing.TB, s *files.Store, id files.ID) []byte {
	t.Helper()
	f, err := s.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// begin opens a partial file and gives it the tree of f.
func begin(t testing.TB, s *files.Store, f *files.File) *files.Partial {
	t.Helper()
	p, err := s.Begin(f.Ref(), []byte("want"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetTop(f.Top()); err != nil {
		t.Fatal(err)
	}
	for i := range f.Ref().Pages() {
		page, err := f.Page(i)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.SetPage(i, page); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func put(t testing.TB, p *files.Partial, content []byte, chunks ...int) {
	t.Helper()
	for _, i := range chunks {
		if err := p.Put(i, chunkOf(content, i)); err != nil {
			t.Fatal(err)
		}
	}
}

func chunkOf(content []byte, i int) []byte {
	return content[i*files.ChunkSize : min((i+1)*files.ChunkSize, len(content))]
}

func TestAddAndRead(t *testing.T) {
	s := open(t, t.TempDir(), files.Options{})
	for i, n := range []int{0, 1, files.ChunkSize - 1, files.ChunkSize, files.ChunkSize + 1, 3*files.ChunkSize + 77} {
		content := random(n, byte(i))
		ref := add(t, s, content)
		if ref.ID != files.ID(sha256.Sum256(content)) || ref.Size != int64(n) || ref != files.RefOf(content) {
			t.Errorf("%d bytes: %v, want %v", n, ref, files.RefOf(content))
		}
		if got := read(t, s, ref.ID); !bytes.Equal(got, content) {
			t.Errorf("%d bytes came back as %d", n, len(got))
		}
		info, ok := s.Stat(ref.ID)
		if !ok || !info.Complete || info.Have != int64(n) {
			t.Errorf("%d bytes: %+v", n, info)
		}
	}
	if used, _ := s.Usage(); used != 6*files.ChunkSize+77+1 {
		t.Errorf("%d bytes used", used)
	}
	again := add(t, s, random(1, 1))
	if len(s.List()) != 6 || again != files.RefOf(random(1, 1)) {
		t.Errorf("%d files after adding one twice", len(s.List()))
	}
}

func TestSeek(t *testing.T) {
	s := open(t, t.TempDir(), files.Options{})
	content := random(2*files.ChunkSize+5, 1)
	f, err := s.Open(add(t, s, content).ID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{0, 1, files.ChunkSize - 1, files.ChunkSize, int64(len(content)) - 1, int64(len(content)), 7} {
		if _, err := f.Seek(at, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.LimitReader(f, 10))
		if want := content[at:min(int(at)+10, len(content))]; err != nil || !bytes.Equal(got, want) {
			t.Errorf("at %d: %x, %v; want %x", at, got, err, want)
		}
	}
	if end, err := f.Seek(-3, io.SeekEnd); err != nil || end != int64(len(content))-3 {
		t.Errorf("%d, %v", end, err)
	}
	if _, err := f.Seek(-1, io.SeekStart); err == nil {
		t.Error("seeking before the begin succeeded")
	}
	if _, err := f.Seek(0, 9); err == nil {
		t.Error("whence 9 succeeded")
	}
}

func TestStoreIsThereAgain(t *testing.T) {
	dir := t.TempDir()
	content := random(files.ChunkSize+9, 2)
	s := open(t, dir, files.Options{})
	ref := add(t, s, content)
	if err := s.Pin(ref.ID, true); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tmp", "left"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, files.Options{})
	if info, _ := s.Stat(ref.ID); !info.Pinned || !info.Complete || info.Added.IsZero() {
		t.Errorf("%+v", info)
	}
	if !bytes.Equal(read(t, s, ref.ID), content) {
		t.Error("another content")
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "tmp")); len(left) > 0 {
		t.Error("tmp was not swept")
	}
}

func TestPartial(t *testing.T) {
	from, dir := open(t, t.TempDir(), files.Options{}), t.TempDir()
	content := random(5*files.ChunkSize+100, 3)
	ref := add(t, from, content)
	f, err := from.Open(ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	to := open(t, dir, files.Options{})
	p := begin(t, to, f)
	put(t, p, content, 5, 0, 3)
	if err := p.Finish(); !errors.Is(err, files.ErrIncomplete) {
		t.Errorf("Finish: %v", err)
	}
	buf := make([]byte, files.ChunkSize)
	if n, err := p.ReadChunk(5, buf); err != nil || !bytes.Equal(buf[:n], chunkOf(content, 5)) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}

	to = open(t, dir, files.Options{})
	if info, ok := to.Stat(ref.ID); !ok || info.Complete || info.Have != 2*files.ChunkSize+100 || string(info.Want) != "want" {
		t.Errorf("%+v", info)
	}
	p = begin(t, to, f)
	for i, want := range []bool{true, false, false, true, false, true} {
		if p.Has(i) != want {
			t.Errorf("chunk %d: %v", i, p.Has(i))
		}
	}
	put(t, p, content, 1, 2, 4, 4)
	if !p.Complete() {
		t.Error("not complete")
	}
	if err := p.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := p.Put(1, chunkOf(content, 1)); !errors.Is(err, files.ErrClosed) {
		t.Errorf("Put afterwards: %v", err)
	}
	_ = p.Close()
	if _, err := to.Begin(ref, nil); !errors.Is(err, files.ErrComplete) {
		t.Errorf("Begin afterwards: %v", err)
	}
	if !bytes.Equal(read(t, to, ref.ID), content) {
		t.Error("another content")
	}
}

func TestPutRefuses(t *testing.T) {
	from, to := open(t, t.TempDir(), files.Options{}), open(t, t.TempDir(), files.Options{})
	content := random(2*files.ChunkSize+10, 4)
	f, err := from.Open(add(t, from, content).ID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fresh, err := to.Begin(f.Ref(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	if err := fresh.Put(0, chunkOf(content, 0)); !errors.Is(err, files.ErrNoPage) {
		t.Errorf("without a page: %v", err)
	}
	if err := fresh.SetPage(0, make([]byte, 96)); !errors.Is(err, files.ErrTree) {
		t.Errorf("a page without a top: %v", err)
	}
	if err := fresh.SetTop(make([]byte, 32)); !errors.Is(err, files.ErrTree) {
		t.Errorf("a forged top: %v", err)
	}
	p := begin(t, to, f)
	defer p.Close()
	bad := bytes.Clone(chunkOf(content, 1))
	bad[77] ^= 1
	for i, b := range map[int][]byte{1: bad, 0: chunkOf(content, 1), 2: chunkOf(content, 0), 3: chunkOf(content, 0), -1: bad} {
		if err := p.Put(i, b); !errors.Is(err, files.ErrChunk) {
			t.Errorf("chunk %d: %v", i, err)
		}
	}
	if err := p.SetPage(0, make([]byte, 96)); !errors.Is(err, files.ErrTree) {
		t.Errorf("a forged page: %v", err)
	}
	if p.Have() != 0 {
		t.Errorf("%d bytes", p.Have())
	}
}

// TestWrongID has a root that names good content under another file's id.
func TestWrongID(t *testing.T) {
	from, to := open(t, t.TempDir(), files.Options{}), open(t, t.TempDir(), files.Options{})
	content := random(files.ChunkSize+10, 5)
	f, err := from.Open(add(t, from, content).ID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ref := f.Ref()
	ref.ID[0] ^= 1
	p, err := to.Begin(ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	page, _ := f.Page(0)
	if err := errors.Join(p.SetTop(f.Top()), p.SetPage(0, page)); err != nil {
		t.Fatal(err)
	}
	put(t, p, content, 0, 1)
	if err := p.Finish(); !errors.Is(err, files.ErrContent) {
		t.Errorf("Finish: %v", err)
	}
	if list := to.List(); len(list) != 0 {
		t.Errorf("%+v is left", list)
	}
	if used, _ := to.Usage(); used != 0 {
		t.Errorf("%d bytes used", used)
	}
}

func TestDamageIsFoundAndRepaired(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, files.Options{})
	content := random(4*files.ChunkSize, 6)
	ref := add(t, s, content)
	path := filepath.Join(dir, "content", ref.ID.String()[:2], ref.ID.String(), "data")
	spoil(t, path, 2*files.ChunkSize+5)

	f, err := s.Open(ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	var damaged *files.DamagedError
	if !errors.As(err, &damaged) || damaged.Chunk != 2 || !bytes.Equal(got, content[:2*files.ChunkSize]) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if err := s.Demote(damaged, []byte("again")); err != nil {
		t.Fatal(err)
	}
	if info, _ := s.Stat(ref.ID); info.Complete || info.Have != 3*files.ChunkSize {
		t.Errorf("%+v", info)
	}
	p := begin(t, s, f)
	defer p.Close()
	put(t, p, content, 2)
	if err := p.Finish(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, s, ref.ID), content) {
		t.Error("another content")
	}
}

func spoil(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}

func TestLimits(t *testing.T) {
	s := open(t, t.TempDir(), files.Options{Quota: 3 * files.ChunkSize, MaxSize: 2 * files.ChunkSize})
	if _, err := s.Add(t.Context(), bytes.NewReader(make([]byte, 2*files.ChunkSize+1)), nil); !errors.Is(err, files.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	add(t, s, random(2*files.ChunkSize, 1))
	if _, err := s.Add(t.Context(), bytes.NewReader(random(2*files.ChunkSize, 2)), nil); !errors.Is(err, files.ErrQuota) {
		t.Errorf("over the quota: %v", err)
	}
	if used, quota := s.Usage(); used != 2*files.ChunkSize || quota != 3*files.ChunkSize {
		t.Errorf("%d of %d used", used, quota)
	}
	if _, err := s.Begin(files.RefOf(random(2*files.ChunkSize, 3)), nil); !errors.Is(err, files.ErrQuota) {
		t.Errorf("partial over the quota: %v", err)
	}
	if _, err := s.Begin(files.Ref{Size: 1 << 40}, nil); !errors.Is(err, files.ErrTooLarge) {
		t.Errorf("partial too large: %v", err)
	}
	if _, err := s.Begin(files.Ref{Size: -1}, nil); !errors.Is(err, files.ErrRef) {
		t.Errorf("negative: %v", err)
	}
	full := open(t, t.TempDir(), files.Options{Reserve: 1 << 60})
	if _, err := full.Begin(files.RefOf(random(10, 3)), nil); !errors.Is(err, files.ErrNoSpace) {
		t.Errorf("full disk: %v", err)
	}
}

func TestCollectAndForget(t *testing.T) {
	now := time.Now()
	s := open(t, t.TempDir(), files.Options{Now: func() time.Time { return now }})
	kept, pinned, held, doomed := add(t, s, random(1, 1)), add(t, s, random(2, 2)), add(t, s, random(3, 3)), add(t, s, random(4, 4))
	if err := s.Pin(pinned.ID, true); err != nil {
		t.Fatal(err)
	}
	f, err := s.Open(held.ID)
	if err != nil {
		t.Fatal(err)
	}
	keep := func(id files.ID) bool { return id == kept.ID }
	if n, _, _ := s.Collect(time.Hour, keep); n != 0 {
		t.Errorf("%d young files removed", n)
	}
	now = now.Add(2 * time.Hour)
	if n, freed, err := s.Collect(time.Hour, keep); n != 1 || freed != 4 || err != nil {
		t.Errorf("%d files, %d bytes, %v", n, freed, err)
	}
	if _, ok := s.Stat(doomed.ID); ok {
		t.Error("the doomed one is there")
	}
	_ = f.Close()
	if err := s.Forget(held.ID); err != nil {
		t.Error(err)
	}
	if err := s.Forget(held.ID); !errors.Is(err, files.ErrNotFound) {
		t.Errorf("a second time: %v", err)
	}
	p, err := s.Begin(files.RefOf(random(9, 9)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Forget(p.Ref().ID); err != nil {
		t.Error(err)
	}
	if err := p.Put(0, random(9, 9)); err == nil {
		t.Error("a forgotten file takes chunks")
	}
	_ = p.Close()
	if len(s.List()) != 2 {
		t.Errorf("%+v", s.List())
	}
}

func TestRefText(t *testing.T) {
	ref := files.RefOf([]byte("hello"))
	got, err := files.ParseRef(ref.Text())
	if err != nil || got != ref {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{
		"", "peers:file#", "x" + ref.Text(), ref.Text() + ".1", strings.ToUpper(ref.Text()), ref.Text() + "00000000000000",
		strings.TrimSuffix(ref.Text(), "5") + "-5", strings.TrimSuffix(ref.Text(), "5") + "05", strings.Replace(ref.Text(), ".", "", 1),
	} {
		if _, err := files.ParseRef(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	b, err := json.Marshal(ref)
	if err != nil {
		t.Fatal(err)
	}
	var back files.Ref
	if err := json.Unmarshal(b, &back); err != nil || back != ref {
		t.Errorf("%s: %v", b, err)
	}
}

// TestBrokenFolders opens a store whose folders lack files, as a power cut can
// leave them.
func TestBrokenFolders(t *testing.T) {
	content := random(files.ChunkSize+9, 1)
	ref := files.RefOf(content)
	for _, name := range []string{"map", "want", "data", "tree"} {
		dir := t.TempDir()
		s := open(t, dir, files.Options{})
		p, err := s.Begin(ref, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(p.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, "partial", ref.ID.String()+"-"+ref.Root.String(), name)); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, files.Options{})
		p, err = s.Begin(ref, nil)
		if err != nil {
			t.Fatalf("without %s: %v", name, err)
		}
		if err := p.Close(); err != nil {
			t.Errorf("without %s: %v", name, err)
		}
	}
}
