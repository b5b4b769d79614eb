package sync

import (
	"fmt"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// maxForks is how many forked data chains of a group are remembered and told.
const maxForks = 64

// A chainKey names a chain of data.
type chainKey struct {
	as  peercrypto.Hash
	dev peercrypto.ID
}

// A chainHead is the last entry of a chain.
type chainHead struct {
	seq  int64
	hash peercrypto.Hash
}

// A forkedChain is one in which two different entries are stored at the same place. It voids nothing: a device that was restored from a
// backup does that honestly, one whose key was copied does it, too.
type forkedChain struct {
	User    peercrypto.ID      `json:"user"`
	Dev     peercrypto.ID      `json:"dev"`
	As      peercrypto.Hash    `json:"as"`
	Changes [2]peercrypto.Hash `json:"changes"`
}

func (f forkedChain) text() string {
	return fmt.Sprintf("chain forked: user %s, device %s, changes %s, %s: a device continues an old backup, or its key was copied",
		f.User.Short(), f.Dev.Short(), f.Changes[0].Short(), f.Changes[1].Short())
}

// noteFork looks whether an entry that is about to be stored stands where another one of its chain does. Entries come behind the one before them, so
// mostly that means to compare with the end of the chain. A chain is looked at closely at most once in a batch.
func (b *batch) noteFork(it *item) error {
	key := chainKey{it.ent.As, it.dev}
	head, err := b.headOf(key)
	if err != nil {
		return err
	}
	if it.ent.Seq > head.seq {
		b.heads[key] = chainHead{it.ent.Seq, it.ent.Hash}
		return nil
	}
	if b.lookedAt[key] {
		return nil
	}
	b.lookedAt[key] = true
	m, err := b.meta()
	if err != nil {
		return err
	}
	told := func(f forkedChain) bool { return f.As == key.as && f.Dev == key.dev }
	if len(m.Forks) >= maxForks || slices.ContainsFunc(m.Forks, told) {
		return nil
	}
	twin, found, err := b.ancestor(head, it.ent.Seq)
	if err != nil || !found || twin == it.ent.Hash {
		return err // that one is not stored, or is this one: its turn comes late
	}
	f := forkedChain{it.ent.Signer, it.dev, it.ent.As, [2]peercrypto.Hash{twin, it.ent.Hash}}
	m.Forks = append(m.Forks, f)
	b.events = append(b.events, Alarm{Group: b.g.id, Text: f.text()})
	return b.putMeta(m)
}

// headOf returns the end of a stored chain of data; its seq is -1 if there is none.
func (b *batch) headOf(key chainKey) (chainHead, error) {
	head, known := b.heads[key]
	if known {
		return head, nil
	}
	rec, ok, err := b.tx.ChainHead(key.as, key.dev, entry.Data)
	if err != nil {
		return head, err
	}
	if head = (chainHead{seq: -1}); ok {
		head = chainHead{rec.Seq, rec.Hash}
	}
	b.heads[key] = head
	return head, nil
}

// ancestor finds the stored entry at a place of the chain that ends with head.
func (b *batch) ancestor(head chainHead, seq int64) (peercrypto.Hash, bool, error) {
	for h := head.hash; ; {
		rec, ok, err := b.tx.Record(h)
		if err != nil || !ok {
			return peercrypto.Hash{}, false, err
		}
		if rec.Seq <= seq {
			return h, rec.Seq == seq, nil
		}
		h = rec.Prev
	}
}
