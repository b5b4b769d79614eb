package keys

import (
	"cmp"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// MaxEvents bounds what [Evaluate] looks at.
const MaxEvents = 1024

// Step is an event in a fork.
type Step struct {
	Hash  peercrypto.Hash
	Class Class
}

// Fork decides between events that follow the same one, of which there is at
// least one; each hash counts once. Either next is the one that stands, or two
// events of class [ByKey] contend: then nothing stands until an event of a
// higher class follows the same one. Of more than two those with the smallest
// hashes contend.
func Fork(steps []Step) (next peercrypto.Hash, contending []peercrypto.Hash) {
	steps = slices.Clone(steps)
	slices.SortFunc(steps, func(a, b Step) int { return cmp.Or(b.Class.Compare(a.Class), a.Hash.Compare(b.Hash)) })
	steps = slices.CompactFunc(steps, func(a, b Step) bool { return a.Hash == b.Hash })
	if len(steps) > 1 && steps[0].Class.Compare(ByKey) <= 0 {
		return peercrypto.Hash{}, []peercrypto.Hash{steps[0].Hash, steps[1].Hash}
	}
	return steps[0].Hash, nil
}

// History is the evaluation of a set of events.
type History struct {
	State State
	// Path are the hashes of the events that stand, the first one first.
	Path []peercrypto.Hash
	// Contending are the two events that froze the history behind Path; else it is empty.
	Contending []peercrypto.Hash
	// Unknown are the hashes that events name as the one before and that are
	// not there. Sorted.
	Unknown []peercrypto.Hash
	// Refused counts events that don't follow what they name, or have a wrong
	// signature.
	Refused int
}

// Frozen reports whether the key can't be used until a fork is settled.
func (h History) Frozen() bool { return len(h.Contending) > 0 }

// Holds reports whether an event stands.
func (h History) Holds(event peercrypto.Hash) bool { return slices.Contains(h.Path, event) }

// Evaluate finds what a set of events says: a function of the set, whatever
// order it has. What can't count is left out. Of more than [MaxEvents] events
// those with the lowest (seq, hash) count.
func Evaluate(genesis State, events []Event) History {
	t := newTree(genesis, events)
	h := History{State: genesis, Refused: t.refused, Unknown: t.unknown}
	for {
		steps := t.steps[h.State.head]
		if len(steps) == 0 {
			return h
		}
		next, contending := Fork(steps)
		if len(contending) > 0 {
			h.Contending = contending
			return h
		}
		h.State = t.states[next]
		h.Path = append(h.Path, next)
	}
}

// tree has every event that follows what it names.
type tree struct {
	states  map[peercrypto.Hash]State // after each event
	steps   map[peercrypto.Hash][]Step
	unknown []peercrypto.Hash
	refused int
}

func newTree(genesis State, events []Event) *tree {
	type hashed struct {
		Event
		hash peercrypto.Hash
	}
	all := make([]hashed, len(events))
	for i, e := range events {
		all[i] = hashed{e, e.Hash()}
	}
	slices.SortStableFunc(all, func(a, b hashed) int { return cmp.Or(cmp.Compare(a.Seq, b.Seq), a.hash.Compare(b.hash)) })
	t := &tree{states: map[peercrypto.Hash]State{genesis.head: genesis}, steps: map[peercrypto.Hash][]Step{}}
	missing := map[peercrypto.Hash]bool{}
	for _, e := range all {
		if _, known := t.states[e.hash]; known {
			continue
		}
		if len(t.states) > MaxEvents {
			break
		}
		prev, known := t.states[e.Prev]
		if !known { // those before it come first
			if !missing[e.Prev] {
				missing[e.Prev] = true
				t.unknown = append(t.unknown, e.Prev)
			}
			continue
		}
		next, err := prev.Apply(e.Event)
		if err != nil {
			t.refused++
			continue
		}
		t.states[e.hash] = next
		t.steps[e.Prev] = append(t.steps[e.Prev], Step{e.hash, e.By})
	}
	slices.SortFunc(t.unknown, peercrypto.Hash.Compare)
	return t
}
