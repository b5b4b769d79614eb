package sync_test

import (
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
	"github.com/peersignal/peersignal/pkg/sync/storetest"
)

func (n *node) proposal() (groupsync.Proposal, bool) {
	n.t.Helper()
	list, err := n.Proposals(n.t.Context())
	must(n.t, err)
	if len(list) == 0 {
		return groupsync.Proposal{}, false
	}
	return list[0], true
}

func (n *node) approve() groupsync.Proposal {
	n.t.Helper()
	p, ok := n.proposal()
	if !ok {
		n.t.Fatal("there is no proposal")
	}
	p, err := n.ApproveKeys(n.t.Context(), p.ID)
	must(n.t, err)
	return p
}

// TestQuorum: two of three devices set a new key without the third, which somebody has with the old key.
func TestQuorum(t *testing.T) {
	own, other, g := devices(t, 3)
	a, b, lost := own[0], own[1], own[2]
	meet(t, a, b, "the third device becomes known", func() bool { return len(b.devices()) == 3 })
	early := b.put(g, `{"type":"Note"}`)
	syncPair(t, a, b, g).end()
	_, err := a.ProposeKeys(t.Context(), groupsync.ProposeOptions{Reason: keys.Compromised, Without: []peercrypto.ID{a.DeviceID()}})
	wantErr(t, err, groupsync.ErrThisDevice)
	_, err = a.ProposeKeys(t.Context(), groupsync.ProposeOptions{Reason: keys.Compromised, Without: []peercrypto.ID{other.DeviceID()}})
	wantErr(t, err, groupsync.ErrNoDevice)
	// Whoever has the third device rotates the key: the others' key is not the one in force any more.
	must(t, lost.RotateKey(t.Context(), keys.Rotated, nil))
	lost.again()
	stolen := lost.key()
	syncPair(t, lost, other, g).end()
	for _, n := range []*node{a, b} { // they hear of it, and go on with what they had
		end, _ := newPipe()
		must(t, end.Close())
		_ = n.NewSession(lost.peer(), end).Run(t.Context())
		if k, err := n.UserKeys(t.Context(), n.UserID()); err != nil || k.Pin.Key != stolen {
			t.Fatalf("%+v %v", k.Pin, err)
		}
	}
	p, err := a.ProposeKeys(t.Context(), groupsync.ProposeOptions{Reason: keys.Compromised, Without: []peercrypto.ID{lost.DeviceID()}})
	must(t, err)
	if p.Missing != 1 || !p.Mine || len(p.Signed) != 1 || a.IdentityReplaced() {
		t.Errorf("%+v", p)
	}
	meet(t, a, b, "the proposal comes", func() bool { _, ok := b.proposal(); return ok })
	if p := b.approve(); p.Missing != 0 || p.Mine || b.IdentityReplaced() {
		t.Errorf("%+v", p)
	}
	meet(t, a, b, "the signature comes", a.IdentityReplaced)
	a.again()
	if a.key() == stolen {
		t.Fatal("the stolen key is in force")
	}
	meet(t, a, b, "the key comes", b.IdentityReplaced)
	b.again()
	syncPair(t, a, b, g).end()
	a.put(g, `{"type":"Note","after":true}`)
	syncPair(t, a, other, g).end()
	k, err := other.UserKeys(t.Context(), a.UserID())
	must(t, err)
	if k.Pin.Key != a.key() || b.key() != a.key() || k.Pin.Frozen {
		t.Errorf("%+v", k.Pin)
	}
	if _, err := other.Get(t.Context(), g, early.Subject); err != nil {
		t.Errorf("what was written before: %v", err)
	}
	for _, n := range []*node{a, b, other} {
		end, _ := newPipe()
		wantErr(t, n.NewSession(lost.peer(), end).Run(t.Context()), groupsync.ErrKeyRefused)
	}
	if _, ok := a.proposal(); ok {
		t.Error("the proposal is still there")
	}
}

// TestQuorumRevokes: devices end a key without another one, and set one later.
func TestQuorumRevokes(t *testing.T) {
	own, _, _ := devices(t, 2)
	a, b := own[0], own[1]
	_, err := a.ProposeKeys(t.Context(), groupsync.ProposeOptions{Reason: keys.Lost, Revoke: true})
	must(t, err)
	meet(t, a, b, "the proposal comes", func() bool { _, ok := b.proposal(); return ok })
	b.approve()
	ended := func(n *node) bool {
		k, err := n.UserKeys(t.Context(), n.UserID())
		return err == nil && k.Pin.Ended
	}
	if !ended(b) {
		t.Error("the key is in force")
	}
	meet(t, a, b, "the end of the key comes", func() bool { return ended(a) })
	a.again()
	b.again()
	wantErr(t, a.RotateKey(t.Context(), keys.Rotated, nil), groupsync.ErrKeyPending)
	_, err = b.ProposeKeys(t.Context(), groupsync.ProposeOptions{Reason: keys.Lost})
	must(t, err)
	meet(t, a, b, "the proposal comes", func() bool { _, ok := a.proposal(); return ok })
	a.approve()
	meet(t, a, b, "the signature comes", b.IdentityReplaced)
	b.again()
	meet(t, a, b, "the key comes", a.IdentityReplaced)
	a.again()
	if ended(a) || ended(b) || a.key() != b.key() {
		t.Error("no key is in force")
	}
}

// TestQuorumNeedsDevices: one device is no majority, and one that is on no list can't sign.
func TestQuorumNeedsDevices(t *testing.T) {
	alone, _ := recovering(t)
	_, err := alone.ProposeKeys(t.Context(), groupsync.ProposeOptions{Reason: keys.Lost})
	wantErr(t, err, keys.ErrNoQuorum)
	own, _, _ := devices(t, 2)
	_, err = own[0].ProposeKeys(t.Context(), groupsync.ProposeOptions{Reason: keys.Lost, Without: []peercrypto.ID{own[1].DeviceID()}})
	wantErr(t, err, keys.ErrNoQuorum)
	_, err = own[0].ApproveKeys(t.Context(), peercrypto.Sum(nil))
	wantErr(t, err, groupsync.ErrNotFound)
}

// TestNewRecoveryWords: the old ones do not count any more, the new ones do, also with a card that a member makes.
func TestNewRecoveryWords(t *testing.T) {
	a, words := recovering(t)
	b := newNode(t, 1)
	g := a.create("garden")
	join(t, a, g, entry.Write, b)
	_, next, err := peercrypto.NewIdentity(a.clock.Now())
	must(t, err)
	wantErr(t, a.SetRecovery(t.Context(), next, words), keys.ErrNoRecovery)
	must(t, a.SetRecovery(t.Context(), words, next))
	if a.IdentityReplaced() {
		t.Error("the key was replaced, too")
	}
	a.again()
	a.put(g, `{"type":"Note"}`)
	syncPair(t, a, b, g).end()
	card, err := b.Card(t.Context(), a.UserID(), true)
	must(t, err)
	h := keys.Evaluate(keys.Genesis(card.Genesis), card.Keys)
	_, err = keys.Recover(words, h.State, newKey(t), keys.Lost, a.clock.Now().UnixMilli())
	wantErr(t, err, keys.ErrNoRecovery)
	back := openNode(t, recoverWith(t, next, card, a.clock.Now().UnixMilli()), storetest.NewMemory(), "again")
	must(t, back.Return(t.Context(), card.Groups[0]))
	syncPair(t, back, b, g).end()
}

// TestTwoRotationsSettledByDevices: two devices rotate without knowing of each other. The key is frozen, neither takes the other's, and
// both together settle it.
func TestTwoRotationsSettledByDevices(t *testing.T) {
	own, other, g := devices(t, 2)
	a, b := own[0], own[1]
	for _, n := range own {
		must(t, n.RotateKey(t.Context(), keys.Rotated, nil))
		n.again()
	}
	frozen := func(n *node) bool {
		k, err := n.UserKeys(t.Context(), n.UserID())
		return err == nil && k.Pin.Frozen
	}
	meet(t, a, b, "the key is frozen", func() bool { return frozen(a) && frozen(b) })
	if a.IdentityReplaced() || b.IdentityReplaced() {
		t.Error("one took the other's key")
	}
	wantErr(t, a.RotateKey(t.Context(), keys.Rotated, nil), groupsync.ErrKeyFrozen)
	_, err := b.ProposeKeys(t.Context(), groupsync.ProposeOptions{Reason: keys.Rotated})
	must(t, err)
	meet(t, a, b, "the proposal comes", func() bool { _, ok := a.proposal(); return ok })
	a.approve()
	meet(t, a, b, "the signature comes", b.IdentityReplaced)
	b.again()
	meet(t, a, b, "the key comes", a.IdentityReplaced)
	a.again()
	if frozen(a) || frozen(b) || a.key() != b.key() {
		t.Fatal("it is not settled")
	}
	syncPair(t, a, b, g).end()
	b.put(g, `{"type":"Note"}`)
	syncPair(t, b, other, g).end()
	a.put(g, `{"type":"Note"}`)
	syncPair(t, a, other, g).end()
}

// TestProposalsAreBounded: so many proposals wait, and none for ever.
func TestProposalsAreBounded(t *testing.T) {
	own, _, _ := devices(t, 2)
	a, b := own[0], own[1]
	for i := range 9 {
		a.clock.add(time.Second) // each is another one
		_, err := a.ProposeKeys(t.Context(), groupsync.ProposeOptions{Reason: keys.Lost, Revoke: true})
		if i < 8 {
			must(t, err)
		} else {
			wantErr(t, err, groupsync.ErrLimit)
		}
	}
	// One that came is as good as one of its own.
	count := func(n *node) int {
		list, err := n.Proposals(t.Context())
		must(t, err)
		return len(list)
	}
	b.clock.add(time.Hour)
	_, err := b.ProposeKeys(t.Context(), groupsync.ProposeOptions{Reason: keys.Lost, Revoke: true})
	must(t, err)
	meet(t, a, b, "the proposals come", func() bool { return count(b) == 8 })
	if count(a) != 8 {
		t.Errorf("%d proposals wait", count(a))
	}
	b.clock.add(31 * 24 * time.Hour)
	b.approve()
	if k, err := b.UserKeys(t.Context(), b.UserID()); err != nil || k.Pin.Ended {
		t.Errorf("a month later the key was ended: %v", err)
	}
	if n := count(b); n != 0 {
		t.Errorf("%d proposals wait for ever", n)
	}
}
