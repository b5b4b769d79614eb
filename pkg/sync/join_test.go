package sync_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// nextEvent waits for an event of a type.
func nextEvent[E groupsync.Event](t testing.TB, events <-chan groupsync.Event) E {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		select {
		case ev, ok := <-events:
			if !ok {
				t.Fatal("the events ended")
			}
			if e, ok := ev.(E); ok {
				return e
			}
		case <-timeout:
			var e E
			t.Fatalf("no %T", e)
		}
	}
}

func TestInvitationRefusals(t *testing.T) {
	a := newNode(t, 0)
	g := a.create("g")
	used := a.invite(g, groupsync.InviteOptions{})
	first := newNode(t, 1)
	must(t, first.Join(t.Context(), used))
	c := connect(t, a, first)
	eventually(t, "the first one joined", func() bool { return c.synced(g) })
	c.end()

	withdrawn := a.invite(g, groupsync.InviteOptions{})
	expired := a.invite(g, groupsync.InviteOptions{Expires: time.Hour})
	open, err := a.Invitations(t.Context(), g)
	must(t, err)
	for _, inv := range open {
		if inv.Expires.UnixMilli() == withdrawn.Expires {
			must(t, a.Uninvite(t.Context(), g, inv.Hash))
		}
	}
	for _, inv := range []entry.Invitation{used, withdrawn} {
		if !slices.ContainsFunc(a.Rendezvous(), func(r groupsync.Rendezvous) bool { return r.Invite != nil && r.Invite.IPK == inv.IPK() }) {
			t.Error("nobody is there to tell that the invitation is closed")
		}
	}
	altered := used
	altered.Secret[0] ^= 1
	higher := a.invite(g, groupsync.InviteOptions{Role: entry.Read})
	higher.Role = entry.Admin

	for name, tc := range map[string]struct {
		inv  entry.Invitation
		code groupsync.RefusalCode
		skew time.Duration
	}{
		"used":        {used, groupsync.RefusedUsed, 0},
		"withdrawn":   {withdrawn, groupsync.RefusedRevoked, 0},
		"expired":     {expired, groupsync.RefusedExpired, 2 * time.Hour},
		"higher role": {higher, groupsync.RefusedUnspecified, 0},
	} {
		t.Run(name, func(t *testing.T) {
			j := newNode(t, 2)
			must(t, j.Join(t.Context(), tc.inv))
			events := j.Subscribe(t.Context())
			a.clock.add(tc.skew)
			defer a.clock.add(-tc.skew)
			c := connect(t, a, j)
			if ev := nextEvent[groupsync.JoinFailed](t, events); ev.Code != tc.code || ev.Final {
				t.Fatalf("%+v", ev)
			}
			c.end()
			if p, err := j.PendingJoins(t.Context()); err != nil || len(p) != 1 || p[0].Refusal == "" {
				t.Fatalf("%+v, %v", p, err)
			}
		})
	}
	t.Run("altered", func(t *testing.T) {
		// Who does not know the invitation is not even told which group is looked for.
		j := newNode(t, 2)
		must(t, j.Join(t.Context(), altered))
		c := connect(t, a, j)
		eventually(t, "both talked", func() bool { return c.a.Status().FramesIn >= 3 && c.b.Status().FramesIn >= 2 })
		c.end()
		if _, err := j.Group(t.Context(), g); !errors.Is(err, groupsync.ErrNotFound) {
			t.Fatal("the group is known")
		}
	})
	if len(a.info(g).Members) != 2 {
		t.Fatalf("%+v", a.info(g).Members)
	}
}

// TestNameOfJoiner: the admin knows the name of who joined when the join is done, in the same session, and by it only that of a member.
func TestNameOfJoiner(t *testing.T) {
	a, j := newNode(t, 0), newNode(t, 2)
	g := a.create("g")
	must(t, j.Join(t.Context(), a.invite(g, groupsync.InviteOptions{})))
	name := func() string {
		for _, m := range a.info(g).Members {
			if m.UserID == j.UserID() {
				return m.Name
			}
		}
		return ""
	}
	c := connect(t, a, j)
	eventually(t, "the joiner's name is known", func() bool { return name() == "user 2" })
	eventually(t, "the joiner knows all names", func() bool {
		return !slices.ContainsFunc(j.info(g).Members, func(m groupsync.MemberInfo) bool { return m.Name == "" })
	})
	must(t, j.SetName(t.Context(), "renamed"))
	eventually(t, "the new name is known", func() bool { return name() == "renamed" })
	c.end()

	// A document that is signed by another key, or is of somebody who is in no group of A's, is not kept.
	stranger := newNode(t, 3)
	for _, tc := range []struct{ peer, doc *node }{{j, stranger}, {stranger, j}} {
		forged := tc.peer.peer()
		forged.UserDoc = tc.doc.UserDoc()
		pa, pj := newPipe()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.NewSession(forged, pa).Run(ctx) }()
		talk := newRaw(t, pj)
		talk.hello()
		talk.send(groupsync.Control, frameOf(0x08, peercrypto.NewID(time.Now()), 0))
		talk.expect(0x09) // REFUSED: what came before was handled
		cancel()
		<-done
		if n := name(); n != "renamed" {
			t.Fatalf("the name is %q", n)
		}
		must(t, a.store.View(t.Context(), func(r groupsync.Reader) error {
			_, known, err := r.Value("users", string(stranger.UserID()))
			if known {
				t.Error("a stranger's name was stored")
			}
			return err
		}))
	}
}

func TestJoinSurvivesRestartAndExpires(t *testing.T) {
	a, j := newNode(t, 0), newNode(t, 2)
	g := a.create("g")
	inv := a.invite(g, groupsync.InviteOptions{Expires: time.Hour})
	must(t, j.Join(t.Context(), inv))
	must(t, j.Join(t.Context(), inv))
	j.reopen()
	if p, err := j.PendingJoins(t.Context()); err != nil || len(p) != 1 || p[0].Group != g || p[0].Name != "g" {
		t.Fatalf("%+v, %v", p, err)
	}
	if !slices.ContainsFunc(j.Rendezvous(), func(r groupsync.Rendezvous) bool { return r.Invite != nil && r.Invite.Joining }) {
		t.Fatal("no topic for the invitation")
	}
	c := connect(t, a, j)
	eventually(t, "it joined", func() bool { return c.synced(g) })
	c.end()
	if p, _ := j.PendingJoins(t.Context()); len(p) != 0 {
		t.Fatal("the join is still pending")
	}
	wantErr(t, j.Join(t.Context(), inv), groupsync.ErrInvitation)
	late := newNode(t, 3)
	late.clock.add(2 * time.Hour)
	wantErr(t, late.Join(t.Context(), inv), groupsync.ErrInvitation)
}

func TestFakeGroupIsRefused(t *testing.T) {
	a, j := newNode(t, 0), newNode(t, 2)
	real, fake := a.create("real"), a.create("fake")
	inv := a.invite(real, groupsync.InviteOptions{Uses: 2})
	other := a.invite(fake, groupsync.InviteOptions{})
	for name, bad := range map[string]entry.Invitation{
		"other owner": func() entry.Invitation { x := inv; x.OwnerGenesis[3] ^= 1; return x }(),
		"other create": func() entry.Invitation {
			x := inv
			x.Create = other.Create
			return x
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			must(t, j.Join(t.Context(), bad))
			events := j.Subscribe(t.Context())
			c := connect(t, a, j)
			ev := nextEvent[groupsync.JoinFailed](t, events)
			if ev.Code != groupsync.RefusedFake && ev.Code != groupsync.RefusedUnspecified {
				t.Fatalf("%+v", ev)
			}
			c.end()
			if _, err := j.Group(t.Context(), real); !errors.Is(err, groupsync.ErrNotFound) {
				t.Fatal("something of the group was stored")
			}
			must(t, j.CancelJoin(t.Context(), real))
		})
	}
}

func TestManualAdmission(t *testing.T) {
	a, j := newNode(t, 0), newNode(t, 2)
	g := a.create("g")
	inv := a.invite(g, groupsync.InviteOptions{Manual: true})
	must(t, j.Join(t.Context(), inv))
	events := j.Subscribe(t.Context())
	c := connect(t, a, j)
	if ev := nextEvent[groupsync.JoinFailed](t, events); ev.Code != groupsync.RefusedWaiting || ev.Final {
		t.Fatalf("%+v", ev)
	}
	reqs, err := a.JoinRequests(t.Context())
	must(t, err)
	if len(reqs) != 1 || reqs[0].UserID != j.UserID() || reqs[0].Name != "user 2" {
		t.Fatalf("%+v", reqs)
	}
	must(t, a.Admit(t.Context(), g, j.UserID()))
	eventually(t, "it joined in the same session", func() bool { return c.synced(g) })
	c.end()
	if reqs, _ := a.JoinRequests(t.Context()); len(reqs) != 0 {
		t.Fatal("the request is still there")
	}
}

func TestNonAdminCanNotAdmit(t *testing.T) {
	a, b, j := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	g := a.create("g")
	join(t, a, g, entry.Write, b)
	inv := a.invite(g, groupsync.InviteOptions{})
	syncPair(t, a, b, g).end()
	must(t, j.Join(t.Context(), inv))
	events := j.Subscribe(t.Context())
	c := connect(t, b, j)
	if ev := nextEvent[groupsync.JoinFailed](t, events); ev.Code != groupsync.RefusedNotAdmin {
		t.Fatalf("%+v", ev)
	}
	d := connect(t, a, j)
	eventually(t, "the admin admitted", func() bool { return d.synced(g) })
	d.end()
	c.end()
}

func TestOfferAndAccept(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 1)
	known, g := a.create("known"), a.create("offered")
	a.put(g, `{"type":"Note"}`)
	join(t, a, known, entry.Write, b)
	must(t, a.AddMember(t.Context(), g, b.ident.Genesis, entry.Write))
	wantErr(t, a.AddMember(t.Context(), g, b.ident.Genesis, entry.Write), groupsync.ErrLimit)
	events := b.Subscribe(t.Context())
	c := connect(t, a, b)
	if ev := nextEvent[groupsync.GroupOffered](t, events); ev.Group != g || ev.By != a.UserID() || ev.Name != "offered" {
		t.Fatalf("%+v", ev)
	}
	info := b.info(g)
	if !info.Offered || info.Joined || info.OfferedRole != entry.Write || info.Documents != 0 {
		t.Fatalf("%+v", info)
	}
	if _, err := b.Get(t.Context(), g, "x"); !errors.Is(err, groupsync.ErrNotFound) {
		t.Fatal(err)
	}
	if len(a.info(g).Members) != 1 {
		t.Fatal("it counts without consent")
	}
	must(t, b.Accept(t.Context(), g))
	eventually(t, "it is synced", func() bool { return c.synced(g) && a.export(g) == b.export(g) })
	if len(a.info(g).Members) != 2 || !b.info(g).Joined || b.info(g).Offered {
		t.Fatalf("%+v", b.info(g))
	}
	c.end()

	second := a.create("second")
	must(t, a.AddMember(t.Context(), second, b.ident.Genesis, entry.Read))
	d := connect(t, a, b)
	nextEvent[groupsync.GroupOffered](t, events)
	must(t, b.Decline(t.Context(), second))
	wantErr(t, b.Accept(t.Context(), second), groupsync.ErrNotFound)
	d.end()
	// The consent is told also when it was given while nobody was connected.
	third := a.create("third")
	must(t, a.AddMember(t.Context(), third, b.ident.Genesis, entry.Read))
	e := connect(t, a, b)
	nextEvent[groupsync.GroupOffered](t, events)
	e.end()
	must(t, b.Accept(t.Context(), third))
	b.reopen()
	syncPair(t, a, b, third).end()
	_, err := b.Put(t.Context(), third, []byte(`{"type":"Note"}`))
	wantErr(t, err, groupsync.ErrReadOnly)
}

func TestLeave(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 1)
	g := a.create("g")
	join(t, a, g, entry.Write, b)
	d := b.put(g, `{"type":"Note","by":"b"}`)
	c := syncPair(t, a, b, g)
	wantErr(t, a.Leave(t.Context(), g), groupsync.ErrOwner)
	must(t, b.Leave(t.Context(), g))
	eventually(t, "the owner knows", func() bool { return len(a.info(g).Members) == 1 })
	c.end()
	if _, err := a.Get(t.Context(), g, d.Subject); err != nil {
		t.Fatal("what was written before the leave is void")
	}
	if info := b.info(g); !info.Left || info.Joined || info.Documents != 1 {
		t.Fatalf("%+v", info)
	}
	_, err := b.Put(t.Context(), g, []byte(`{"type":"Note"}`))
	wantErr(t, err, groupsync.ErrNotMember)
	if !a.info(g).RotationDue {
		t.Fatal("no new key is due")
	}
	must(t, b.Purge(t.Context(), g))
	if _, err := b.Group(t.Context(), g); !errors.Is(err, groupsync.ErrNotFound) {
		t.Fatal(err)
	}
	// By a new invitation the user can come back.
	join(t, a, g, entry.Write, b)
	if a.export(g) != b.export(g) {
		t.Fatal("exports differ")
	}
}

func TestRoles(t *testing.T) {
	a, b, c := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	g := a.create("g")
	join(t, a, g, entry.Read, b)
	join(t, a, g, entry.Admin, c)
	_, err := b.Put(t.Context(), g, []byte(`{"type":"Note"}`))
	wantErr(t, err, groupsync.ErrReadOnly)
	_, err = b.Invite(t.Context(), g, groupsync.InviteOptions{})
	wantErr(t, err, groupsync.ErrNotAdmin)
	must(t, a.SetRole(t.Context(), g, b.UserID(), entry.Write))
	syncPair(t, a, b, g).end()
	d := b.put(g, `{"type":"Note"}`)
	syncPair(t, a, b, g).end()
	syncPair(t, a, c, g).end()
	wantErr(t, c.Remove(t.Context(), g, a.UserID(), ""), groupsync.ErrOwner)
	wantErr(t, c.Remove(t.Context(), g, newNode(t, 3).UserID(), ""), groupsync.ErrNotFound)
	wantErr(t, c.DeleteGroup(t.Context(), g), groupsync.ErrNotOwner)
	must(t, c.SetRole(t.Context(), g, b.UserID(), entry.Read))
	must(t, c.Rename(t.Context(), g, "renamed"))
	syncPair(t, a, c, g).end()
	if info := a.info(g); info.Name != "renamed" || len(info.Members) != 3 {
		t.Fatalf("%+v", info)
	}
	if _, err := a.Get(t.Context(), g, d.Subject); err != nil {
		t.Fatal("what the member wrote under the old role is void")
	}
	must(t, a.DeleteGroup(t.Context(), g))
	_, err = a.Put(t.Context(), g, []byte(`{"type":"Note"}`))
	wantErr(t, err, groupsync.ErrDeleted)
}
