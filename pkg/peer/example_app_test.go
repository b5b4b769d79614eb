package peer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/files"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

// Two people meet by an invitation and chat. Each message is a document, so that it is read by who was away, too.
func Example_chat() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	server, stop := exampleServer()
	defer stop()
	alice, closeAlice := examplePeer(ctx, server, "alice")
	defer closeAlice()
	bob, closeBob := examplePeer(ctx, server, "bob")
	defer closeBob()

	// Alice makes the group and an invitation, whose link she sends to Bob.
	chat := must(alice.CreateGroup(ctx, "chat"))
	link := must(alice.Invite(ctx, chat.ID, groupsync.InviteOptions{Role: entry.Write})).Link()

	// Bob subscribes first, so that he misses no answer, and joins.
	joined, stopEvents := context.WithCancel(ctx)
	events := bob.Events(joined)
	check(bob.Join(ctx, must(entry.ParseInvitation(link))))
	for ev := range events {
		if ev, ok := ev.(peer.GroupJoined); ok && ev.Group == chat.ID {
			break
		}
	}
	stopEvents()

	// Bob says something. Alice watches from version 0, which is the beginning; an app keeps the last version that it has handled.
	must(bob.Put(ctx, chat.ID, []byte(`{"type":"Message","text":"hello, it's Bob"}`)))
	heard := errors.New("heard")
	err := alice.Watch(ctx, chat.ID, 0, func(d groupsync.Document) error {
		var message struct{ Text string }
		if d.Deleted || d.Type != "Message" {
			return nil
		}
		check(json.Unmarshal(d.JSON, &message))
		fmt.Println("alice reads:", message.Text)
		return heard // ends the watch
	})
	fmt.Println(errors.Is(err, heard))
	// Output:
	// alice reads: hello, it's Bob
	// true
}

// A file belongs to a group. Members fetch it when they want it, from all who have it, and every chunk is verified.
func Example_files() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	server, stop := exampleServer()
	defer stop()
	alice, closeAlice := examplePeer(ctx, server, "alice")
	defer closeAlice()
	bob, closeBob := examplePeer(ctx, server, "bob")
	defer closeBob()
	share := must(alice.CreateGroup(ctx, "share"))
	events := bob.Events(ctx) // before the first of them can come
	check(bob.Join(ctx, must(alice.Invite(ctx, share.ID, groupsync.InviteOptions{Role: entry.Read}))))

	plan := must(alice.AddFile(ctx, share.ID, strings.NewReader("beans, peas and a pond"), peer.FileMeta{Name: "plan.txt", Type: "text/plain"}))

	// The document about the file comes by sync, as any other; then Bob knows the file.
	for ev := range events {
		if ev, ok := ev.(peer.DocumentChanged); ok && ev.Document.Subject == plan.Document {
			break
		}
	}
	check(bob.FetchFile(ctx, share.ID, plan.ID, nil)) // the last argument hears of the progress
	file := must(bob.OpenFile(ctx, share.ID, plan.ID))
	fmt.Println(string(must(io.ReadAll(file))))
	check(file.Close())
	// Output: beans, peas and a pond
}

// Documents are found by their fields when an index answers the question.
func ExamplePeer_Find() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p, closePeer := examplePeer(ctx, "", "alice") // without a server
	defer closePeer()
	garden := must(p.CreateGroup(ctx, "garden"))
	tasks := `{"n":1,"title":"water","done":false,"due":3} {"n":2,"title":"dig","done":true,"due":1} {"n":3,"title":"sow","done":false,"due":2}`
	must(p.Import(ctx, garden.ID, bytes.NewBufferString(tasks), peer.ImportOptions{Type: "Task", Key: "n"}))

	// First the fields that are compared with Equal, then the one that orders. It is made once and stays.
	check(p.EnsureIndex(ctx, groupsync.IndexSpec{Name: "due", Type: "Task", Fields: []string{"done", "due"}}))
	query := groupsync.DocumentQuery{
		Group: garden.ID, Type: "Task", OrderBy: "due", Limit: 100,
		Where: []groupsync.Condition{{Field: "done", Op: groupsync.Equal, Value: false}},
	}
	for {
		page := must(p.Find(ctx, query))
		for _, d := range page.Documents {
			var task struct{ Title string }
			check(json.Unmarshal(d.JSON, &task))
			fmt.Println(task.Title)
		}
		if page.Next == "" {
			break
		}
		query.Cursor = page.Next
	}
	// Output:
	// sow
	// water
}

// examplePeer makes a user with one device, and its store and files in a folder that is removed in the end. An app writes the identity with
// crypto.SaveKeystore, shows the recovery words once, and reads the identity with LoadKeystore at each start.
func examplePeer(ctx context.Context, server, name string) (*peer.Peer, func()) {
	dir := must(os.MkdirTemp("", "peer-example"))
	me, _, err := peercrypto.NewIdentity(time.Now())
	check(err)
	store := must(sqlite.Open(filepath.Join(dir, "peers.db"), sqlite.Options{}))
	kept := must(files.Open(filepath.Join(dir, "files"), files.Options{}))
	p := must(peer.Open(ctx, peer.Config{
		Identity: me, Store: store, Files: kept, Server: server, Name: name, Auto: true,
		AllowLoopback: true, Logger: slog.New(slog.DiscardHandler), // both for this example only
	}))
	return p, func() { check(errors.Join(p.Close(), kept.Close(), store.Close(), os.RemoveAll(dir))) }
}

// exampleServer is what `peersignal` is, in this process.
func exampleServer() (url string, stop func()) {
	s := must(signaling.New(signaling.Config{}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	web := httptest.NewServer(s.Handler())
	return web.URL, func() {
		web.CloseClientConnections()
		cancel()
		<-done
		web.Close()
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}
