package files_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/peersignal/peersignal/pkg/sync/files"
)

// FuzzTree gives a partial file tops, pages and chunks that somebody made up:
// nothing gets in that is not of the file.
func FuzzTree(f *testing.F) {
	content := random(files.ChunkSize+9, 1)
	f.Add(uint8(0), 0, []byte{})
	f.Add(uint8(1), 0, make([]byte, 64))
	f.Add(uint8(2), 1, content[files.ChunkSize:])
	f.Add(uint8(2), -1, []byte{1})
	from, err := files.Open(f.TempDir(), files.Options{})
	if err != nil {
		f.Fatal(err)
	}
	ref := add(f, from, content)
	good, err := from.Open(ref.ID)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = good.Close() })
	to := open(f, f.TempDir(), files.Options{})
	f.Fuzz(func(t *testing.T, what uint8, index int, b []byte) {
		p, err := to.Begin(ref, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = to.Forget(ref.ID); _ = p.Close() }()
		if what%4 > 0 {
			if err := p.SetTop(good.Top()); err != nil {
				t.Fatal(err)
			}
		}
		if what%4 > 1 {
			page, _ := good.Page(0)
			if err := p.SetPage(0, page); err != nil {
				t.Fatal(err)
			}
		}
		switch what % 4 {
		case 0:
			if err := p.SetTop(b); err == nil && !bytes.Equal(b, good.Top()) {
				t.Error("a forged top")
			}
		case 1:
			page, _ := good.Page(0)
			if err := p.SetPage(index, b); err == nil && (index != 0 || !bytes.Equal(b, page)) {
				t.Error("a forged page")
			}
		default:
			if err := p.Put(index, b); err == nil && !bytes.Equal(b, chunkOf(content, index)) {
				t.Error("a forged chunk")
			}
		}
	})
}

// FuzzStore opens a store whose tree and map files somebody spoilt: what comes
// out of it is of the file, or it is not there.
func FuzzStore(f *testing.F) {
	content := random(files.ChunkSize+9, 1)
	ref := files.RefOf(content)
	f.Add([]byte{}, []byte{})
	f.Add([]byte("PSTREE1\n"), []byte{3, 3})
	f.Add(append([]byte("PSTREE1\n\x00\x00\x00\x00\x00\x04\x00\x09"), append(ref.ID[:], ref.Root[:]...)...), []byte{3, 3})
	spoilt := ref.Root
	spoilt[len(spoilt)-1]++
	f.Add(append([]byte("PSTREE1\n\x00\x00\x00\x00\x00\x04\x00\x09"), append(ref.ID[:], spoilt[:]...)...), []byte{3, 3})
	f.Add(append([]byte("PSTREE1\n\xff\x00\x00\x00\x00\x04\x00\x09"), append(ref.ID[:], ref.Root[:]...)...), []byte{3, 3})
	f.Fuzz(func(t *testing.T, tree, marks []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "partial", ref.ID.String()+"-"+ref.Root.String())
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{"tree": tree, "map": marks, "data": content} {
			if err := os.WriteFile(filepath.Join(path, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := files.Open(dir, files.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		p, err := s.Begin(ref, nil)
		if errors.Is(err, files.ErrRef) {
			return // another size
		}
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		buf := make([]byte, files.ChunkSize)
		for i := range ref.Chunks() {
			if n, err := p.ReadChunk(i, buf); err == nil && !bytes.Equal(buf[:n], chunkOf(content, i)) {
				t.Error("a chunk that is not of the file")
			}
		}
	})
}

func FuzzParseRef(f *testing.F) {
	f.Add(files.RefOf([]byte("hello")).Text())
	f.Add("peers:file#..")
	f.Fuzz(func(t *testing.T, text string) {
		if ref, err := files.ParseRef(text); err == nil && ref.Text() != text {
			t.Errorf("%q is read as %q", text, ref.Text())
		}
	})
}
