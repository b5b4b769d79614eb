package sync_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// logOf returns the operations that a node holds of a group.
func (n *node) logOf(g peercrypto.ID) (ops []json.RawMessage) {
	n.t.Helper()
	for _, raw := range n.exportLog(g) {
		e, err := entry.Decode(raw)
		must(n.t, err)
		if e.Kind == entry.Operation {
			ops = append(ops, raw)
		}
	}
	return ops
}

// first finds the first operation of a kind.
func first(t testing.TB, ops []json.RawMessage, kind string) int {
	t.Helper()
	i := slices.IndexFunc(ops, func(raw json.RawMessage) bool {
		e, err := entry.Decode(raw)
		must(t, err)
		return e.Op.Kind() == kind
	})
	if i < 0 {
		t.Fatalf("no operation of kind %q", kind)
	}
	return i
}

// without leaves out the first operation of a kind.
func without(t testing.TB, ops []json.RawMessage, kind string) []json.RawMessage {
	t.Helper()
	i := first(t, ops, kind)
	return slices.Delete(slices.Clone(ops), i, i+1)
}

func frameOf(kind byte, g peercrypto.ID, rest ...byte) []byte {
	return append(append([]byte{kind, byte(len(g))}, g...), rest...)
}

func logFrame(g peercrypto.ID, flags byte, ops []json.RawMessage) []byte {
	f := frameOf(0x11, g, flags)
	f = binary.AppendUvarint(f, uint64(len(ops)))
	for _, op := range ops {
		f = append(binary.AppendUvarint(f, uint64(len(op))), op...)
	}
	return f
}

// openDoor lets a joiner knock at somebody who knows the invitation's secret, whoever that is, and returns after its JOIN. Both salts are as in the
// session protocol; who opens has a salt of zeros.
func openDoor(t testing.TB, j *node, host groupsync.Peer, inv entry.Invitation) (talk *rawPeer, done chan error) {
	t.Helper()
	pj, ph := newPipe()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	done = make(chan error, 1)
	go func() { done <- j.NewSession(host, pj).Run(ctx) }()
	talk = newRaw(t, ph)
	talk.hello()
	lower, higher := talk.expect(0x01)[3:], make([]byte, 16)
	if host.DeviceID < j.DeviceID() {
		lower, higher = higher, lower
	}
	salt := sha256.Sum256(slices.Concat(lower, higher))
	ipk := inv.IPK()
	knock := func(what string) []byte {
		sum := sha256.Sum256(slices.Concat(salt[:], []byte(what), ipk[:]))
		return sum[:16]
	}
	if got := talk.expect(0x0d); got[1] != 1 || string(got[2:]) != string(knock("knock")) {
		t.Fatalf("KNOCK %x", got)
	}
	talk.send(groupsync.Control, slices.Concat([]byte{0x0e, 1}, knock("open")))
	if got := talk.expect(0x08); string(got[2:2+len(inv.Group)]) != string(inv.Group) {
		t.Fatalf("JOIN %x", got)
	}
	return talk, done
}

// TestJoinerChecksTheLog: a link tells which group it is for. Whoever knows its secret and answers with something else, though every signature in it is
// right and the joiner is a member there, is found out by the joiner alone, and nothing is stored.
func TestJoinerChecksTheLog(t *testing.T) {
	owner, member := newNode(t, 0), newNode(t, 2)
	g, other := owner.create("g"), owner.create("other")
	inv := owner.invite(g, groupsync.InviteOptions{})
	before := owner.logOf(g) // without the joiner
	second := owner.invite(other, groupsync.InviteOptions{})
	for _, i := range []entry.Invitation{inv, second} {
		must(t, member.Join(t.Context(), i))
		c := connect(t, owner, member)
		eventually(t, "the join", func() bool { return c.synced(i.Group) })
		c.end()
	}
	must(t, owner.Rename(t.Context(), g, "first"))
	must(t, owner.Rename(t.Context(), g, "second"))
	log, otherLog := owner.logOf(g), owner.logOf(other)

	otherCreate, otherOwner := inv, inv
	otherCreate.Create = second.Create
	otherOwner.OwnerGenesis = identity(t, 1).Genesis.Hash()
	for name, tc := range map[string]struct {
		inv entry.Invitation
		ops []json.RawMessage
	}{
		"other create":             {otherCreate, log},
		"other owner":              {otherOwner, log},
		"other group":              {inv, otherLog},
		"two groups":               {inv, append(slices.Clone(log), otherLog...)},
		"nothing":                  {inv, nil},
		"no beginning":             {inv, without(t, log, "create")},
		"hole before the joiner":   {inv, without(t, log, "invite")},
		"hole behind the joiner":   {inv, without(t, log, "policy")},
		"joiner is no member":      {inv, before},
		"joiner's add is left out": {inv, without(t, log, "add")},
		"behind it, no entry":      {inv, append(slices.Clone(log), json.RawMessage(`{"op":1}`))},
		"joiner's add is forged":   {inv, append(without(t, log, "add"), forge(t, log, "add"))},
	} {
		t.Run(name, func(t *testing.T) {
			j := openNode(t, member.ident, newStore(), "user 2")
			must(t, j.Join(t.Context(), tc.inv))
			events := j.Subscribe(t.Context())
			talk, done := openDoor(t, j, owner.peer(), tc.inv)
			talk.send(groupsync.Bulk, logFrame(tc.inv.Group, 3, tc.ops))
			if ev := nextEvent[groupsync.JoinFailed](t, events); ev.Code != groupsync.RefusedFake || ev.Final || ev.Reason == "" {
				t.Fatalf("%+v", ev)
			}
			wantErr(t, <-done, groupsync.ErrProtocol)
			wantNothing(t, j, g, other)
			if p, err := j.PendingJoins(t.Context()); err != nil || len(p) != 1 || p[0].Refusal == "" {
				t.Fatalf("%+v, %v", p, err)
			}
			// The right log still joins, from anybody, also in parts.
			if tc.inv.Link() != inv.Link() {
				return
			}
			talk, _ = openDoor(t, j, newNode(t, 3).peer(), inv)
			talk.send(groupsync.Bulk, logFrame(g, 1, log[:2]))
			talk.send(groupsync.Bulk, logFrame(g, 2, log[2:]))
			nextEvent[groupsync.GroupJoined](t, events)
			if info := j.info(g); !info.Joined || info.Quarantined != 0 || len(info.Members) != 2 {
				t.Fatalf("%+v", info)
			}
		})
	}
	t.Run("not asked for", func(t *testing.T) {
		j := openNode(t, member.ident, newStore(), "user 2")
		must(t, j.Join(t.Context(), inv))
		talk, _ := openDoor(t, j, owner.peer(), inv)
		talk.send(groupsync.Bulk, logFrame(other, 3, otherLog))
		talk.expect(0x04) // it is processed, and dropped
		wantNothing(t, j, g, other)
	})
}

// forge breaks the signature of the operation of a kind.
func forge(t testing.TB, ops []json.RawMessage, kind string) json.RawMessage {
	t.Helper()
	raw := ops[first(t, ops, kind)]
	var e map[string]any
	must(t, json.Unmarshal(raw, &e))
	sig := []byte(e["signature"].(string))
	sig[0], sig[1] = sig[1], sig[0]
	if sig[0] == sig[1] {
		sig[0] ^= 1
	}
	e["signature"] = string(sig)
	out, err := peercrypto.MarshalCanonical(e)
	must(t, err)
	return out
}

// wantNothing checks that a node stores nothing of groups, in no way.
func wantNothing(t testing.TB, n *node, groups ...peercrypto.ID) {
	t.Helper()
	all, err := n.Groups(t.Context())
	must(t, err)
	if len(all) != 0 {
		t.Fatalf("groups are known: %+v", all)
	}
	for _, g := range groups {
		if _, err := n.Group(t.Context(), g); !errors.Is(err, groupsync.ErrNotFound) {
			t.Fatal("the group is known")
		}
		must(t, n.store.View(t.Context(), func(r groupsync.Reader) error {
			if rec, ok, err := r.Group(g); ok || err != nil {
				t.Errorf("%+v, %v", rec, err)
			}
			u, err := r.QuarantineUsage(g, "")
			if u.Items != 0 {
				t.Errorf("%d entries in quarantine", u.Items)
			}
			must(t, err)
			return r.Operations(g, func(rec groupsync.Record) error {
				t.Errorf("operation %v is stored", rec.Hash)
				return nil
			})
		}))
	}
}
