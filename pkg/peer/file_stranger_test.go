package peer_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	"github.com/peersignal/peersignal/pkg/peer/link"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/files"
	"github.com/peersignal/peersignal/pkg/sync/files/exchange"
)

// knock connects with a user as somebody who has an invitation and does nothing with it: a link without a peer. stop ends it.
func knock(t *testing.T, s *server, id peercrypto.Identity, host *user, inv entry.Invitation) (c *link.Conn, stop func()) {
	t.Helper()
	doc, err := peercrypto.SignUserDoc(id.User, id.Genesis, "eve", time.Now().UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	l, err := link.New(link.Config{
		Server: s.url(), Identity: id, UserDoc: doc, AllowLoopback: true, Logger: slog.New(slog.DiscardHandler),
		Admit: func(context.Context, link.Remote) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	wg.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	found := make(chan struct{}, 1)
	wg.Go(func() {
		for ev := range l.Events() {
			switch ev := ev.(type) {
			case link.ServerUp:
				l.SetTopics([]link.Topic{{
					Tag: peercrypto.RendezvousTag(peercrypto.InviteRendezvousKey(inv.IPK()), ev.Name), EnvSalt: peercrypto.InviteEnvelopeKey(inv.IPK()),
				}})
			case link.Discovered:
				if ev.Remote.DeviceID == host.Device() {
					select {
					case found <- struct{}{}:
					default:
					}
				}
			}
		}
	})
	select {
	case <-found:
	case <-time.After(patience):
		t.Fatal("nobody is there")
	}
	if c, err = l.Dial(deadline(t), host.Device()); err != nil {
		t.Fatal(err)
	}
	return c, stop
}

// TestFileForStranger: a public file is for everybody whom one of the groups made known. Who is here only to join one gets nothing, and is not told that
// there is such a file; nor is one asked for it.
func TestFileForStranger(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	alice := openWithFiles(t, s, "alice", peer.FileLimits{})
	garden := alice.create("garden")
	public := alice.addFile(garden, randomBytes(1<<20, 1), peer.FileMeta{Name: "public", Public: true})
	inv, err := alice.Invite(deadline(t), garden, groupsync.InviteOptions{Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	eve := newUser(t, "eve")
	c, leave := knock(t, s, eve.id, alice, inv)
	store, err := files.Open(filepath.Join(t.TempDir(), "files"), files.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	part, err := store.Begin(public.Ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		t.Helper()
		st, err := c.OpenStream(deadline(t), "files")
		if err != nil {
			t.Fatal(err)
		}
		return exchange.NewFetch(part, nil).Source(deadline(t), "alice", st)
	}
	if err := ask(); !errors.Is(err, exchange.ErrNone) {
		t.Errorf("a stranger asked for a public file: %v", err)
	}
	if have, _ := store.Stat(public.ID); have.Have != 0 {
		t.Errorf("a stranger got %d bytes", have.Have)
	}
	// As a member of another group of hers she is no stranger: public is public.
	club := alice.create("club")
	clubInv, err := alice.Invite(deadline(t), club, groupsync.InviteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	leave()
	eve.open(s)
	from := eve.events.len()
	if err := eve.Join(deadline(t), clubInv); err != nil {
		t.Fatal(err)
	}
	eve.events.wait(t, from, "she joins", is[peer.GroupJoined])
	eve.close()
	c, _ = knock(t, s, eve.id, alice, inv)
	if err := ask(); err != nil {
		t.Errorf("an acquaintance asked for a public file: %v", err)
	}
}
