package peer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/files"
)

// withFiles gives a peer a store of files beside its database.
func (u *user) withFiles(limits peer.FileLimits) func(*peer.Config) {
	return func(cfg *peer.Config) {
		store, err := files.Open(filepath.Join(filepath.Dir(u.path), "files"), files.Options{})
		if err != nil {
			u.t.Fatal(err)
		}
		u.t.Cleanup(func() { _ = store.Close() })
		cfg.Files, cfg.FileLimits = store, limits
	}
}

func openWithFiles(t *testing.T, s *server, name string, limits peer.FileLimits) *user {
	u := newUser(t, name)
	return u.open(s, u.withFiles(limits))
}

func randomBytes(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func (u *user) addFile(group peercrypto.ID, content []byte, meta peer.FileMeta) peer.FileInfo {
	u.t.Helper()
	info, err := u.AddFile(deadline(u.t), group, bytes.NewReader(content), meta)
	if err != nil {
		u.t.Fatal(err)
	}
	return info
}

// knows waits until a user's group names a file.
func (u *user) knows(group peercrypto.ID, id files.ID) {
	u.t.Helper()
	eventually(u.t, u.name+" knows the file", func() bool {
		_, err := u.File(context.Background(), group, id)
		return err == nil
	})
}

func (u *user) readFile(group peercrypto.ID, id files.ID) []byte {
	u.t.Helper()
	f, err := u.OpenFile(deadline(u.t), group, id)
	if err != nil {
		u.t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		u.t.Fatal(err)
	}
	return b
}

func TestFileBetweenTwo(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	alice, bob := openWithFiles(t, s, "alice", peer.FileLimits{}), openWithFiles(t, s, "bob", peer.FileLimits{})
	group := alice.create("garden")
	alice.invites(bob, group, groupsync.InviteOptions{})
	content := randomBytes(5<<20+17, 1)
	info := alice.addFile(group, content, peer.FileMeta{Name: "plan.pdf", Type: "application/pdf"})
	if !info.Complete || info.Name != "plan.pdf" || info.Size != int64(len(content)) {
		t.Errorf("%+v", info)
	}
	bob.knows(group, info.ID)
	if _, err := bob.OpenFile(t.Context(), group, info.ID); !errors.Is(err, peer.ErrFileRemote) {
		t.Errorf("before the fetch: %v", err)
	}
	var last peer.FileInfo
	if err := bob.FetchFile(deadline(t), group, info.ID, func(i peer.FileInfo) { last = i }); err != nil {
		t.Fatal(err)
	}
	if last.ID != info.ID {
		t.Errorf("progress: %+v", last)
	}
	bob.events.wait(t, 0, "the file is complete", func(ev peer.Event) bool {
		p, ok := ev.(peer.FileProgress)
		return ok && p.File.ID == info.ID && p.File.Complete
	})
	if !bytes.Equal(bob.readFile(group, info.ID), content) {
		t.Error("another content")
	}
	list, err := bob.Files(t.Context(), group)
	if err != nil || len(list) != 1 || !list[0].Complete || list[0].Name != "plan.pdf" || list[0].Fetching {
		t.Errorf("%+v, %v", list, err)
	}
	if err := bob.ForgetFile(t.Context(), info.ID); err != nil {
		t.Fatal(err)
	}
	if got, _ := bob.File(t.Context(), group, info.ID); got.Complete || got.Have != 0 {
		t.Errorf("after forgetting: %+v", got)
	}
}

// TestFileFromTwo fetches from two devices, each of which is slow.
func TestFileFromTwo(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	slow := peer.FileLimits{PeerUploadRate: 4 << 20}
	alice, bob := openWithFiles(t, s, "alice", slow), openWithFiles(t, s, "bob", slow)
	carol := openWithFiles(t, s, "carol", peer.FileLimits{})
	group := alice.create("garden")
	alice.invites(bob, group, groupsync.InviteOptions{})
	alice.invites(carol, group, groupsync.InviteOptions{})
	content := randomBytes(12<<20, 1)
	info := alice.addFile(group, content, peer.FileMeta{Name: "film"})
	bob.addFile(group, content, peer.FileMeta{Name: "film"})
	carol.knows(group, info.ID)
	eventually(t, "carol is connected with both", func() bool { return carol.connectedTo(alice) && carol.connectedTo(bob) })
	most := 0
	if err := carol.FetchFile(deadline(t), group, info.ID, func(i peer.FileInfo) { most = max(most, i.Sources) }); err != nil {
		t.Fatal(err)
	}
	if most != 2 {
		t.Errorf("from %d devices at once", most)
	}
	if !bytes.Equal(carol.readFile(group, info.ID), content) {
		t.Error("another content")
	}
}

// TestFileResumes ends the fetcher in the middle: opened again it goes on by
// itself.
func TestFileResumes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	alice := openWithFiles(t, s, "alice", peer.FileLimits{UploadRate: 4 << 20})
	bob := openWithFiles(t, s, "bob", peer.FileLimits{})
	group := alice.create("garden")
	alice.invites(bob, group, groupsync.InviteOptions{})
	content := randomBytes(12<<20, 1)
	info := alice.addFile(group, content, peer.FileMeta{Name: "film"})
	bob.knows(group, info.ID)
	ctx, cancel := context.WithCancel(t.Context())
	err := bob.FetchFile(ctx, group, info.ID, func(i peer.FileInfo) {
		if i.Have > 2<<20 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("FetchFile: %v", err)
	}
	bob.close()
	bob.open(s, bob.withFiles(peer.FileLimits{}))
	got, err := bob.File(t.Context(), group, info.ID)
	if err != nil || got.Have < 2<<20 || got.Complete || !got.Fetching {
		t.Errorf("after the restart: %+v, %v", got, err)
	}
	eventually(t, "the file is complete", func() bool {
		got, err := bob.File(t.Context(), group, info.ID)
		return err == nil && got.Complete
	})
	if !bytes.Equal(bob.readFile(group, info.ID), content) {
		t.Error("another content")
	}
}

// TestFileRights has somebody who shares another group with the owner.
func TestFileRights(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	alice, dave := openWithFiles(t, s, "alice", peer.FileLimits{}), openWithFiles(t, s, "dave", peer.FileLimits{})
	garden, other := alice.create("garden"), alice.create("other")
	alice.invites(dave, other, groupsync.InviteOptions{Role: entry.Read})
	eventually(t, "they are connected", func() bool { return dave.connectedTo(alice) })
	info := alice.addFile(garden, randomBytes(1<<20, 1), peer.FileMeta{Name: "secret"})

	if _, err := dave.AddFile(t.Context(), other, bytes.NewReader(nil), peer.FileMeta{}); !errors.Is(err, groupsync.ErrReadOnly) {
		t.Errorf("a reader adds a file: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := dave.FetchFileRef(short, info.Ref, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stranger fetches: %v", err)
	}
	if got, err := dave.FileByRef(info.Ref); err != nil || got.Have != 0 {
		t.Errorf("a stranger has %+v, %v", got, err)
	}
	if err := dave.ForgetFile(t.Context(), info.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.ShareFile(t.Context(), garden, info.ID, []peercrypto.ID{dave.User()}, false); err != nil {
		t.Fatal(err)
	}
	if err := dave.FetchFileRef(deadline(t), info.Ref, nil); err != nil {
		t.Errorf("the named user: %v", err)
	}
	if _, err := dave.OpenFileRef(t.Context(), info.ID); err != nil {
		t.Error(err)
	}
	public := alice.addFile(garden, randomBytes(1<<20, 2), peer.FileMeta{Name: "leaflet", Public: true})
	if err := dave.FetchFileRef(deadline(t), public.Ref, nil); err != nil {
		t.Errorf("a public file: %v", err)
	}
}

// TestFileRepairsItself spoils a copy on disk.
func TestFileRepairsItself(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	alice, bob := openWithFiles(t, s, "alice", peer.FileLimits{}), openWithFiles(t, s, "bob", peer.FileLimits{})
	group := alice.create("garden")
	alice.invites(bob, group, groupsync.InviteOptions{})
	content := randomBytes(2<<20, 1)
	info := alice.addFile(group, content, peer.FileMeta{Name: "film"})
	bob.knows(group, info.ID)
	if err := bob.FetchFile(deadline(t), group, info.ID, nil); err != nil {
		t.Fatal(err)
	}
	text := info.ID.String()
	path := filepath.Join(filepath.Dir(bob.path), "files", "content", text[:2], text, "data")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("rotten"), 1<<20); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if !bytes.Equal(bob.readFile(group, info.ID), content) {
		t.Error("another content")
	}
}

// TestFileIsEvicted deletes the last document that names a file.
func TestFileIsEvicted(t *testing.T) {
	t.Parallel()
	alice := openWithFiles(t, nil, "alice", peer.FileLimits{EvictAfter: time.Nanosecond})
	group := alice.create("garden")
	kept := alice.addFile(group, randomBytes(100, 1), peer.FileMeta{Name: "kept"})
	pinned := alice.addFile(group, randomBytes(100, 2), peer.FileMeta{Name: "pinned"})
	gone := alice.addFile(group, randomBytes(100, 3), peer.FileMeta{Name: "gone"})
	if err := alice.PinFile(pinned.ID, true); err != nil {
		t.Fatal(err)
	}
	for _, info := range []peer.FileInfo{pinned, gone} {
		if err := alice.Delete(t.Context(), group, info.Document); err != nil {
			t.Fatal(err)
		}
	}
	alice.close()
	alice.open(nil, alice.withFiles(peer.FileLimits{EvictAfter: time.Nanosecond}))
	eventually(t, "the file is gone", func() bool {
		local, used, _, err := alice.LocalFiles()
		return err == nil && len(local) == 2 && used == 200
	})
	if _, err := alice.OpenFileRef(t.Context(), gone.ID); !errors.Is(err, peer.ErrFileRemote) {
		t.Errorf("the evicted one: %v", err)
	}
	if !bytes.Equal(alice.readFile(group, kept.ID), randomBytes(100, 1)) {
		t.Error("another content")
	}
}

func TestFileDocuments(t *testing.T) {
	t.Parallel()
	alice := openWithFiles(t, nil, "alice", peer.FileLimits{})
	group := alice.create("garden")
	info := alice.addFile(group, nil, peer.FileMeta{Name: "empty"})
	if info.Document != peer.FileDocumentID(group, info.ID) || info.Size != 0 || !info.Complete {
		t.Errorf("%+v", info)
	}
	for _, meta := range []peer.FileMeta{{Name: "a\nb"}, {Name: string(make([]byte, 300))}, {Type: string(bytes.Repeat([]byte("x"), 200))}} {
		if _, err := alice.AddFile(t.Context(), group, bytes.NewReader(nil), meta); !errors.Is(err, groupsync.ErrInvalidDocument) {
			t.Errorf("%q: %v", meta.Name, err)
		}
	}
	for _, doc := range []string{
		`{"type":"File","name":"no file"}`,
		`{"type":"File","file":"00","root":"00","size":1,"name":"x"}`,
		`{"type":"File","file":"` + info.ID.String() + `","root":"` + info.Root.String() + `","size":0,"name":"not its id"}`,
	} {
		alice.put(group, doc)
	}
	list, err := alice.Files(t.Context(), group)
	if err != nil || len(list) != 1 {
		t.Errorf("%d files, %v", len(list), err)
	}
	none := newUser(t, "none").open(nil)
	if _, err := none.Files(t.Context(), none.create("x")); !errors.Is(err, peer.ErrNoFiles) {
		t.Errorf("without a store: %v", err)
	}
}

// TestFileDocumentLies has an author whose document gives another content's root
// to a file's id, and who has the bytes to it.
func TestFileDocumentLies(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	kept, err := files.Open(filepath.Join(t.TempDir(), "files"), files.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })
	alice := newUser(t, "alice").open(s, func(cfg *peer.Config) { cfg.Files = kept })
	bob := openWithFiles(t, s, "bob", peer.FileLimits{})
	group := alice.create("garden")
	alice.invites(bob, group, groupsync.InviteOptions{})

	content := randomBytes(files.ChunkSize, 1)
	lie := files.RefOf(content)
	lie.ID = files.RefOf([]byte("what was promised")).ID
	p, err := kept.Begin(lie, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	good, err := kept.Add(t.Context(), bytes.NewReader(content), nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := kept.Open(good.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page, _ := f.Page(0)
	if err := errors.Join(p.SetTop(f.Top()), p.SetPage(0, page), p.Put(0, content), kept.Mark(lie, string(group))); err != nil {
		t.Fatal(err)
	}
	document := peer.FileDocumentID(group, lie.ID)
	alice.put(group, fmt.Sprintf(`{"type":"File","id":%q,"file":%q,"root":%q,"size":%d,"name":"promise"}`, document, lie.ID, lie.Root, lie.Size))

	bob.knows(group, lie.ID)
	err = bob.FetchFile(deadline(t), group, lie.ID, nil)
	if !errors.Is(err, files.ErrContent) || !strings.Contains(err.Error(), string(document)) {
		t.Errorf("FetchFile: %v", err)
	}
	local, used, _, err := bob.LocalFiles()
	if err != nil || len(local) != 0 || used != 0 {
		t.Errorf("%d bytes of %+v are left, %v", used, local, err)
	}
	if info, err := bob.File(t.Context(), group, lie.ID); err != nil || !errors.Is(info.Err, files.ErrContent) {
		t.Errorf("%+v, %v", info, err)
	}
}
