package sync

import (
	"cmp"
	"context"
	"fmt"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Buckets of named values in the store.
const (
	bucketSelf     = "self"     // "userdoc": the own signed user document
	bucketUsers    = "users"    // signed user documents by user id
	bucketJoins    = "joins"    // pending joins by group id
	bucketOffers   = "offers"   // groups that wait for this user's consent, by group id
	bucketDeclined = "declined" // hashes of grants that this user declined, by group id
	bucketRequests = "requests" // claims that wait for Admit, by group id + "/" + user id
)

// maxUserDoc is the largest user document that is kept, in bytes.
const maxUserDoc = 8 << 10

// loadUserDoc reads the own document and signs a new one when there is none, or the configured name or the key differs.
func (e *Engine) loadUserDoc(ctx context.Context) error {
	var raw []byte
	err := e.store.View(ctx, func(r Reader) error {
		v, _, err := r.Value(bucketSelf, "userdoc")
		raw = append([]byte(nil), v...)
		return err
	})
	if err != nil {
		return err
	}
	name := e.cfg.Name
	if doc, err := peercrypto.ParseUserDoc(raw); err == nil && doc.ID == e.userID {
		e.userDoc = raw
		name = cmp.Or(name, doc.Name)
		if doc.Name == name && doc.PublicKey == e.cfg.Identity.User.Public() {
			return nil
		}
	}
	return e.writeName(ctx, name)
}

// SetName changes the name that members of groups see. Sessions tell it.
func (e *Engine) SetName(ctx context.Context, name string) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.active.Done()
	if err := e.writeName(ctx, name); err != nil {
		return err
	}
	e.bus.wakeAll()
	return nil
}

func (e *Engine) writeName(ctx context.Context, name string) error {
	modified := e.now()
	if old, err := peercrypto.ParseUserDoc(e.UserDoc()); err == nil {
		modified = max(modified, old.Modified+1)
	}
	raw, err := peercrypto.SignUserDoc(e.cfg.Identity.User, e.cfg.Identity.Genesis, name, modified)
	if err != nil {
		return fmt.Errorf("setting the user's name: %w", err)
	}
	err = e.store.Update(ctx, func(tx Tx) error {
		if err := tx.PutValue(bucketSelf, "userdoc", raw); err != nil {
			return err
		}
		return tx.PutValue(bucketUsers, string(e.userID), raw)
	})
	if err != nil {
		return fmt.Errorf("setting the user's name: %w", err)
	}
	e.mu.Lock()
	e.userDoc = raw
	e.mu.Unlock()
	e.generation.Add(1)
	return nil
}

// UserDoc is the signed document of the own user.
func (e *Engine) UserDoc() []byte {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.userDoc
}

// nameOf reads a user's name. The document was verified before it was stored; to do that again for each member of a large group takes a second.
func (e *Engine) nameOf(r Reader, user peercrypto.ID) (string, error) {
	raw, ok, err := r.Value(bucketUsers, string(user))
	if err != nil || !ok {
		return "", err
	}
	var doc struct {
		Name string `json:"name"`
	}
	if err := peercrypto.UnmarshalLenientFields(raw, &doc); err != nil {
		return "", nil // unusable: shown without a name
	}
	return doc.Name, nil
}

// learnUser stores a user document if it is that of a member of one of this user's groups, signed by the key that the group knows, and
// newer than what is there. It tells whether it was stored.
func (e *Engine) learnUser(ctx context.Context, raw []byte) (bool, error) {
	if len(raw) > maxUserDoc {
		return false, nil
	}
	doc, err := peercrypto.ParseUserDoc(raw)
	if err != nil || doc.ID == e.userID || doc.Modified > e.now()+maxDeferred || !e.knowsKey(doc.ID, doc.PublicKey) {
		return false, nil
	}
	stored := false
	err = e.store.Update(ctx, func(tx Tx) error {
		if old, ok, err := tx.Value(bucketUsers, string(doc.ID)); err != nil {
			return err
		} else if have, err := peercrypto.ParseUserDoc(old); ok && err == nil && have.Modified >= doc.Modified {
			return nil
		}
		stored = true
		return tx.PutValue(bucketUsers, string(doc.ID), raw)
	})
	if err != nil {
		return false, fmt.Errorf("storing the name of user %s: %w", doc.ID.Short(), err)
	}
	if stored {
		for _, g := range e.replicas() {
			if _, ok := g.view.Load().state.Member(doc.ID); ok {
				e.bus.publish(GroupChanged{g.id})
			}
		}
	}
	return stored, nil
}

func (e *Engine) knowsKey(user peercrypto.ID, key peercrypto.PublicKey) bool {
	for _, g := range e.replicas() {
		if g.view.Load().state.UsesKey(user, key) {
			return true
		}
	}
	return false
}
