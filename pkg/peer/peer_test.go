package peer_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

func TestTwoPeersMeetJoinAndSync(t *testing.T) {
	s := startServer(t)
	alice, bob := newUser(t, "alice").open(s), newUser(t, "bob").open(s)
	group := alice.create("garden")
	first := alice.put(group, `{"type":"Note","text":"before bob"}`)
	alice.invites(bob, group, groupsync.InviteOptions{})
	equal(t, group, 1, alice, bob)

	from := alice.events.len()
	second := bob.put(group, `{"type":"Note","text":"from bob"}`)
	alice.events.wait(t, from, "alice sees bob's note", func(ev peer.Event) bool {
		d, ok := ev.(peer.DocumentChanged)
		return ok && d.Document.Subject == second
	})
	from = bob.events.len()
	if _, err := alice.Put(deadline(t), group, []byte(`{"id":"`+string(first)+`","type":"Note","text":"edited"}`)); err != nil {
		t.Fatal(err)
	}
	bob.events.wait(t, from, "bob sees the edit", func(ev peer.Event) bool {
		d, ok := ev.(peer.DocumentChanged)
		return ok && d.Document.Subject == first && strings.Contains(string(d.Document.JSON), "edited")
	})
	if err := alice.Delete(deadline(t), group, second); err != nil {
		t.Fatal(err)
	}
	equal(t, group, 1, alice, bob)
	var a, b bytes.Buffer
	if err := errors.Join(alice.Export(deadline(t), group, &a), bob.Export(deadline(t), group, &b)); err != nil {
		t.Fatal(err)
	}
	if a.Len() == 0 || !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Errorf("exports differ:\n%s\n%s", a.Bytes(), b.Bytes())
	}
	want := map[peercrypto.ID]string{alice.User(): "alice", bob.User(): "bob"}
	eventually(t, "alice knows the members and their names", func() bool {
		names := map[peercrypto.ID]string{}
		for _, m := range alice.group(group).Members {
			names[m.UserID] = m.Name
		}
		return maps.Equal(names, want)
	})
}

// TestManual is the loop of the package comment.
func TestManual(t *testing.T) {
	s := startServer(t)
	manual := func(c *peer.Config) { c.Auto = false }
	alice, bob := newUser(t, "alice").open(s, manual), newUser(t, "bob").open(s, manual)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, u := range []*user{alice, bob} {
		events := u.Events(ctx)
		go func() {
			for ev := range events {
				switch ev := ev.(type) {
				case peer.DeviceDiscovered:
					go func() { _ = u.Connect(ctx, ev.Device) }()
				case peer.DeviceConnected:
					go func() { _ = u.Sync(ctx, ev.Device) }()
				}
			}
		}()
	}
	group := alice.create("garden")
	alice.put(group, `{"type":"Note","text":"hello"}`)
	alice.invites(bob, group, groupsync.InviteOptions{})
	equal(t, group, 1, alice, bob)

	if err := alice.Connect(ctx, bob.Device()); err != nil {
		t.Errorf("connecting twice: %v", err)
	}
	if err := alice.Sync(ctx, bob.Device()); !errors.Is(err, peer.ErrSyncing) {
		t.Errorf("a second session: %v", err)
	}
	if err := alice.Sync(ctx, "00kqn91s56yt2gu3yf5vnbg67"); !errors.Is(err, peer.ErrNotConnected) {
		t.Errorf("syncing with nobody: %v", err)
	}
	if err := alice.Connect(ctx, "00kqn91s56yt2gu3yf5vnbg67"); !errors.Is(err, peer.ErrNotPresent) {
		t.Errorf("connecting with nobody: %v", err)
	}
}

// TestRelay lets changes go from alice to carol through bob only.
func TestRelay(t *testing.T) {
	s := startServer(t)
	alice, bob, carol := newUser(t, "alice").open(s), newUser(t, "bob").open(s), newUser(t, "carol").open(s)
	group := alice.create("garden")
	alice.invites(bob, group, groupsync.InviteOptions{Role: "admin"})
	alice.invites(carol, group, groupsync.InviteOptions{})
	alice.put(group, `{"type":"Note","text":"seen by all"}`)
	equal(t, group, 1, alice, bob, carol)

	alice.close()
	eventually(t, "alice is gone", func() bool { return !bob.connectedTo(alice) && !carol.connectedTo(alice) })
	carol.close()
	alice.open(s)
	alice.put(group, `{"type":"Note","text":"while carol was away"}`)
	equal(t, group, 2, alice, bob)
	alice.close()
	carol.open(s)
	equal(t, group, 2, bob, carol)
}

func TestServerRestart(t *testing.T) {
	s := startServer(t)
	alice, bob := newUser(t, "alice").open(s), newUser(t, "bob").open(s)
	group := alice.create("garden")
	alice.invites(bob, group, groupsync.InviteOptions{})
	equal(t, group, 0, alice, bob)

	from := bob.events.len()
	s.stop()
	bob.events.wait(t, from, "bob notices", is[peer.ServerDown])
	alice.put(group, `{"type":"Note","text":"without a server"}`)
	equal(t, group, 1, alice, bob) // the connection stays

	s.start()
	bob.events.wait(t, from, "bob is back", is[peer.ServerUp])
	bob.events.wait(t, from, "bob sees alice again", func(ev peer.Event) bool {
		d, ok := ev.(peer.DeviceDiscovered)
		return ok && d.Device == alice.Device()
	})
	carol := newUser(t, "carol").open(s)
	alice.invites(carol, group, groupsync.InviteOptions{})
	equal(t, group, 1, alice, bob, carol)
}

func TestReconnectAfterLoss(t *testing.T) {
	s := startServer(t)
	alice, bob := newUser(t, "alice").open(s), newUser(t, "bob").open(s)
	group := alice.create("garden")
	alice.invites(bob, group, groupsync.InviteOptions{})
	equal(t, group, 0, alice, bob)
	eventually(t, "connected", func() bool { return alice.connectedTo(bob) && bob.connectedTo(alice) })

	if err := alice.Disconnect(bob.Device()); err != nil {
		t.Fatal(err)
	}
	// bob wants the connection, so bob dials.
	from := bob.events.len()
	bob.events.wait(t, from, "connected again", is[peer.DeviceConnected])
	bob.put(group, `{"type":"Note","text":"after the loss"}`)
	equal(t, group, 1, alice, bob)
}

func TestLeaveAndRemove(t *testing.T) {
	s := startServer(t)
	alice, bob, carol := newUser(t, "alice").open(s), newUser(t, "bob").open(s), newUser(t, "carol").open(s)
	group := alice.create("garden")
	alice.invites(bob, group, groupsync.InviteOptions{})
	alice.invites(carol, group, groupsync.InviteOptions{})
	alice.put(group, `{"type":"Note","text":"for all"}`)
	equal(t, group, 1, alice, bob, carol)

	if err := carol.Leave(deadline(t), group); err != nil {
		t.Fatal(err)
	}
	if _, err := carol.Put(deadline(t), group, []byte(`{"type":"Note"}`)); !errors.Is(err, groupsync.ErrNotMember) {
		t.Errorf("carol writes after she left: %v", err)
	}
	members := func(u *user) int {
		g, err := u.Group(context.Background(), group)
		if err != nil {
			t.Fatal(err)
		}
		return len(g.Members)
	}
	eventually(t, "the others know that carol left", func() bool { return members(alice) == 2 && members(bob) == 2 })
	if err := alice.Remove(deadline(t), group, bob.User(), "test"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "connections without a reason are closed", func() bool {
		return !alice.connectedTo(bob) && !alice.connectedTo(carol) && !bob.connectedTo(carol)
	})
	alice.put(group, `{"type":"Note","text":"alone"}`)
	if g, err := bob.Group(deadline(t), group); err != nil || g.Documents != 1 {
		t.Errorf("bob has %d documents after the removal: %v", g.Documents, err)
	}
}

// TestStranger knows all ids and the group's id, and gets nothing.
func TestStranger(t *testing.T) {
	s := startServer(t)
	alice, bob := newUser(t, "alice").open(s), newUser(t, "bob").open(s)
	group := alice.create("garden")
	alice.invites(bob, group, groupsync.InviteOptions{})
	equal(t, group, 0, alice, bob)

	eve := newUser(t, "eve").open(s)
	if err := eve.Connect(deadline(t), alice.Device()); !errors.Is(err, peer.ErrNotPresent) {
		t.Errorf("eve connects by device id: %v", err)
	}
	// A forged invitation with the right ids, on the right server.
	g, err := alice.Group(deadline(t), group)
	if err != nil {
		t.Fatal(err)
	}
	forged := entry.Invitation{
		Group: group, Create: peercrypto.Sum([]byte("guess")), OwnerGenesis: alice.id.Genesis.Hash(),
		Secret: [32]byte{1}, Servers: []string{s.url()}, Expires: time.Now().Add(time.Hour).UnixMilli(), Role: "admin", Name: g.Name,
	}
	if err := eve.Join(deadline(t), forged); err != nil {
		t.Fatal(err)
	}
	alice.put(group, `{"type":"Note","text":"not for eve"}`)
	equal(t, group, 1, alice, bob)
	if eve.events.any(is[peer.DeviceDiscovered]) || eve.events.any(is[peer.DeviceConnected]) {
		t.Error("eve sees devices of a group that she only knows ids of")
	}
	if groups, err := eve.Groups(deadline(t)); err != nil || len(groups) != 0 {
		t.Errorf("eve's groups: %v, %v", groups, err)
	}
}

func TestOffline(t *testing.T) {
	alice := newUser(t, "alice").open(nil)
	group := alice.create("garden")
	id := alice.put(group, `{"type":"Note","text":"alone"}`)
	if d, err := alice.Get(deadline(t), group, id); err != nil || d.Type != "Note" {
		t.Errorf("get: %+v, %v", d, err)
	}
	if _, err := alice.Invite(deadline(t), group, groupsync.InviteOptions{}); !errors.Is(err, peer.ErrOffline) {
		t.Errorf("inviting offline: %v", err)
	}
	if err := alice.Connect(deadline(t), id); !errors.Is(err, peer.ErrOffline) {
		t.Errorf("connecting offline: %v", err)
	}
	if !alice.Status().Offline {
		t.Error("status does not say offline")
	}
	alice.close()
	if _, open := <-alice.Events(context.Background()); open {
		t.Error("events after Close")
	}
	if !errors.Is(alice.Err(), peer.ErrClosed) {
		t.Errorf("Err after Close: %v", alice.Err())
	}
}

// TestMaxDevices: who does not fit waits, and comes when there is room.
func TestMaxDevices(t *testing.T) {
	s := startServer(t)
	alice := newUser(t, "alice").open(s)
	group := alice.create("garden")
	one := func(c *peer.Config) { c.MaxDevices = 1 }
	bob, carol := newUser(t, "bob").open(s), newUser(t, "carol").open(s)
	alice.invites(bob, group, groupsync.InviteOptions{})
	alice.invites(carol, group, groupsync.InviteOptions{})
	equal(t, group, 0, alice, bob, carol)
	for _, u := range []*user{alice, bob, carol} {
		u.close()
	}
	alice.open(s, one)
	bob.open(s, one)
	eventually(t, "alice and bob are connected", func() bool { return alice.connectedTo(bob) && bob.connectedTo(alice) })
	carol.open(s, one)
	eventually(t, "carol sees both", func() bool { return len(carol.Status().Devices) == 2 })
	bob.close()
	eventually(t, "carol has taken bob's place", func() bool { return alice.connectedTo(carol) && carol.connectedTo(alice) })
}

func TestContextEndsPeer(t *testing.T) {
	id, _, err := peercrypto.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.TempDir()+"/peerd.db", sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	p, err := peer.Open(ctx, peer.Config{Identity: id, Store: store, Server: startServer(t).url()})
	if err != nil {
		t.Fatal(err)
	}
	events := p.Events(context.Background())
	cancel()
	<-p.Done()
	for range events { // closed with the peer
	}
	if !errors.Is(p.Err(), context.Canceled) {
		t.Errorf("Err: %v", p.Err())
	}
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestOtherServer(t *testing.T) {
	s := startServer(t)
	alice, bob := newUser(t, "alice").open(s), newUser(t, "bob").open(s)
	group := alice.create("garden")
	inv, err := alice.Invite(deadline(t), group, groupsync.InviteOptions{Servers: []string{"https://elsewhere.example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := bob.Join(deadline(t), inv); !errors.Is(err, peer.ErrOtherServer) || !strings.Contains(err.Error(), "elsewhere") {
		t.Errorf("joining for another server: %v", err)
	}
}

// An invitation for a server without TLS has no consent in it, and has to be
// usable on a device that was started with that consent.
func TestInsecureServer(t *testing.T) {
	plain := func(c *peer.Config) { c.Server = "http://0.0.0.0:9?insecure=1" } // nobody answers
	alice, bob := newUser(t, "alice").open(nil, plain), newUser(t, "bob").open(nil, plain)
	inv, err := alice.Invite(deadline(t), alice.create("garden"), groupsync.InviteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := bob.Join(deadline(t), inv); err != nil {
		t.Errorf("joining: %v", err)
	}
}

func TestConfig(t *testing.T) {
	id, _, err := peercrypto.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.TempDir()+"/peerd.db", sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	for name, cfg := range map[string]peer.Config{
		"no identity": {Store: store},
		"no store":    {Identity: id},
		"bad server":  {Identity: id, Store: store, Server: "ftp://example.org"},
		"bad retry":   {Identity: id, Store: store, RetryMin: time.Hour, RetryMax: time.Second},
		"long name":   {Identity: id, Store: store, Name: strings.Repeat("x", 200)},
	} {
		if p, err := peer.Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: accepted", name)
			_ = p.Close()
		}
	}
}

func TestFindGroup(t *testing.T) {
	alice := newUser(t, "alice").open(nil)
	garden, first, second := alice.create("garden"), alice.create("twin"), alice.create("twin")
	for text, want := range map[string]peercrypto.ID{
		"garden": garden, string(garden): garden, string(garden[:20]): garden, string(first): first, string(second): second,
	} {
		if g, err := alice.FindGroup(t.Context(), text); err != nil || g.ID != want {
			t.Errorf("%q: %s, %v", text, g.ID, err)
		}
	}
	if _, err := alice.FindGroup(t.Context(), "twin"); !errors.Is(err, peer.ErrAmbiguous) {
		t.Errorf("twin: %v", err)
	}
	if _, err := alice.FindGroup(t.Context(), "nowhere"); !errors.Is(err, groupsync.ErrNotFound) {
		t.Errorf("nowhere: %v", err)
	}
}
