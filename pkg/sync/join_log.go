package sync

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

// checkingEvery is how often JoinChecking is told.
const checkingEvery = 500 * time.Millisecond

var (
	errJoinIDs = errors.New("the group's log names more users than this device checks for one member at once; try it later, or with another member")
	// errGivenUp ends the check of a log that nobody waits for any more: the join was cancelled, or another device's answer came first.
	errGivenUp = errors.New("nobody waits for the group's log any more")
)

// A logProof is the check of a log that came as a whole, which can take minutes. It holds no lock.
type logProof struct {
	e     *Engine
	from  peercrypto.ID // who sent it
	group peercrypto.ID
	join  *pendingJoin // that it answers; nil if it was asked for otherwise
	known bool         // some of it is stored here

	log    *group.Log // the operations, without doubles
	items  []*item    // those in log
	fresh  []*item    // those of them that are not stored
	users  int64      // whose ids are checked
	passed atomic.Int64
}

// proveLog checks the signatures and ids of a log while nobody is kept from writing. What it returns needs no other proof. What is cheap comes first: the
// place of each operation, all signatures, and whether this user is a member by it; then ids, on all cores and in an order that its author can't
// know. So most of the ids in a log that is refused late were made by deriving them, which costs as much as to check them. What was derived is at hand when
// the log comes again.
func (e *Engine) proveLog(ctx context.Context, from, id peercrypto.ID, j *pendingJoin, items []*item) ([]*item, error) {
	p := &logProof{e: e, from: from, group: id, join: j, log: group.NewLog(id)}
	slices.SortFunc(items, func(a, b *item) int { return compareEntries(a.ent, b.ent) })
	if err := p.place(items); err != nil {
		return nil, err
	}
	if err := p.signatures(ctx); err != nil {
		return nil, err
	}
	if err := p.membership(); err != nil {
		return nil, err
	}
	if err := p.ids(ctx); err != nil {
		return nil, err
	}
	for _, it := range p.items {
		it.proven = true
	}
	return p.items, nil
}

// place finds out whether the operations build on each other as they should, whoever signed them.
func (p *logProof) place(items []*item) error {
	stored := func(*item) bool { return false }
	if g, err := p.e.replica(p.group); err == nil {
		stored, p.known = g.holds, true
	}
	for _, it := range items {
		if p.log.Has(it.ent.Hash) {
			continue
		}
		if err := p.log.Restore(it.ent); err != nil {
			return fmt.Errorf("%w: %w", errFake, err)
		}
		p.items = append(p.items, it)
		if !stored(it) {
			p.fresh = append(p.fresh, it)
		}
	}
	return nil
}

func (p *logProof) signatures(ctx context.Context) error {
	errs := make([]error, len(p.fresh))
	if err := p.e.each(ctx, len(p.fresh), func(i int) { errs[i] = p.log.ProveSignatures(p.fresh[i].ent) }); err != nil {
		return err
	}
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("%w: %w", errFake, err)
		}
	}
	return nil
}

// membership refuses a log by which this user is no member, whatever the ids turn out to be; of a group that is known, it is judged together with what is stored.
func (p *logProof) membership() error {
	if p.known {
		return nil
	}
	if _, ok := p.log.State().Member(p.e.userID); !ok {
		return fmt.Errorf("%w: this user is no member there", errFake)
	}
	return nil
}

// ids checks all ids, or until one is wrong.
func (p *logProof) ids(ctx context.Context) error {
	jobs, costs := slices.Clone(p.fresh), 0
	jobs = slices.DeleteFunc(jobs, func(it *item) bool { return idsIn([]*item{it}) == 0 })
	for _, it := range jobs {
		costs += it.idCost()
	}
	limits, now := p.e.cfg.Limits, p.e.cfg.Now
	own := p.from == p.e.userID // a log of a user's own device is taken at any size
	if !own && !p.e.joined.covers(p.from, costs, limits.JoinIDs, now()) {
		return errJoinIDs
	}
	var seed [32]byte
	_, _ = cryptorand.Read(seed[:]) // never fails
	rand.New(rand.NewChaCha8(seed)).Shuffle(len(jobs), func(i, k int) { jobs[i], jobs[k] = jobs[k], jobs[i] })

	p.users = int64(len(jobs))
	p.e.checking(p, true)
	defer p.e.checking(p, false)
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	stop := p.tellProgress()
	defer stop()
	err := p.e.each(ctx, len(jobs), func(i int) {
		it := jobs[i]
		if n := it.idCost(); n > 0 && !own && !p.e.joined.take(p.from, n, limits.JoinIDs, now()) {
			fail(errJoinIDs)
		} else if p.join != nil && !p.e.waitsFor(p.group, p.join) {
			fail(errGivenUp)
		} else if err := group.ProveIDs(it.ent); err != nil {
			fail(fmt.Errorf("%w: %w", errFake, err))
		}
		p.passed.Add(1)
	})
	if err != nil {
		return context.Cause(ctx)
	}
	return nil
}

// tellProgress tells how far the check is, from half a second on, until stop is called.
func (p *logProof) tellProgress() (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(checkingEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.e.bus.publish(JoinChecking{Group: p.group, Checked: p.passed.Load(), Users: p.users})
			case <-end:
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

// idCost is how many ids of an operation have to be derived, which are not at hand.
func (it *item) idCost() int {
	n := 0
	body := func(g peercrypto.UserGenesis) {
		if !g.HasID() {
			n++
		}
	}
	switch op := it.ent.Op.(type) {
	case entry.Create:
		n++ // the group's
		body(op.User)
	case entry.Add:
		body(op.User)
	}
	return n
}

// checking notes that a log is checked, for PendingJoins, or is no more. Of several for one group the last one is shown.
func (e *Engine) checking(p *logProof, on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if on {
		e.proofs[p.group] = p
	} else if e.proofs[p.group] == p {
		delete(e.proofs, p.group)
	}
}

// waitsFor tells whether a join is still pending.
func (e *Engine) waitsFor(id peercrypto.ID, j *pendingJoin) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	now := e.joins[id]
	return now != nil && now.inv.Secret == j.inv.Secret
}

// holds tells whether an operation is in the log with these bytes.
func (g *replica) holds(it *item) bool {
	g.logMu.RLock()
	defer g.logMu.RUnlock()
	have, ok := g.log.Get(it.ent.Hash)
	return ok && have.Signature == it.ent.Signature
}

// take inserts an operation, without proof where there was one.
func (g *replica) take(it *item) error {
	if !it.proven {
		_, err := g.add(it.ent)
		return err
	}
	g.logMu.Lock()
	defer g.logMu.Unlock()
	return g.restore(it.ent)
}

// wouldTake is take without the insertion.
func (g *replica) wouldTake(it *item) error {
	if it.proven {
		return g.log.CheckProven(it.ent)
	}
	return g.log.Check(it.ent)
}
