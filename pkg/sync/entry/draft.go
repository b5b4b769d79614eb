package entry

import (
	"fmt"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/fold"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// OpDraft is an operation to be signed. Seq 0 needs Dev and no Prev, a later
// one Prev and no Dev.
type OpDraft struct {
	ID       peercrypto.ID // of the change; a new one each time
	Group    peercrypto.ID
	Signer   peercrypto.ID
	Modified int64 // unix ms
	As       peercrypto.Hash
	Deps     []peercrypto.Hash // sorted
	Seq      int64
	Prev     peercrypto.Hash
	Dev      peercrypto.ID
	Op       Op
}

// SignOperation encodes and signs an operation and decodes what came out, so
// that nothing unsound leaves the author.
func SignOperation(key peercrypto.SigningKey, d OpDraft) (*Entry, error) {
	if d.Op == nil {
		return nil, fmt.Errorf("signing an operation: %w", Unsound("no operation"))
	}
	c, ok := codecs[d.Op.Kind()]
	if !ok {
		return nil, fmt.Errorf("signing an operation of kind %q: %w", d.Op.Kind(), ErrUnknownVersion)
	}
	op, err := c.encode(d.Op)
	if err != nil {
		return nil, fmt.Errorf("signing an operation of kind %q: %w", d.Op.Kind(), err)
	}
	e := &Entry{
		Kind: Operation, ID: d.ID, Group: d.Group, Subject: d.Group, Signer: d.Signer, Modified: d.Modified,
		As: d.As, Deps: d.Deps, Seq: d.Seq, Prev: d.Prev, Dev: d.Dev,
	}
	signed, err := e.sign(key, []byte("[]"), op)
	if err != nil {
		return nil, fmt.Errorf("signing an operation of kind %q: %w", d.Op.Kind(), err)
	}
	return signed, nil
}

// DataDraft is a data change to be signed; see [OpDraft] for the chain.
type DataDraft struct {
	ID             peercrypto.ID
	Group          peercrypto.ID
	Subject        peercrypto.ID // the document
	Signer         peercrypto.ID
	Modified       int64 // unix ms
	As             peercrypto.Hash
	Seq            int64
	Prev           peercrypto.Hash
	Dev            peercrypto.ID
	Changes        []fold.Change // values in canonical form
	SubjectDeleted bool
}

// SignData is [SignOperation] for data changes.
func SignData(key peercrypto.SigningKey, d DataDraft) (*Entry, error) {
	changes, err := encodeChanges(d.Changes)
	if err != nil {
		return nil, fmt.Errorf("signing a data change: %w", err)
	}
	e := &Entry{
		Kind: Data, ID: d.ID, Group: d.Group, Subject: d.Subject, Signer: d.Signer, Modified: d.Modified,
		As: d.As, Seq: d.Seq, Prev: d.Prev, Dev: d.Dev, SubjectDeleted: d.SubjectDeleted,
	}
	signed, err := e.sign(key, changes, nil)
	if err != nil {
		return nil, fmt.Errorf("signing a data change: %w", err)
	}
	return signed, nil
}

// sign returns the decoded form of e with a signature.
func (e *Entry) sign(key peercrypto.SigningKey, changes, op []byte) (*Entry, error) {
	if key.IsZero() {
		return nil, peercrypto.ErrKey
	}
	e.Signature = key.SignHash(e.encode(changes, op).hash())
	parts := e.encode(changes, op)
	raw := make([]byte, 0, len(parts.head)+len(parts.signature)+len(parts.tail))
	raw = append(append(append(raw, parts.head...), parts.signature...), parts.tail...)
	return Decode(raw)
}

// CreateDraft is a group to be made.
type CreateDraft struct {
	ID       peercrypto.ID // of the change: its random part makes the group different from the owner's others
	Owner    peercrypto.UserGenesis
	Dev      peercrypto.ID // the device that signs
	Name     string
	Modified int64        // unix ms, also the group id's time
	Keys     []keys.Event // that lead from the key in Owner to the one that signs, if that is another
}

// SignCreate makes a group: its genesis body, its id and the operation that
// begins its log. Deriving the ids takes tens of milliseconds.
func SignCreate(key peercrypto.SigningKey, d CreateDraft) (*Entry, error) {
	if err := d.Owner.Validate(); err != nil {
		return nil, fmt.Errorf("making a group: %w", err)
	}
	body := peercrypto.GroupGenesis{
		V: 1, Created: d.Modified, Owner: d.Owner.ID(), Genesis: d.Owner.Hash(),
		Nonce: createNonce(d.ID, d.Dev, d.Keys, d.Name, DefaultRules),
	}
	if err := body.Validate(); err != nil {
		return nil, fmt.Errorf("making a group: %w", err)
	}
	return SignOperation(key, OpDraft{
		ID: d.ID, Group: body.ID(), Signer: body.Owner, Modified: d.Modified, Dev: d.Dev,
		Op: Create{Group: body, User: d.Owner, Keys: d.Keys, Name: d.Name, Policy: DefaultRules},
	})
}

// createNonce binds all of a create that the group's body does not hold, so
// that an owner can't sign two creates for one group id.
func createNonce(id, dev peercrypto.ID, events []keys.Event, name string, rules Rules) peercrypto.Nonce {
	var n peercrypto.Nonce
	raw, err := peercrypto.MarshalCanonical(struct {
		Dev    peercrypto.ID `json:"dev"`
		ID     peercrypto.ID `json:"id"`
		Keys   []keys.Event  `json:"keys,omitzero"`
		Name   string        `json:"name"`
		Policy Rules         `json:"policy"`
	}{dev, id, events, name, rules})
	if err != nil {
		return n // a name that is not UTF-8, which is refused elsewhere
	}
	h := peercrypto.Sum(append([]byte("peers/create/1\n"), raw...))
	copy(n[:], h[:])
	return n
}
