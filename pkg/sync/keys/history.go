package keys

import (
	"cmp"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// MaxEvents bounds what [Connected] looks at.
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
	// Line are the events of Path.
	Line []Event

	contenders []Event
}

// Frozen reports whether the key can't be used until a fork is settled.
func (h History) Frozen() bool { return len(h.Contending) > 0 }

// Holds reports whether an event stands.
func (h History) Holds(event peercrypto.Hash) bool { return slices.Contains(h.Path, event) }

// Decisive returns the events on which the evaluation rests: those that stand and those that contend. The others have lost for good:
// with any further events the set says the same whether they are in it or not.
func (h History) Decisive() []Event { return slices.Concat(h.Line, h.contenders) }

// Evaluate finds what a set of events says: a function of the set, whatever
// order it has. What can't count is left out. It verifies those events only that
// decide, so that what somebody adds to the set costs little and hides nothing.
func Evaluate(genesis State, events []Event) History {
	type step struct {
		Event
		hash  peercrypto.Hash
		state State
	}
	behind := map[peercrypto.Hash][]step{}
	for _, e := range events {
		behind[e.Prev] = append(behind[e.Prev], step{Event: e, hash: e.Hash()})
	}
	h := History{State: genesis}
	for {
		steps := behind[h.State.head]
		slices.SortStableFunc(steps, func(a, b step) int { return cmp.Or(b.By.Compare(a.By), a.hash.Compare(b.hash)) })
		var found []step
		for _, s := range steps {
			if len(found) == 1 && (found[0].By != ByKey || found[0].hash == s.hash) {
				continue // it lost, or is there already
			}
			var err error
			if s.state, err = h.State.Apply(s.Event); err == nil {
				found = append(found, s)
			}
			if len(found) == 2 {
				break
			}
		}
		switch len(found) {
		case 0:
			return h
		case 2:
			h.Contending = []peercrypto.Hash{found[0].hash, found[1].hash}
			h.contenders = []Event{found[0].Event, found[1].Event}
			return h
		}
		h.State = found[0].state
		h.Path, h.Line = append(h.Path, found[0].hash), append(h.Line, found[0].Event)
	}
}

// Connected tells whether each of at most [MaxEvents] events is a good one that follows the genesis or another one of them.
func Connected(genesis State, events []Event) bool {
	if len(events) > MaxEvents {
		return false
	}
	sorted := slices.Clone(events)
	slices.SortStableFunc(sorted, func(a, b Event) int { return cmp.Compare(a.Seq, b.Seq) })
	states := map[peercrypto.Hash]State{genesis.head: genesis}
	for _, e := range sorted {
		prev, known := states[e.Prev]
		if !known {
			return false
		}
		next, err := prev.Apply(e)
		if err != nil {
			return false
		}
		states[next.head] = next
	}
	return true
}
