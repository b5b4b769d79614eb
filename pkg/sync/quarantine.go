package sync

import (
	"context"
	"fmt"
	"slices"
	"strings"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// Kinds of a Wait.
const (
	waitsEntry = "entry"
	waitsTime  = "time"
	waitsVoid  = "void"
	// waitsDev carries the device of a void entry's chain, which its bytes do not tell. Nothing ever satisfies it.
	waitsDev = "dev"
)

// noLimit is what EvictQuarantine takes for a limit that does not apply.
const noLimit = -1

func waitEntry(h peercrypto.Hash) Wait { return Wait{waitsEntry, h.String()} }

// waitVoid waits for a different judgement of a grant's entries. Each void entry also waits for its own hash: that is how it is found when
// another one refers to it.
func waitVoid(h peercrypto.Hash) Wait { return Wait{waitsVoid, h.String()} }

func waitTime(ms int64) Wait { return Wait{waitsTime, fmt.Sprintf("%013d", ms)} }

func voidDev(q Quarantined) peercrypto.ID {
	for _, w := range q.Waits {
		if w.Kind == waitsDev {
			return peercrypto.ID(w.Ref)
		}
	}
	return ""
}

// maxMissing bounds IngestResult.Missing.
const maxMissing = 1_000

// quarantine keeps an item until what it refers to is there.
func (b *batch) quarantine(it *item, refs []peercrypto.Hash) error {
	if slices.ContainsFunc(refs, func(h peercrypto.Hash) bool { return b.asideOf[h] }) {
		return b.putAside(it)
	}
	waits := make([]Wait, 0, len(refs))
	for _, h := range refs {
		waits = append(waits, waitEntry(h))
		b.missing[h] = true
	}
	return b.keep(it, waits)
}

func (b *batch) deferUntil(it *item, ms int64) error {
	b.ahead = true
	return b.keep(it, []Wait{waitTime(ms)})
}

// quarantineVoid keeps a sound item that does not count for now.
func (b *batch) quarantineVoid(it *item) error {
	dev := it.dev
	if it.ent.Kind == entry.Operation {
		dev = b.g.devs[it.ent.Hash]
		delete(b.opItems, it.ent.Hash)
	} else {
		delete(b.seen, it.ent.Hash) // found in quarantine from now on
	}
	waits := []Wait{waitVoid(it.ent.Hash), {waitsDev, string(dev)}}
	if it.ent.As != it.ent.Hash && !it.ent.As.IsZero() {
		waits = append(waits, waitVoid(it.ent.As))
	}
	if err := b.keep(it, waits); err != nil {
		return err
	}
	// Sound entries that refer to this one can be judged now.
	b.fresh = append(b.fresh, it.ent.Hash)
	return nil
}

func (b *batch) keep(it *item, waits []Wait) error {
	b.count(it, &b.result.Deferred)
	if it.received == 0 {
		it.received = b.now
	}
	b.quarantined = true
	b.kept[it.ent.Hash] = true
	b.keepers[it.from] = struct{}{}
	return b.tx.PutQuarantined(Quarantined{
		Key: peercrypto.Sum(it.ent.Raw), Group: b.g.id, Hash: it.ent.Hash, Raw: it.ent.Raw,
		From: it.from, Received: it.received, Waits: waits,
	})
}

// listMissing tells what has to come from elsewhere: what is referred to and was not itself put into quarantine by this batch.
func (b *batch) listMissing() {
	for h := range b.missing {
		_, isOp := b.g.log.Get(h)
		if len(b.result.Missing) < maxMissing && !isOp && !b.kept[h] && b.seen[h] == nil {
			b.result.Missing = append(b.result.Missing, h)
		}
	}
	clear(b.missing)
}

// release takes out of quarantine what waited for the entries that became known. Each turn uses them up, and an item comes back only
// for another one that is missing, so this ends.
func (b *batch) release() ([]*item, error) {
	fresh := b.fresh
	b.fresh = nil
	if !b.waiting && !b.quarantined {
		return nil, nil
	}
	var out []*item
	taken := map[peercrypto.Hash]bool{}
	for _, h := range fresh {
		err := b.tx.Waiting(b.g.id, waitEntry(h), func(q Quarantined) error {
			if !taken[q.Key] {
				taken[q.Key] = true
				if it := releasedItem(q); it != nil {
					out = append(out, it)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for key := range taken {
		if err := b.tx.DeleteQuarantined(key); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func releasedItem(q Quarantined) *item {
	ent, err := entry.Decode(slices.Clone(q.Raw))
	if err != nil {
		return nil
	}
	return &item{ent: ent, from: q.From, received: q.Received, released: true, origin: fromQuarantine}
}

// enforceLimits deletes the oldest items of who has too many.
func (b *batch) enforceLimits() error {
	if !b.quarantined {
		return nil
	}
	l := b.e.cfg.Limits
	var evicted int64
	for from := range b.keepers {
		n, err := b.tx.EvictQuarantine("", from, l.SenderItems, l.SenderBytes, 0)
		if err != nil {
			return err
		}
		evicted += n
	}
	n, err := b.tx.EvictQuarantine(b.g.id, "", l.GroupItems, l.GroupBytes, 0)
	if err != nil {
		return err
	}
	evicted += n
	n, err = b.tx.EvictQuarantine("", "", noLimit, l.TotalBytes, b.now-l.QuarantineAge.Milliseconds())
	if evicted += n; evicted > 0 {
		b.e.log.Warn("quarantine is full: the oldest entries were dropped", "group", b.g.id.Short(), "dropped", evicted)
	}
	return err
}

// Quarantine lists what waits, oldest first; group "" means all. Limit 0 means 1,000.
func (e *Engine) Quarantine(ctx context.Context, group peercrypto.ID, limit int) ([]Quarantined, error) {
	if limit <= 0 {
		limit = 1_000
	}
	var out []Quarantined
	err := e.store.View(ctx, func(r Reader) error {
		return r.Quarantine(group, limit, func(q Quarantined) error {
			q.Raw = slices.Clone(q.Raw)
			q.Waits = slices.DeleteFunc(slices.Clone(q.Waits), func(w Wait) bool { return w.Kind == waitsDev })
			out = append(out, q)
			return nil
		})
	})
	return out, err
}

// Describe tells a user what the item waits for.
func (q Quarantined) Describe() string {
	var why []string
	for _, w := range q.Waits {
		switch w.Kind {
		case waitsEntry:
			why = append(why, "waits for entry "+w.Ref)
		case waitsTime:
			why = append(why, "is dated ahead of this device's clock, due "+w.Ref)
		case waitsVoid:
			if w.Ref != q.Hash.String() {
				why = append(why, "does not count: its author had left, was removed or has not accepted (grant "+w.Ref+")")
			}
		}
	}
	return strings.Join(why, "; ")
}
