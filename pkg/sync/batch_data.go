package sync

import (
	"bytes"
	"errors"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

func (b *batch) admitData(items []*item) error {
	slices.SortFunc(items, byChain)
	has, err := known(b.tx, items)
	if err != nil {
		return err
	}
	for i, it := range items {
		if has[i] {
			err = b.knownData(it)
		} else {
			err = b.admitChange(it)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// knownData keeps the smaller of two valid signatures.
func (b *batch) knownData(it *item) error {
	b.count(it, &b.result.Known)
	rec, ok, err := b.tx.Record(it.ent.Hash)
	if err != nil || !ok || bytes.Equal(rec.Raw, it.ent.Raw) {
		return err
	}
	have, err := entry.Decode(rec.Raw)
	if err != nil {
		return err
	}
	p, ok := b.state.Principal(it.ent.As)
	if !ok || it.ent.Signature.Compare(have.Signature) >= 0 || !it.ent.VerifySignature(p.Key) {
		return nil
	}
	rec.Raw = it.ent.Raw
	return b.tx.PutRecord(rec)
}

func (b *batch) admitChange(it *item) error {
	if b.seen[it.ent.Hash] != nil {
		b.count(it, &b.result.Known)
		return nil
	}
	if b.bad[it.ent.Prev] {
		b.refuse(it, entry.Unsound("the entry before it is unsound"))
		return nil
	}
	prev, ok, err := b.prevOf(it)
	if err != nil {
		return err
	}
	if !ok {
		return b.quarantine(it, []peercrypto.Hash{it.ent.Prev})
	}
	if !it.sound {
		err := group.CheckData(b.g.log, it.ent, prev.data())
		var missing *group.MissingError
		switch {
		case errors.As(err, &missing):
			return b.quarantine(it, missing.Refs)
		case err != nil:
			b.refuse(it, err)
			return nil
		}
	}
	if late, err := b.early(it); late || err != nil {
		return err
	}
	it.dev = it.ent.Dev
	if it.ent.Seq > 0 {
		it.dev = prev.dev
	}
	b.seen[it.ent.Hash] = it
	if b.state.Free(it.ent.As) {
		return b.storeData(it, flags{true, true})
	}
	b.held[it.ent.As] = append(b.held[it.ent.As], it)
	if _, some := b.judged[it.ent.As]; !some {
		b.judged[it.ent.As] = false
	}
	return nil
}

// A link is what is needed of the entry before another in its chain.
type link struct {
	ref group.DataRef
	dev peercrypto.ID
	any bool
}

func (l link) data() *group.DataRef {
	if !l.any {
		return nil
	}
	return &l.ref
}

// prevOf finds the entry before it, which is sound wherever it is found: in this batch, in the store or void in quarantine.
func (b *batch) prevOf(it *item) (link, bool, error) {
	if it.ent.Seq == 0 {
		return link{}, true, nil
	}
	if p := b.seen[it.ent.Prev]; p != nil {
		return link{p.ref(), p.dev, true}, true, nil
	}
	rec, ok, err := b.tx.Record(it.ent.Prev)
	if err != nil {
		return link{}, false, err
	}
	if ok {
		if rec.Kind != entry.Data || rec.Group != b.g.id {
			// CheckData compares what it is given; an operation as prev is unsound by its zero fields.
			return link{group.DataRef{Hash: rec.Hash, Seq: -2}, "", true}, true, nil
		}
		return link{group.DataRef{Hash: rec.Hash, Prev: rec.Prev, As: rec.As, Seq: rec.Seq}, rec.Dev, true}, true, nil
	}
	if _, isOp := b.g.log.Get(it.ent.Prev); isOp {
		return link{group.DataRef{Hash: it.ent.Prev, Seq: -2}, "", true}, true, nil
	}
	if !b.waiting && !b.quarantined {
		return link{}, false, nil
	}
	var found link
	err = b.tx.Waiting(b.g.id, waitVoid(it.ent.Prev), func(q Quarantined) error {
		ent, err := entry.Decode(q.Raw)
		if err == nil && ent.Hash == it.ent.Prev && ent.Kind == entry.Data {
			found = link{group.DataRef{Hash: ent.Hash, Prev: ent.Prev, As: ent.As, Seq: ent.Seq}, voidDev(q), true}
		}
		return nil
	})
	return found, found.any, err
}

func (b *batch) dataRecord(it *item, f flags) Record {
	return Record{
		Ref: Ref{it.ent.Modified, it.ent.Hash}, Group: it.ent.Group, Kind: entry.Data, Subject: it.ent.Subject, As: it.ent.As,
		Prev: it.ent.Prev, Dev: it.dev, Seq: it.ent.Seq, Raw: it.ent.Raw,
		Valid: f.valid, Shared: f.valid || f.shared, Origin: it.origin,
	}
}

func (b *batch) storeData(it *item, f flags) error {
	if err := b.noteFork(it); err != nil {
		return err
	}
	if err := b.tx.PutRecord(b.dataRecord(it, f)); err != nil {
		return err
	}
	b.count(it, &b.result.Accepted)
	b.fresh = append(b.fresh, it.ent.Hash)
	delete(b.g.named, it.ent.Hash)
	if f.valid || f.shared {
		b.shared.add(it.origin)
	}
	if f.valid {
		b.touch(it.ent.Subject).added = append(b.touch(it.ent.Subject).added, it.ent)
	}
	return nil
}

// judge decides about the data of each grant that needs it.
func (b *batch) judge() error {
	for len(b.judged) > 0 {
		var grant peercrypto.Hash
		for grant = range b.judged {
			break
		}
		all := b.judged[grant]
		delete(b.judged, grant)
		if !all {
			void, err := b.areVoid(grant, b.held[grant])
			if err != nil {
				return err
			}
			all = !void
		}
		var err error
		if all {
			err = b.judgeGrant(grant)
		} else {
			err = b.putVoid(grant)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// areVoid tells whether new data of a grant that is not free is void and concerns nothing else, without looking at what is stored of that grant: nothing names
// it, and nothing stored is behind it in its chain.
func (b *batch) areVoid(grant peercrypto.Hash, held []*item) (bool, error) {
	if b.state.Free(grant) {
		return false, nil
	}
	for _, it := range held {
		if b.state.Names(grant, it.ent.Hash) {
			return false, nil
		}
		followed, err := b.isFollowed(it)
		if err != nil || followed {
			return false, err
		}
	}
	if len(b.g.named) == 0 {
		return true, nil
	}
	void, err := b.voidOf(grant) // before them in their chains, and to be stored from now on
	return len(void) == 0, err
}

// maxTwins is how many entries at one place of a chain are looked at; of a chain with more, all is judged again.
const maxTwins = 64

// isFollowed tells whether something stored builds on an entry that was not there; it can have come and gone as a void one before.
func (b *batch) isFollowed(it *item) (bool, error) {
	head, err := b.headOf(chainKey{it.ent.As, it.dev})
	if err != nil || it.ent.Seq >= head.seq {
		return false, err
	}
	next, err := b.tx.ChainAt(it.ent.As, it.dev, entry.Data, it.ent.Seq+1, maxTwins+1)
	return len(next) > maxTwins || slices.ContainsFunc(next, func(r Record) bool { return r.Prev == it.ent.Hash }), err
}

// putVoid keeps new data of a grant, all of which is void.
func (b *batch) putVoid(grant peercrypto.Hash) error {
	held := b.held[grant]
	delete(b.held, grant)
	keep := len(b.g.named) > 0
	for _, it := range held {
		var err error
		if keep {
			err = b.storeData(it, flags{})
		} else {
			err = b.quarantineVoid(it)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) judgeGrant(grant peercrypto.Hash) error {
	held := b.held[grant]
	delete(b.held, grant)
	var stored []Record
	var refs []group.DataRef
	err := b.tx.DataOf(grant, func(r Record) error {
		b.result.again++
		r.Raw = nil
		stored = append(stored, r)
		refs = append(refs, group.DataRef{Hash: r.Hash, Prev: r.Prev, As: r.As, Seq: r.Seq})
		return nil
	})
	if err != nil {
		return err
	}
	void, err := b.voidOf(grant)
	if err != nil {
		return err
	}
	for _, it := range slices.Concat(void, held) {
		refs = append(refs, it.ref())
	}
	verdict := b.verdict(grant, refs)
	keep := len(b.g.named) > 0 // asked before one of these is the last that was named
	for _, r := range stored {
		if err := b.reflag(r, verdict(r.Hash)); err != nil {
			return err
		}
	}
	for _, it := range void {
		if f := verdict(it.ent.Hash); f.shared || keep {
			if err := b.tx.DeleteQuarantined(peercrypto.Sum(it.ent.Raw)); err != nil {
				return err
			}
			if err := b.storeData(it, f); err != nil {
				return err
			}
		}
	}
	for _, it := range held {
		f := verdict(it.ent.Hash)
		if f.shared || keep {
			err = b.storeData(it, f)
		} else {
			err = b.quarantineVoid(it)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// findNamed looks for what frontiers name. Void data that a new one names is judged again: with all before it in its chain it is stored
// from now on.
func (b *batch) findNamed() error {
	if len(b.g.named) == 0 {
		return nil
	}
	if err := b.g.findNamed(b.tx); err != nil {
		return err
	}
	for _, it := range b.newOps {
		for _, h := range entry.Frontier(it.ent.Op) {
			if _, unknown := b.g.named[h]; !unknown {
				continue
			}
			grant, err := b.grantOf(h)
			if err != nil {
				return err
			}
			if !grant.IsZero() {
				b.judged[grant] = true
			}
		}
	}
	return nil
}

// grantOf returns the grant of a data change that is stored or void in quarantine.
func (b *batch) grantOf(h peercrypto.Hash) (peercrypto.Hash, error) {
	if b.g.log.Has(h) {
		return peercrypto.Hash{}, nil
	}
	if it := b.seen[h]; it != nil {
		return it.ent.As, nil
	}
	rec, ok, err := b.tx.Record(h)
	if err != nil || ok && rec.Kind == entry.Data && rec.Group == b.g.id {
		return rec.As, err
	}
	if !b.waiting && !b.quarantined {
		return peercrypto.Hash{}, nil
	}
	var grant peercrypto.Hash
	err = b.tx.Waiting(b.g.id, waitVoid(h), func(q Quarantined) error {
		if ent, err := entry.Decode(q.Raw); err == nil && ent.Hash == h && ent.Kind == entry.Data {
			grant = ent.As
		}
		return nil
	})
	return grant, err
}

// verdict returns the flags of a grant's data.
func (b *batch) verdict(grant peercrypto.Hash, refs []group.DataRef) func(peercrypto.Hash) flags {
	if b.state.Free(grant) {
		return func(peercrypto.Hash) flags { return flags{true, true} }
	}
	valid, shared := b.state.JudgeData(grant, refs)
	return func(h peercrypto.Hash) flags { return flags{valid[h], valid[h] || shared[h]} }
}

func (b *batch) reflag(r Record, f flags) error {
	if r.Valid == f.valid && r.Shared == f.shared {
		return nil
	}
	if f.shared && !r.Shared {
		b.shared.add(ofSeveral)
	}
	if r.Valid != f.valid {
		b.touch(r.Subject).refold = true
	}
	return b.tx.SetFlags(r.Hash, f.valid, f.shared)
}

// voidOf reads the data of a grant that waits in quarantine for a different judgement.
func (b *batch) voidOf(grant peercrypto.Hash) ([]*item, error) {
	if !b.waiting && !b.quarantined {
		return nil, nil
	}
	var out []*item
	err := b.tx.Waiting(b.g.id, waitVoid(grant), func(q Quarantined) error {
		ent, err := entry.Decode(q.Raw)
		if err == nil && ent.Kind == entry.Data && ent.As == grant {
			out = append(out, &item{
				ent: ent, sound: true, from: q.From, received: q.Received, released: true, origin: fromQuarantine, dev: voidDev(q),
			})
		}
		return nil
	})
	return out, err
}
