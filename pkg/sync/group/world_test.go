package group_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/fold"
	"github.com/peersignal/peersignal/pkg/sync/group"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// start is when the groups of the tests begin, in unix ms.
const start = 1_750_000_000_000

type hash = peercrypto.Hash

// person is a user with keys that are the same in each run.
type person struct {
	name    string
	key     peercrypto.SigningKey
	recover peercrypto.SigningKey
	genesis peercrypto.UserGenesis
	id      peercrypto.ID
}

// secret returns one more key of a person.
func (p *person) secret(n int) peercrypto.SigningKey { return seededKey(fmt.Sprint(p.name, n)) }

func seededKey(name string) peercrypto.SigningKey {
	seed := sha256.Sum256([]byte("seed of " + name))
	key, err := peercrypto.SigningKeyFromSeed(seed[:])
	if err != nil {
		panic(err)
	}
	return key
}

func newPerson(name string) *person {
	key, recover := seededKey(name), seededKey(name+"'s recovery")
	public := recover.Public()
	pin := peercrypto.Sum(public[:])
	genesis := peercrypto.UserGenesis{V: 1, Created: start - 1000, Key: key.Public(), Recovery: &pin}
	return &person{name, key, recover, genesis, genesis.ID()}
}

// The cast. The owner is always ann.
var (
	ann, bob, cat, dan, eve = newPerson("ann"), newPerson("bob"), newPerson("cat"), newPerson("dan"), newPerson("eve")
	cast                    = []*person{ann, bob, cat, dan, eve}
)

// numberedID returns an id with the tests' time that ends in n.
func numberedID(n int) peercrypto.ID {
	id := []byte(peercrypto.NewID(time.UnixMilli(start)))
	return peercrypto.ID(string(id[:10]) + fmt.Sprintf("%015d", n))
}

func device(n int) peercrypto.ID { return numberedID(1000 + n) }

// world makes the entries of one group.
type world struct {
	t      testing.TB
	create *entry.Entry
	log    *group.Log // everything that was made, in the order in which it was
	ops    []*entry.Entry
	next   int
	lines  map[hash]keys.State            // of grants and rekeys
	signs  map[hash]peercrypto.SigningKey // under grants and rekeys; missing is the person's first key
}

func newWorld(t testing.TB) *world {
	t.Helper()
	create, err := entry.SignCreate(ann.key, entry.CreateDraft{
		ID: numberedID(1), Owner: ann.genesis, Dev: device(0), Name: "crew", Modified: start,
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, create: create, log: group.NewLog(create.Group), next: 10,
		lines: map[hash]keys.State{}, signs: map[hash]peercrypto.SigningKey{},
	}
	w.keep(create)
	return w
}

// note keeps the keys of a grant or rekey.
func (w *world) note(e *entry.Entry) {
	switch op := e.Op.(type) {
	case entry.Create:
		w.lines[e.Hash] = keys.Genesis(op.User)
	case entry.Add:
		w.lines[e.Hash], _ = op.Line()
	case entry.RoleChange:
		w.lines[e.Hash] = w.lines[op.Grant]
		w.signs[e.Hash] = w.signs[op.Grant]
	case entry.Rekey:
		line := w.lines[e.As]
		for _, event := range op.Events {
			var err error
			if line, err = line.Apply(event); err != nil {
				w.t.Fatal(err)
			}
		}
		w.lines[e.Hash] = line
	}
}

// keyOf returns the key that signs under a grant or rekey.
func (w *world) keyOf(by *person, as hash) peercrypto.SigningKey {
	if key, ok := w.signs[as]; ok && !key.IsZero() {
		return key
	}
	return by.key
}

// rekey replaces the key under as by one of a person's, by recovery unless told otherwise.
func (w *world) rekey(by *person, as *entry.Entry, next peercrypto.SigningKey, class keys.Class, frontier []hash, options ...option) *entry.Entry {
	w.t.Helper()
	signers := keys.Signers{Key: w.keyOf(by, as.Hash), New: next}
	if class == keys.ByRecovery {
		signers.Recovery = by.recover
	}
	event, err := keys.NewRotate(w.lines[as.Hash], signers, keys.Compromised, start)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.rekeyBy(by, as, next, entry.Rekey{Events: []keys.Event{event}, Frontier: frontier}, options...)
}

func (w *world) rekeyBy(by *person, as *entry.Entry, next peercrypto.SigningKey, op entry.Rekey, options ...option) *entry.Entry {
	w.t.Helper()
	e, err := entry.SignOperation(next, w.draft(by, as, op, options...))
	if err != nil {
		w.t.Fatal(err)
	}
	w.keep(e)
	w.signs[e.Hash] = next
	return e
}

func (w *world) keep(e *entry.Entry) {
	w.t.Helper()
	if _, err := w.log.Add(e); err != nil {
		w.t.Fatalf("adding %s: %v", e.Op.Kind(), err)
	}
	w.ops = append(w.ops, e)
	w.note(e)
}

// option changes a draft before it is signed.
type option func(*entry.OpDraft)

// on chooses the device: 0 is the default.
func on(n int) option {
	return func(d *entry.OpDraft) { d.Dev = device(n) }
}

// knowing makes the deps these operations instead of all heads.
func knowing(known ...*entry.Entry) option {
	return func(d *entry.OpDraft) {
		d.Deps = hashes(known...)
	}
}

// later adds to the least possible modified.
func later(ms int64) option { return func(d *entry.OpDraft) { d.Modified += ms } }

func hashes(entries ...*entry.Entry) []hash {
	out := []hash{}
	for _, e := range entries {
		out = append(out, e.Hash)
	}
	slices.SortFunc(out, hash.Compare)
	return slices.Compact(out)
}

// draft is sound as far as the world can see to it.
func (w *world) draft(by *person, as *entry.Entry, op entry.Op, options ...option) entry.OpDraft {
	w.next++
	d := entry.OpDraft{
		ID: numberedID(w.next), Group: w.create.Group, Signer: by.id, As: as.Hash, Op: op,
		Deps: w.log.State().Heads(), Dev: device(0),
	}
	if _, ok := op.(entry.Accept); ok {
		d.Deps = []hash{as.Hash}
	}
	for _, o := range options {
		o(&d)
	}
	if k := op.Kind(); k != entry.KindAccept && k != entry.KindRekey {
		d.Seq, d.Prev = w.log.Head(as.Hash, d.Dev)
	}
	if d.Seq > 0 {
		d.Dev = ""
	}
	least := int64(0)
	for _, h := range slices.Concat(d.Deps, []hash{as.Hash, d.Prev}) {
		if e, ok := w.log.Get(h); ok {
			least = max(least, e.Modified+1)
		}
	}
	d.Modified += least
	return d
}

// op makes a sound operation and adds it.
func (w *world) op(by *person, as *entry.Entry, op entry.Op, options ...option) *entry.Entry {
	w.t.Helper()
	e, err := entry.SignOperation(w.keyOf(by, as.Hash), w.draft(by, as, op, options...))
	if err != nil {
		w.t.Fatal(err)
	}
	w.keep(e)
	return e
}

// refused makes an operation that must be unsound for that reason.
func (w *world) refused(want string, by *person, as *entry.Entry, op entry.Op, options ...option) {
	w.t.Helper()
	e, err := entry.SignOperation(w.keyOf(by, as.Hash), w.draft(by, as, op, options...))
	if err == nil {
		err = w.log.Check(e)
	}
	w.unsound(want, err)
}

func (w *world) unsound(want string, err error) {
	w.t.Helper()
	var unsound *entry.UnsoundError
	if !errors.As(err, &unsound) || !errors.Is(err, entry.ErrUnsound) || unsound.Reason != want {
		w.t.Errorf("got %v, want unsound: %s", err, want)
	}
}

// add makes a member who accepted.
func (w *world) add(by *person, as *entry.Entry, who *person, role entry.Role, options ...option) *entry.Entry {
	w.t.Helper()
	e := w.addUnaccepted(by, as, who, role, options...)
	w.op(who, e, entry.Accept{})
	return e
}

func (w *world) addUnaccepted(by *person, as *entry.Entry, who *person, role entry.Role, options ...option) *entry.Entry {
	w.t.Helper()
	return w.op(by, as, entry.Add{UserID: who.id, User: who.genesis, Role: role}, options...)
}

func (w *world) data(by *person, as *entry.Entry, seq int64, prev *entry.Entry, options ...func(*entry.DataDraft)) *entry.Entry {
	w.t.Helper()
	w.next++
	d := entry.DataDraft{
		ID: numberedID(w.next), Group: w.create.Group, Subject: numberedID(5), Signer: by.id,
		Modified: as.Modified + seq, As: as.Hash, Seq: seq,
		Changes: []fold.Change{{Path: "title", Set: true, Value: json.RawMessage(`"x"`)}},
	}
	if prev == nil {
		d.Dev = device(0)
	} else {
		d.Prev = prev.Hash
	}
	for _, o := range options {
		o(&d)
	}
	e, err := entry.SignData(w.keyOf(by, as.Hash), d)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *world) wantMembers(s *group.State, want ...string) {
	w.t.Helper()
	got := []string{}
	for _, m := range s.Members() {
		i := slices.IndexFunc(cast, func(p *person) bool { return p.id == m.UserID })
		got = append(got, cast[i].name+" "+string(m.Role))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.t.Errorf("members are %q, want %q", got, want)
	}
}

func (w *world) wantValid(s *group.State, e *entry.Entry, want bool) {
	w.t.Helper()
	if got := s.Valid(e.Hash); got != want {
		w.t.Errorf("valid is %v for the %s, want %v", got, e.Op.Kind(), want)
	}
}

// refs returns the references of an operation.
func refs(e *entry.Entry) []hash {
	out := slices.Clone(e.Deps)
	for _, h := range []hash{e.As, e.Prev} {
		if !h.IsZero() {
			out = append(out, h)
		}
	}
	return out
}

// pastClosed returns those of the operations that are named or in the past of
// named ones. All must be in causal order.
func pastClosed(all []*entry.Entry, named []hash) []*entry.Entry {
	in := map[hash]bool{}
	for _, h := range named {
		in[h] = true
	}
	for _, e := range slices.Backward(all) {
		if in[e.Hash] {
			for _, r := range refs(e) {
				in[r] = true
			}
		}
	}
	var out []*entry.Entry
	for _, e := range all {
		if in[e.Hash] {
			out = append(out, e)
		}
	}
	return out
}

func evaluate(t testing.TB, id peercrypto.ID, ops []*entry.Entry) *group.State {
	t.Helper()
	return load(t, id, ops).State()
}

func load(t testing.TB, id peercrypto.ID, ops []*entry.Entry) *group.Log {
	t.Helper()
	l := group.NewLog(id)
	for _, e := range ops {
		if err := l.Restore(e); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// deliver adds operations in a random order with doubles, each as soon as what
// it misses is there.
func deliver(t testing.TB, rng *rand.Rand, id peercrypto.ID, ops []*entry.Entry) *group.State {
	t.Helper()
	l := group.NewLog(id)
	queue := slices.Concat(ops, ops[:len(ops)/3])
	rng.Shuffle(len(queue), func(i, j int) { queue[i], queue[j] = queue[j], queue[i] })
	for tries := 0; len(queue) > 0; tries++ {
		if tries > len(ops)*len(ops)*4+100 {
			t.Fatal("delivery does not end")
		}
		e := queue[0]
		queue = queue[1:]
		outcome, err := l.Add(e)
		var missing *group.MissingError
		switch {
		case errors.As(err, &missing):
			for _, h := range missing.Refs {
				if l.Has(h) || !slices.Contains(refs(e), h) {
					t.Fatal("what is said to be missing is not")
				}
			}
			queue = append(queue, e)
		case err != nil:
			t.Fatal(err)
		case outcome == group.Replaced:
			t.Fatal("replaced by itself")
		}
		if rng.IntN(8) == 0 {
			l.State() // evaluation in between must not matter
		}
	}
	if l.Len() != len(ops) {
		t.Fatalf("%d operations of %d", l.Len(), len(ops))
	}
	return l.State()
}

// dump writes down everything that a state says about shared operations.
func dump(s *group.State, ops []*entry.Entry) string {
	type view struct {
		Valid, Shared, Heads []hash
		Members              []group.Member
		Principals           []group.Principal
		Owner                peercrypto.ID
		Name                 string
		Deleted, Due         bool
		Invites              []group.OpenInvite
		Keys                 []group.RendezvousKey
		Alarms               []group.Alarm
	}
	v := view{
		Heads: s.Heads(), Members: s.Members(), Owner: s.Owner(), Name: s.Name(), Deleted: s.Deleted(), Due: s.RotationDue(),
		Invites: s.Invites(start), Keys: s.RendezvousKeys(), Alarms: s.Alarms(),
	}
	for _, p := range s.Principals("") {
		if s.Shared(p.Grant) { // of the others nobody has to know
			p.Accepted = p.Accepted && p.Granted
			v.Principals = append(v.Principals, p)
		}
	}
	for _, e := range ops {
		if s.Valid(e.Hash) {
			v.Valid = append(v.Valid, e.Hash)
		}
		if s.Shared(e.Hash) {
			v.Shared = append(v.Shared, e.Hash)
		}
	}
	slices.SortFunc(v.Valid, hash.Compare)
	slices.SortFunc(v.Shared, hash.Compare)
	out, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		panic(err)
	}
	return string(out)
}
