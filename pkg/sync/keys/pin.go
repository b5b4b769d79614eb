package keys

import (
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Trust is how a device came to know a user.
type Trust string

// The levels in rising order.
const (
	Seen       Trust = "seen"       // first use: nobody vouched
	Introduced Trust = "introduced" // by an admin of a group of both
	Verified   Trust = "verified"   // people compared numbers or scanned a code
)

func (t Trust) level() int { return slices.Index([]Trust{Seen, Introduced, Verified}, t) }

// MaxConflicts bounds the claims of one id that a pin remembers.
const MaxConflicts = 4

// Pin is what a device remembers of a user: the genesis that it saw first and
// how far it followed the history. It is a value: transitions return a new one.
type Pin struct {
	UserID  peercrypto.ID        `json:"userId"`
	Genesis peercrypto.Hash      `json:"genesis"`
	Head    peercrypto.Hash      `json:"head"` // the last event that was followed
	Seq     int64                `json:"seq"`
	Key     peercrypto.PublicKey `json:"key"`
	Trust   Trust                `json:"trust"`
	Since   int64                `json:"since"` // when Trust was reached, unix ms
	// Rotated is set when the user changed the key by itself after people had compared numbers.
	Rotated bool `json:"rotated,omitzero"`
	Frozen  bool `json:"frozen,omitzero"` // two keys contend
	Ended   bool `json:"ended,omitzero"`  // the key was revoked and there is no other
	// Conflicts are other genesis hashes that claimed the id, the first ones.
	Conflicts []peercrypto.Hash `json:"conflicts,omitzero"`
}

// News is what a transition found.
type News string

// What a person may have to be told.
const (
	Nothing      News = ""
	KeyRotated   News = "key rotated"   // signed by the old key: trust stays
	KeyReplaced  News = "key replaced"  // by recovery or devices: Verified falls to Introduced
	KeyOverruled News = "key overruled" // an event that was followed does not stand any more: trust falls to Seen
	KeyFrozen    News = "key frozen"
	KeyEnded     News = "key revoked"
	IDConflict   News = "id conflict" // somebody else claims the id
)

// NewPin pins a user at first sight. now is unix ms.
func NewPin(body peercrypto.UserGenesis, h History, now int64) Pin {
	p := Pin{UserID: h.State.user, Genesis: body.Hash(), Trust: Seen, Since: now}
	p.follow(h)
	return p
}

// Usable reports whether what is new under Key may be taken as the user's.
func (p Pin) Usable() bool { return !p.Frozen && !p.Ended }

func (p *Pin) follow(h History) {
	p.Head, p.Seq, p.Key = h.State.head, h.State.seq, h.State.key
	p.Frozen, p.Ended = h.Frozen(), h.State.ended
}

// Observe follows the evaluation of all events that are known of the user, old
// ones included. If the event that was followed last is not among them, less is
// known there and nothing changes.
func (p Pin) Observe(events []Event, h History, now int64) (Pin, News) {
	inSet := func(e Event) bool { return e.Hash() == p.Head }
	stands := p.Head == p.Genesis || h.Holds(p.Head)
	switch {
	case h.State.user != p.UserID, !stands && !slices.ContainsFunc(events, inSet):
		return p, Nothing
	case p.Frozen && !h.Frozen() && h.State.head == p.Head:
		return p, Nothing // what froze the key is not known there
	}
	old := p
	p.follow(h)
	switch {
	case p.Frozen:
		if old.Frozen {
			return p, Nothing
		}
		return p, KeyFrozen
	case !stands:
		p.Trust, p.Since, p.Rotated = Seen, now, false
		return p, KeyOverruled
	case p.Ended && !old.Ended:
		return p, KeyEnded
	case p.Key == old.Key:
		return p, Nothing
	case selfSigned(h, old.Head):
		p.Rotated = p.Rotated || p.Trust == Verified
		return p, KeyRotated
	}
	if p.Trust == Verified {
		p.Trust, p.Since, p.Rotated = Introduced, now, false
	}
	return p, KeyReplaced
}

// selfSigned tells whether all events behind one, as far as they stand, are by the key.
func selfSigned(h History, behind peercrypto.Hash) bool {
	from := slices.Index(h.Path, behind) + 1
	return !slices.ContainsFunc(h.Line[from:], func(e Event) bool { return e.By != ByKey })
}

// Introduce notes that an admin of a shared group vouched for the pinned
// genesis. Another one is a conflict.
func (p Pin) Introduce(genesis peercrypto.Hash, now int64) (Pin, News) {
	if genesis != p.Genesis {
		return p.Conflict(genesis)
	}
	return p.raise(Introduced, now), Nothing
}

// Verify notes that people compared the numbers of this pin. It does nothing
// for what can't be used.
func (p Pin) Verify(now int64) Pin {
	if !p.Usable() {
		return p
	}
	p.Rotated = false
	return p.raise(Verified, now)
}

func (p Pin) raise(t Trust, now int64) Pin {
	if t.level() > p.Trust.level() {
		p.Trust, p.Since = t, now
	}
	return p
}

// Conflict notes that another genesis claims the id. The pin stays as it is.
func (p Pin) Conflict(genesis peercrypto.Hash) (Pin, News) {
	if genesis == p.Genesis || slices.Contains(p.Conflicts, genesis) {
		return p, Nothing
	}
	if len(p.Conflicts) < MaxConflicts {
		p.Conflicts = append(slices.Clone(p.Conflicts), genesis)
	}
	return p, IDConflict
}

// Identity returns what to compare.
func (p Pin) Identity() Identity { return Identity{p.UserID, p.Genesis, p.Head, p.Key} }
