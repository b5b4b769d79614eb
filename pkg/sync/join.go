package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"
)

// maxJoins is how many joins can be pending.
const maxJoins = 64

// A pendingJoin is immutable; a new refusal replaces it.
type pendingJoin struct {
	inv     entry.Invitation
	claim   []byte // canonical; the same one for all devices that are asked
	since   int64
	refusal string
	// back is a rendezvous key of a group to which this user comes back with a new key; there is no invitation then.
	back *entry.TopicKey
}

func (j *pendingJoin) key() peercrypto.SigningKey { return peercrypto.InviteSigningKey(j.inv.Secret) }

type storedJoin struct {
	Link    string          `json:"link"`
	Claim   json.RawMessage `json:"claim"`
	Since   int64           `json:"since"`
	Refusal string          `json:"refusal,omitempty"`
	Back    *entry.TopicKey `json:"back,omitempty"`
}

func (j *pendingJoin) encode() ([]byte, error) {
	return json.Marshal(storedJoin{j.inv.Link(), j.claim, j.since, j.refusal, j.back})
}

func (e *Engine) loadJoins(r Reader) error {
	return r.Values(bucketJoins, func(key string, raw []byte) error {
		var s storedJoin
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("reading a pending join: %w", err)
		}
		inv, err := entry.ParseInvitation(s.Link)
		if err != nil {
			return fmt.Errorf("reading a pending join: %w", err)
		}
		e.joins[peercrypto.ID(key)] = &pendingJoin{inv, slices.Clone([]byte(s.Claim)), s.Since, s.Refusal, s.Back}
		return nil
	})
}

// Join stores an invitation, with this user's consent to the group that it names; sessions on its topic use it, also after a restart, until it expires. The outcome
// is told by GroupJoined or JoinFailed. A second call with the same invitation does nothing.
func (e *Engine) Join(ctx context.Context, inv entry.Invitation) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.active.Done()
	fail := func(why string) error {
		return fmt.Errorf("joining group %s: %w: %s", inv.Group.Short(), ErrInvitation, why)
	}
	if inv.Link() == "" {
		return fail("it is incomplete")
	}
	if e.now() > inv.Expires {
		return fail("it has expired; ask for a new one")
	}
	if g, err := e.replica(inv.Group); err == nil && e.shares(g.view.Load(), e.userID) {
		return fail("you are a member already")
	}
	claim, err := entry.SignClaim(peercrypto.InviteSigningKey(inv.Secret), e.cfg.Identity.User, entry.Claim{
		Group: inv.Group, Create: inv.Create, UserID: e.userID, Genesis: e.genesis, DeviceID: e.deviceID, Role: inv.Role, Time: e.now(),
	})
	if err != nil {
		return fmt.Errorf("joining group %s: %w", inv.Group.Short(), err)
	}
	raw, err := claim.Canonical()
	if err != nil {
		return fmt.Errorf("joining group %s: %w", inv.Group.Short(), err)
	}
	j := &pendingJoin{inv: inv, claim: raw, since: e.now()}
	e.mu.RLock()
	old, n := e.joins[inv.Group], len(e.joins)
	e.mu.RUnlock()
	if old != nil && old.inv.Secret == inv.Secret {
		return nil
	}
	if old == nil && n >= maxJoins {
		return fmt.Errorf("joining group %s: %d joins are pending: %w", inv.Group.Short(), n, ErrLimit)
	}
	if err := e.putJoin(ctx, j); err != nil {
		return fmt.Errorf("joining group %s: %w", inv.Group.Short(), err)
	}
	e.bus.wakeAll()
	e.bus.publish(RendezvousChanged{})
	return nil
}

func (e *Engine) putJoin(ctx context.Context, j *pendingJoin) error {
	raw, err := j.encode()
	if err != nil {
		return err
	}
	err = e.store.Update(ctx, func(tx Tx) error { return tx.PutValue(bucketJoins, string(j.inv.Group), raw) })
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.joins[j.inv.Group] = j
	e.mu.Unlock()
	e.generation.Add(1)
	return nil
}

// CancelJoin forgets a pending join.
func (e *Engine) CancelJoin(ctx context.Context, id peercrypto.ID) error {
	e.mu.RLock()
	_, ok := e.joins[id]
	e.mu.RUnlock()
	if !ok {
		return fmt.Errorf("pending join of group %s: %w", id.Short(), ErrNotFound)
	}
	return e.dropJoin(ctx, id)
}

func (e *Engine) dropJoin(ctx context.Context, id peercrypto.ID) error {
	err := e.store.Update(ctx, func(tx Tx) error { return tx.PutValue(bucketJoins, string(id), nil) })
	if err != nil {
		return fmt.Errorf("forgetting the pending join of group %s: %w", id.Short(), err)
	}
	e.mu.Lock()
	delete(e.joins, id)
	e.mu.Unlock()
	e.bus.publish(RendezvousChanged{})
	return nil
}

func (e *Engine) pendingJoins() map[peercrypto.ID]*pendingJoin {
	e.mu.RLock()
	defer e.mu.RUnlock()
	out := make(map[peercrypto.ID]*pendingJoin, len(e.joins))
	for id, j := range e.joins {
		out[id] = j
	}
	return out
}

// PendingJoins lists the joins that no admin's device answered yet.
func (e *Engine) PendingJoins(_ context.Context) ([]PendingJoin, error) {
	var out []PendingJoin
	for id, j := range e.pendingJoins() {
		p := PendingJoin{
			Group: id, Name: j.inv.Name, Role: j.inv.Role, Servers: slices.Clone(j.inv.Servers),
			Expires: time.UnixMilli(j.inv.Expires), Since: time.UnixMilli(j.since), Refusal: j.refusal,
		}
		e.mu.RLock()
		if check := e.proofs[id]; check != nil {
			p.Checked, p.Users = check.passed.Load(), check.users
		}
		e.mu.RUnlock()
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b PendingJoin) int { return a.Since.Compare(b.Since) })
	return out, nil
}

// joinRefused keeps and tells a refusal. The join stays pending: who refused is not known to be a member.
func (e *Engine) joinRefused(ctx context.Context, id peercrypto.ID, code RefusalCode, text string) {
	j := e.pendingJoins()[id]
	if j == nil {
		return
	}
	next := *j
	next.refusal = text
	if err := e.putJoin(ctx, &next); err != nil {
		e.log.Warn("a refusal could not be stored", "group", id.Short(), "err", err)
	}
	e.bus.publish(JoinFailed{Group: id, Code: code, Reason: text})
}

var errFake = errors.New("the other device showed another group than the invitation names")

// completeJoin stores the log that answers a join, or a log that was asked for from the user's own other device (j is nil then).
func (e *Engine) completeJoin(ctx context.Context, from, id peercrypto.ID, j *pendingJoin, raws [][]byte) error {
	var res IngestResult
	items := e.decodeAll(id, raws, &res)
	if res.Rejected > 0 {
		return fmt.Errorf("%w: %w", errFake, res.Errors[0].Err)
	}
	if err := checkFounding(items, id, j); err != nil {
		return err
	}
	items, err := e.proveLog(ctx, from, id, j, items)
	if errors.Is(err, errGivenUp) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	if j != nil && !e.waitsFor(id, j) { // no consent any more
		return nil
	}
	g, err := e.replica(id)
	known := err == nil
	if !known {
		g = newReplica(id)
	}
	for _, it := range items {
		it.from, it.origin = from, fromQuarantine
	}
	err = e.begin(ctx, g, groupMeta{}, func(b *batch) error {
		if err := b.admit(items); err != nil {
			return err
		}
		if err := b.checkJoined(known); err != nil {
			return err
		}
		if err := b.noteLag(); err != nil {
			return err
		}
		return b.tx.PutValue(bucketJoins, string(id), nil)
	})
	if errors.Is(err, errAborted) {
		return nil
	}
	if err != nil {
		return err
	}
	e.mu.Lock()
	delete(e.joins, id)
	e.mu.Unlock()
	e.bus.publish(RendezvousChanged{})
	return nil
}

// checkJoined tells whether a log that was taken in as a whole makes this user a member. again is set when the group was known before: who sent
// it may not have heard of the end of the membership yet, and no harm is done.
func (b *batch) checkJoined(again bool) error {
	b.listMissing()
	_, member := b.state.Member(b.e.userID)
	switch {
	case b.ahead && !member:
		return ErrClock
	case len(b.result.Missing) > 0: // a log with holes; nothing of it is kept
		return fmt.Errorf("%w: its log is incomplete", errFake)
	case !member && again:
		return errAborted
	case !member:
		return fmt.Errorf("%w: this user is no member there", errFake)
	}
	return nil
}

// checkFounding compares the create operation of a log with the group's id and with what the invitation says.
func checkFounding(items []*item, id peercrypto.ID, j *pendingJoin) error {
	for _, it := range items {
		op, ok := it.ent.Op.(entry.Create)
		if !ok {
			continue
		}
		if j != nil && (it.ent.Hash != j.inv.Create || op.User.Hash() != j.inv.OwnerGenesis) || op.Group.ID() != id {
			return errFake
		}
		return nil
	}
	return fmt.Errorf("%w: its log has no beginning", errFake)
}

// An offer is a group to which somebody added this user.
type offer struct {
	Group    peercrypto.ID     `json:"group"`
	Name     string            `json:"name"`
	By       peercrypto.ID     `json:"by"`
	Role     entry.Role        `json:"role"`
	Grant    peercrypto.Hash   `json:"grant"`
	Received int64             `json:"received"`
	Ops      []json.RawMessage `json:"ops"`
}

func (o offer) info() GroupInfo {
	return GroupInfo{ID: o.Group, Name: o.Name, Offered: true, OfferedBy: o.By, OfferedRole: o.Role}
}

func (e *Engine) offers(r Reader) ([]offer, error) {
	var out []offer
	err := r.Values(bucketOffers, func(_ string, raw []byte) error {
		var o offer
		if err := json.Unmarshal(raw, &o); err != nil {
			return fmt.Errorf("reading an offered group: %w", err)
		}
		out = append(out, o)
		return nil
	})
	return out, err
}

// keepOffer checks an offered log and puts it where it waits for the user. The sender must be a member of it.
func (e *Engine) keepOffer(ctx context.Context, from, id peercrypto.ID, raws [][]byte) error {
	var res IngestResult
	items := e.decodeAll(id, raws, &res)
	if res.Rejected > 0 {
		return res.Errors[0].Err
	}
	slices.SortFunc(items, func(a, b *item) int { return compareEntries(a.ent, b.ent) })
	if old, err := e.offer(ctx, id); err == nil && old.same(items) {
		return nil
	}
	if !e.offered.take(from, idsIn(items), e.cfg.Limits.OfferIDs, e.cfg.Now()) {
		return errOffers
	}
	if err := checkFounding(items, id, nil); err != nil {
		return err
	}
	log := group.NewLog(id)
	o := offer{Group: id, Received: e.now()}
	for _, it := range items {
		if _, err := log.Add(it.ent); err != nil {
			return err
		}
		o.Ops = append(o.Ops, it.ent.Raw)
	}
	s := log.State()
	grants := s.Unaccepted(e.userID)
	if _, ok := s.Member(from); !ok || len(grants) == 0 || s.Deleted() {
		return errFake
	}
	grant := grants[max(0, slices.IndexFunc(grants, func(h peercrypto.Hash) bool {
		p, ok := s.Principal(h)
		return ok && p.Key == e.cfg.Identity.User.Public() // only that one can be accepted
	}))]
	add, _ := log.Get(grant)
	p, _ := s.Principal(grant)
	o.Name, o.By, o.Role, o.Grant = s.Name(), add.Signer, p.Role, grant
	raw, err := o.encode()
	if err != nil {
		return err
	}
	fresh := false
	err = e.store.Update(ctx, func(tx Tx) error {
		declined, _, err := tx.Value(bucketDeclined, string(id))
		if err != nil || string(declined) == o.Grant.String() {
			return err
		}
		old, err := e.offers(tx)
		if err != nil {
			return err
		}
		fresh = !slices.ContainsFunc(old, func(x offer) bool { return x.Group == id })
		if fresh && len(old) >= e.cfg.Limits.Offers {
			return fmt.Errorf("%d offered groups: %w", len(old), ErrLimit)
		}
		return tx.PutValue(bucketOffers, string(id), raw)
	})
	if err == nil && fresh {
		e.bus.publish(GroupOffered{Group: id, By: o.By, Name: o.Name})
	}
	return err
}

// Accept consents to an offered group. It is synced from then on.
func (e *Engine) Accept(ctx context.Context, id peercrypto.ID) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.active.Done()
	if err := e.lock(ctx); err != nil {
		return err
	}
	defer e.unlock()
	o, err := e.offer(ctx, id)
	if err != nil {
		return fmt.Errorf("accepting group %s: %w", id.Short(), err)
	}
	items := make([]*item, 0, len(o.Ops))
	for _, raw := range o.Ops {
		ent, err := entry.Decode(raw)
		if err != nil {
			return fmt.Errorf("accepting group %s: %w", id.Short(), err)
		}
		items = append(items, &item{ent: ent, proven: true, from: o.By, origin: fromQuarantine}) // by keepOffer
	}
	g, err := e.replica(id)
	if err != nil {
		g = newReplica(id)
	}
	err = e.begin(ctx, g, groupMeta{}, func(b *batch) error {
		if err := b.admit(items); err != nil {
			return err
		}
		return b.accept()
	})
	if err != nil {
		return fmt.Errorf("accepting group %s: %w", id.Short(), err)
	}
	return nil
}

// accept writes this user's consent to the grants that wait for it.
func (b *batch) accept() error {
	var last peercrypto.Hash
	otherKey := false
	for _, grant := range b.state.Unaccepted(b.e.userID) {
		if p, ok := b.state.Principal(grant); ok && p.Key != b.e.cfg.Identity.User.Public() {
			otherKey = true
			continue
		}
		d, err := group.NextAccept(b.state, grant, b.e.deviceID)
		if err != nil {
			return err
		}
		ent, err := b.sign(d)
		if err != nil {
			return err
		}
		last = ent.Hash
	}
	if _, ok := b.state.Member(b.e.userID); !ok && b.ahead {
		return ErrClock
	} else if otherKey && last.IsZero() {
		return fmt.Errorf("the offer is for another key of yours, ask to be added again: %w", ErrKeyPending)
	} else if !ok || last.IsZero() {
		return fmt.Errorf("the offer does not stand any more: %w", ErrNotMember)
	}
	raw, err := groupMeta{Accept: &last}.encode()
	if err != nil {
		return err
	}
	b.rec.Meta = raw
	if err := b.tx.PutGroup(b.rec); err != nil {
		return err
	}
	return b.tx.PutValue(bucketOffers, string(b.g.id), nil)
}

func (e *Engine) offer(ctx context.Context, id peercrypto.ID) (o offer, err error) {
	err = e.store.View(ctx, func(r Reader) error {
		raw, ok, err := r.Value(bucketOffers, string(id))
		if err != nil {
			return err
		}
		if !ok {
			return ErrNotFound
		}
		return json.Unmarshal(raw, &o)
	})
	return o, err
}

// Decline forgets an offered group. The same grant is not offered again, a new one may be.
func (e *Engine) Decline(ctx context.Context, id peercrypto.ID) error {
	o, err := e.offer(ctx, id)
	if err != nil {
		return fmt.Errorf("declining group %s: %w", id.Short(), err)
	}
	err = e.store.Update(ctx, func(tx Tx) error {
		n := 0
		if err := tx.Values(bucketDeclined, func(string, []byte) error { n++; return nil }); err != nil {
			return err
		}
		if n < maxDeclined {
			if err := tx.PutValue(bucketDeclined, string(id), []byte(o.Grant.String())); err != nil {
				return err
			}
		}
		return tx.PutValue(bucketOffers, string(id), nil)
	})
	if err != nil {
		return fmt.Errorf("declining group %s: %w", id.Short(), err)
	}
	return nil
}

// maxDeclined is how many declined groups are remembered; others are offered again.
const maxDeclined = 10_000
