package sync_test

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// joinBy lets somebody ask to join a group with a claim that is made by hand, and returns the answer.
func joinBy(t testing.TB, host *node, who groupsync.Peer, g peercrypto.ID, claim []byte) (code groupsync.RefusalCode, text string) {
	t.Helper()
	ph, pw := newPipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- host.NewSession(who, ph).Run(ctx) }()
	defer func() { cancel(); <-done }()
	talk := newRaw(t, pw)
	talk.hello()
	talk.send(groupsync.Control, append(binary.AppendUvarint(frameOf(0x08, g), uint64(len(claim))), claim...))
	for {
		_, f, err := pw.Recv(t.Context())
		must(t, err)
		switch f[0] {
		case 0x09:
			rest := f[2+len(g):]
			return groupsync.RefusalCode(rest[0]), string(rest[2:])
		case 0x11:
			return 0, ""
		}
	}
}

// claimBy signs a claim of an invitation with a secret; change alters it before.
func claimBy(t testing.TB, by *node, inv entry.Invitation, secret [32]byte, change func(*entry.Claim)) []byte {
	t.Helper()
	c := entry.Claim{
		Group: inv.Group, Create: inv.Create, UserID: by.UserID(), Genesis: by.ident.Genesis.Hash(), DeviceID: by.DeviceID(), Role: inv.Role,
		Time: time.Now().UnixMilli(),
	}
	if change != nil {
		change(&c)
	}
	c, err := entry.SignClaim(peercrypto.InviteSigningKey(secret), by.ident.User, c)
	must(t, err)
	raw, err := c.Canonical()
	must(t, err)
	return raw
}

// TestForeignClaims: only the user whom it names joins by a claim, only the group that it names, only once the invitation's secret signed it. Whoever tries
// anything else is told the same as somebody who knows nothing.
func TestForeignClaims(t *testing.T) {
	a, bob, eve := newNode(t, 0), newNode(t, 2), newNode(t, 3)
	g, other := a.create("g"), a.create("other")
	inv := a.invite(g, groupsync.InviteOptions{Uses: 100})
	otherInv := a.invite(other, groupsync.InviteOptions{Uses: 100})
	sign := func(by *node, secret [32]byte, change func(*entry.Claim)) []byte {
		return claimBy(t, by, inv, secret, change)
	}
	own := sign(eve, inv.Secret, nil)
	unsigned := func() []byte { // by the invitation, as one makes it who has seen only its public key
		c, err := entry.ParseClaim(own)
		must(t, err)
		c.SigI = c.SigU
		raw, err := c.Canonical()
		must(t, err)
		return raw
	}
	invented := eve.peer()
	invented.UserID = peercrypto.NewID(time.Now())
	for name, tc := range map[string]struct {
		claim []byte
		who   groupsync.Peer
		code  groupsync.RefusalCode
	}{
		"another's":                    {sign(bob, inv.Secret, nil), eve.peer(), groupsync.RefusedUnspecified},
		"with another's id":            {sign(eve, inv.Secret, func(c *entry.Claim) { c.UserID = bob.UserID() }), eve.peer(), groupsync.RefusedUnspecified},
		"signed by another":            {sign(bob, inv.Secret, func(c *entry.Claim) { c.UserID, c.Genesis = eve.UserID(), eve.ident.Genesis.Hash() }), eve.peer(), groupsync.RefusedUnspecified},
		"with another's beginning":     {sign(eve, inv.Secret, func(c *entry.Claim) { c.Genesis = bob.ident.Genesis.Hash() }), eve.peer(), groupsync.RefusedUnspecified},
		"with an id that is no key's":  {sign(eve, inv.Secret, func(c *entry.Claim) { c.UserID = invented.UserID }), invented, groupsync.RefusedUnspecified},
		"for another group":            {sign(eve, inv.Secret, func(c *entry.Claim) { c.Group = other }), eve.peer(), groupsync.RefusedUnspecified},
		"by another group's":           {sign(eve, otherInv.Secret, nil), eve.peer(), groupsync.RefusedUnspecified},
		"of another group with the id": {sign(eve, inv.Secret, func(c *entry.Claim) { c.Create = otherInv.Create }), eve.peer(), groupsync.RefusedUnspecified},
		"without the secret":           {sign(eve, [32]byte{1}, nil), eve.peer(), groupsync.RefusedUnspecified},
		"signed without the secret":    {unsigned(), eve.peer(), groupsync.RefusedUnspecified},
		"for a higher role":            {sign(eve, inv.Secret, func(c *entry.Claim) { c.Role = entry.Admin }), eve.peer(), groupsync.RefusedUnspecified},
		"not canonical":                {append([]byte(" "), own...), eve.peer(), groupsync.RefusedUnspecified},
		"nothing":                      {nil, eve.peer(), groupsync.RefusedUnspecified},
		"dated behind the expiry":      {sign(eve, inv.Secret, func(c *entry.Claim) { c.Time = inv.Expires + 1 }), eve.peer(), groupsync.RefusedExpired},
	} {
		t.Run(name, func(t *testing.T) {
			code, text := joinBy(t, a, tc.who, g, tc.claim)
			if code != tc.code || code == groupsync.RefusedUnspecified && text != "refused" {
				t.Errorf("answer %d %q", code, text)
			}
			if n := len(a.info(g).Members); n != 1 {
				t.Errorf("%d members", n)
			}
		})
	}
	if code, text := joinBy(t, a, eve.peer(), g, own); code != 0 || len(a.info(g).Members) != 2 {
		t.Errorf("the right one: %d %q", code, text)
	}
}

// TestWhoIsOutAdmitsNobody: neither for a group that was deleted nor for one that this user left is anybody admitted.
func TestWhoIsOutAdmitsNobody(t *testing.T) {
	a, b, eve := newNode(t, 0), newNode(t, 1), newNode(t, 3)
	gone, left, open := a.create("gone"), a.create("left"), b.create("open")
	join(t, a, gone, entry.Admin, b)
	join(t, a, left, entry.Admin, b)
	b.invite(open, groupsync.InviteOptions{}) // strangers may come
	claims := map[peercrypto.ID][]byte{}
	for _, g := range []peercrypto.ID{gone, left} {
		inv := b.invite(g, groupsync.InviteOptions{Uses: 2})
		claims[g] = claimBy(t, eve, inv, inv.Secret, nil)
	}
	must(t, a.DeleteGroup(t.Context(), gone))
	syncPair(t, a, b, left).end()
	eventually(t, "the end of the group is known", func() bool { return b.info(gone).GroupDeleted })
	must(t, b.Leave(t.Context(), left))
	for g, claim := range claims {
		if code, text := joinBy(t, b, eve.peer(), g, claim); code != groupsync.RefusedUnspecified || text != "refused" {
			t.Errorf("answer %d %q", code, text)
		}
		for _, m := range b.info(g).Members {
			if m.UserID == eve.UserID() {
				t.Error("she was admitted")
			}
		}
	}
}

// TestPendingJoinsAreBounded: so many invitations wait for an answer at a time. One that replaces another of its group is none more.
func TestPendingJoinsAreBounded(t *testing.T) {
	a, j := newNode(t, 0), newNode(t, 2)
	inv := a.invite(a.create("g"), groupsync.InviteOptions{})
	for i := range 65 {
		if i > 0 {
			inv.Group = peercrypto.NewID(time.Now())
		}
		err := j.Join(t.Context(), inv)
		if i < 64 {
			must(t, err)
		} else {
			wantErr(t, err, groupsync.ErrLimit)
		}
	}
	pending, err := j.PendingJoins(t.Context())
	must(t, err)
	if len(pending) != 64 {
		t.Errorf("%d joins are pending", len(pending))
	}
	inv.Group, inv.Secret[0] = pending[0].Group, inv.Secret[0]^1
	must(t, j.Join(t.Context(), inv))
	inv.Servers = nil
	inv.Role = "none"
	wantErr(t, j.Join(t.Context(), inv), groupsync.ErrInvitation)
	wantErr(t, a.Admit(t.Context(), pending[0].Group, j.UserID()), groupsync.ErrNotFound)
	wantErr(t, a.Uninvite(t.Context(), a.create("x"), peercrypto.Sum(nil)), groupsync.ErrNotFound)
}
