package group_test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// history is a random group: devices that know different parts of the log write
// what they please, honestly or not, as long as it is sound.
type history struct {
	*world
	rng     *rand.Rand
	people  []*person
	devices []*replica
	changes []*entry.Entry // data
	secrets map[hash]peercrypto.SigningKey
}

// replica is a device and the operations that it knows, in the world's order.
type replica struct {
	who   *person
	dev   int
	known map[hash]bool
}

func newHistory(t testing.TB, rng *rand.Rand, people int, size int) *history {
	h := &history{world: newWorld(t), rng: rng, people: cast[:people], secrets: map[hash]peercrypto.SigningKey{}}
	for i := range 2 * people {
		h.devices = append(h.devices, &replica{cast[i/2], i % 2, map[hash]bool{h.create.Hash: true}})
	}
	if rng.IntN(3) > 0 {
		h.begin()
	}
	for tries := 0; len(h.ops) < size && tries < 20*size; tries++ {
		r := h.devices[rng.IntN(len(h.devices))]
		if rng.IntN(3) == 0 {
			r = h.devices[0] // the owner is busier than others
		}
		h.step(r)
		if rng.IntN(2) == 0 {
			h.gossip()
		}
	}
	return h
}

// begin makes admins of different depth before things go wild.
func (h *history) begin() {
	first := h.add(ann, h.create, bob, entry.Admin)
	if len(h.people) > 2 {
		by, as := bob, first
		if h.rng.IntN(3) == 0 {
			by, as = ann, h.create
		}
		second := h.add(by, as, cat, entry.Admin)
		if len(h.people) > 3 && h.rng.IntN(2) == 0 {
			h.add(cat, second, dan, entry.Admin)
		}
	}
	for _, r := range h.devices {
		for _, e := range h.ops {
			r.known[e.Hash] = true
		}
	}
}

// gossip lets a device learn something from another.
func (h *history) gossip() {
	from, to := h.devices[h.rng.IntN(len(h.devices))], h.devices[h.rng.IntN(len(h.devices))]
	var named []hash
	for _, e := range h.ops {
		if from.known[e.Hash] && (h.rng.IntN(3) > 0) {
			named = append(named, e.Hash)
		}
	}
	for _, e := range pastClosed(h.ops, named) {
		to.known[e.Hash] = true
	}
}

// step lets a device write an operation or data. What turns out unsound is
// dropped.
func (h *history) step(r *replica) {
	var grants, all []*entry.Entry
	state := h.log.State()
	for _, e := range h.ops {
		p, ok := state.Principal(e.Hash)
		if !ok || !r.known[e.Hash] {
			continue
		}
		all = append(all, e)
		if p.UserID == r.who.id {
			grants = append(grants, e)
		}
	}
	if len(grants) == 0 {
		return
	}
	as := grants[h.rng.IntN(len(grants))]
	p, _ := h.log.State().Principal(as.Hash)
	if p.Role != entry.Read && h.rng.IntN(6) == 0 {
		h.write(r, as)
		return
	}
	op := h.anyOp(r, as, p, all)
	secret := h.keyOf(r.who, as.Hash)
	if h.rng.IntN(7) == 0 {
		op, secret = h.anyRekey(r.who, as)
	}
	e, err := entry.SignOperation(secret, h.randomDraft(r, as, op))
	if err != nil {
		h.t.Fatalf("%T: %v", op, err)
	}
	reason := newOracle(h.ops).unsound(e)
	if err := h.log.Check(e); (err != nil) != (reason != "") {
		h.t.Fatalf("%T: got %v, want %q", op, err, reason)
	}
	if reason != "" {
		return
	}
	if err := h.log.Restore(e); err != nil { // Check has proved it
		h.t.Fatal(err)
	}
	h.ops = append(h.ops, e)
	h.note(e)
	if e.Op.Kind() == entry.KindRekey {
		h.signs[e.Hash] = secret
	}
	r.known[e.Hash] = true
}

// anyRekey replaces a key by one of few, so that the same event comes in several
// rekeys, after adding devices or not.
func (h *history) anyRekey(who *person, as *entry.Entry) (entry.Op, peercrypto.SigningKey) {
	line, key := h.lines[as.Hash], h.keyOf(who, as.Hash)
	var events []keys.Event
	follow := func(e keys.Event, err error) {
		if err == nil {
			line, err = line.Apply(e)
		}
		if err != nil {
			h.t.Fatal(err)
		}
		events = append(events, e)
	}
	for n := range 2 {
		if len(line.Devices()) == n && h.rng.IntN(3) == 0 {
			follow(keys.NewAddDevice(line, keys.Signers{Key: key, New: who.secret(n)}, device(n), start))
		}
	}
	for {
		next := who.secret(10 + h.rng.IntN(3))
		if next.Public() == line.Key() {
			continue
		}
		signers := keys.Signers{Key: key, New: next}
		switch h.rng.IntN(4) {
		case 0:
			signers.Recovery = who.recover
		case 1:
			if line.Quorum() > 0 {
				signers.Devices = []keys.DeviceSigner{{ID: device(0), Key: who.secret(0)}, {ID: device(1), Key: who.secret(1)}}
			}
		}
		follow(keys.NewRotate(line, signers, keys.Rotated, start))
		key = next
		if h.rng.IntN(4) > 0 {
			return entry.Rekey{Events: events, Frontier: h.frontier()}, next
		}
	}
}

func (h *history) randomDraft(r *replica, as *entry.Entry, op entry.Op) entry.OpDraft {
	h.next++
	d := entry.OpDraft{ID: numberedID(h.next), Group: h.create.Group, Signer: r.who.id, As: as.Hash, Op: op, Dev: device(r.dev)}
	if _, ok := op.(entry.Accept); ok {
		d.Deps = []hash{as.Hash}
	} else {
		d.Deps = h.deps(r)
		if op.Kind() != entry.KindRekey {
			d.Seq, d.Prev = h.chainOf(r, as)
		}
		if d.Seq > 0 {
			d.Dev = ""
		}
	}
	for _, x := range slices.Concat(d.Deps, []hash{as.Hash, d.Prev}) {
		if e, ok := h.log.Get(x); ok {
			d.Modified = max(d.Modified, e.Modified+1)
		}
	}
	if rv, ok := op.(entry.RVKey); ok {
		d.Op = h.withEpoch(rv, d)
	}
	d.Modified += h.rng.Int64N(3)
	return d
}

// deps returns the heads of what a device knows, or something less honest.
func (h *history) deps(r *replica) []hash {
	var known []*entry.Entry
	followed := map[hash]bool{}
	for _, e := range h.ops {
		if r.known[e.Hash] {
			known = append(known, e)
			for _, x := range refs(e) {
				followed[x] = true
			}
		}
	}
	dishonest := h.rng.IntN(5) == 0
	known = slices.DeleteFunc(known, func(e *entry.Entry) bool {
		if dishonest {
			return h.rng.IntN(3) > 0
		}
		return followed[e.Hash]
	})
	return hashes(known[:min(len(known), entry.MaxDeps)]...)
}

// chainOf continues the chain of a device, or forks it as a restored backup does.
func (h *history) chainOf(r *replica, as *entry.Entry) (int64, hash) {
	var chain []*entry.Entry
	for _, e := range h.ops {
		if e.As != as.Hash || !r.known[e.Hash] || e.Op.Kind() == entry.KindRekey {
			continue
		}
		first := e
		for first.Seq > 0 {
			first, _ = h.log.Get(first.Prev)
		}
		if first.Dev == device(r.dev) {
			chain = append(chain, e)
		}
	}
	if len(chain) == 0 {
		return 0, hash{}
	}
	last := slices.MaxFunc(chain, func(a, b *entry.Entry) int { return int(a.Seq - b.Seq) })
	if h.rng.IntN(12) == 0 {
		last = chain[h.rng.IntN(len(chain))]
	}
	return last.Seq + 1, last.Hash
}

func (h *history) withEpoch(rv entry.RVKey, d entry.OpDraft) entry.RVKey {
	rv.Epoch = 0
	for _, e := range pastClosed(h.ops, slices.Concat(d.Deps, []hash{d.As, d.Prev})) {
		if other, ok := e.Op.(entry.RVKey); ok {
			rv.Epoch = max(rv.Epoch, other.Epoch+1)
		}
	}
	return rv
}

func (h *history) write(r *replica, as *entry.Entry) {
	var last *entry.Entry
	var seq int64
	for _, e := range h.changes {
		if e.As == as.Hash && (last == nil || h.rng.IntN(3) > 0) {
			last, seq = e, e.Seq+1
		}
	}
	h.changes = append(h.changes, h.data(r.who, as, seq, last))
}

// frontier names a random part of everything, known to the author or not.
func (h *history) frontier() []hash {
	var named []*entry.Entry
	for _, e := range slices.Concat(h.ops, h.changes) {
		if h.rng.IntN(5) == 0 {
			named = append(named, e)
		}
	}
	return hashes(named...)
}

func (h *history) anyOp(r *replica, as *entry.Entry, p group.Principal, grants []*entry.Entry) entry.Op {
	roles := []entry.Role{entry.Read, entry.Write, entry.Admin, entry.Admin}
	role := roles[h.rng.IntN(len(roles))]
	who := h.people[1+h.rng.IntN(len(h.people)-1)]
	grant := grants[h.rng.IntN(len(grants))]
	named, _ := h.log.State().Principal(grant.Hash)
	choice := h.rng.IntN(32)
	if p.Role != entry.Admin {
		choice %= 6
	}
	switch choice {
	case 0:
		return entry.Merge{}
	case 1, 2:
		return entry.Leave{Frontier: h.frontier()}
	case 3, 4, 5:
		return entry.Accept{}
	case 6, 7, 8:
		return entry.Remove{Grant: grant.Hash, Frontier: h.frontier()}
	case 9, 10, 11, 12, 13:
		return entry.RoleChange{Grant: grant.Hash, Role: role, Key: named.Key, Frontier: h.frontier()}
	case 14:
		return entry.Block{UserID: who.id, Frontier: h.frontier()}
	case 15, 16:
		return entry.Checkpoint{Frontier: h.frontier()}
	case 17:
		return entry.Adopt{Entries: h.frontier()}
	case 18, 19:
		return h.invite(role)
	case 20:
		name := fmt.Sprint("crew ", h.next)
		return entry.Policy{Name: &name}
	case 21:
		return entry.RVKey{Key: sha256.Sum256(fmt.Append(nil, h.next))}
	case 22, 23:
		if op := h.ofInvite(r, func(x hash) entry.Op { return entry.Uninvite{Invite: x, Frontier: h.frontier()} }); op != nil {
			return op
		}
	case 24, 25, 26:
		if op := h.ofInvite(r, func(x hash) entry.Op { return h.claimed(x, who) }); op != nil {
			return op
		}
	case 27:
		if h.rng.IntN(8) == 0 && as == h.create {
			return entry.Delete{}
		}
	}
	return entry.Add{UserID: who.id, User: who.genesis, Role: role}
}

func (h *history) invite(role entry.Role) entry.Op {
	key := peercrypto.InviteSigningKey(sha256.Sum256(fmt.Append(nil, "invitation", h.next)))
	h.secrets[peercrypto.Hash(key.Public())] = key
	return entry.Invite{IPK: key.Public(), Role: role, Uses: 1 + h.rng.IntN(2), Expires: start + 3600_000}
}

// ofInvite makes an operation for an invitation that a device knows, if any.
func (h *history) ofInvite(r *replica, op func(hash) entry.Op) entry.Op {
	var invites []hash
	for _, e := range h.ops {
		if _, ok := e.Op.(entry.Invite); ok && r.known[e.Hash] {
			invites = append(invites, e.Hash)
		}
	}
	if len(invites) == 0 {
		return nil
	}
	return op(invites[h.rng.IntN(len(invites))])
}

func (h *history) claimed(invite hash, who *person) entry.Op {
	e, _ := h.log.Get(invite)
	op := e.Op.(entry.Invite)
	return h.claim(invite, h.secrets[peercrypto.Hash(op.IPK)], who, op.Role, func(c *entry.Claim) {
		c.Time += h.rng.Int64N(2)
	})
}

// claim makes the add of a joiner.
func (w *world) claim(invite hash, secret peercrypto.SigningKey, who *person, role entry.Role, change func(*entry.Claim)) entry.Add {
	w.t.Helper()
	c := entry.Claim{
		Group: w.create.Group, Create: w.create.Hash, UserID: who.id, Genesis: who.genesis.Hash(),
		DeviceID: device(0), Role: role, Time: start,
	}
	if change != nil {
		change(&c)
	}
	c, err := entry.SignClaim(secret, who.key, c)
	if err != nil {
		w.t.Fatal(err)
	}
	return entry.Add{UserID: who.id, User: who.genesis, Role: role, Invite: &invite, Claim: &c}
}
