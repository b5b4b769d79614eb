package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// ErrKeyRefused ends a session with a device whose certificate is by a key that is not the user's any more.
var ErrKeyRefused = errors.New("the device's certificate is by a key that is not its user's any more")

// ErrNumber is returned for a safety number that is another one.
var ErrNumber = errors.New("the safety numbers differ: do not trust this key until you know why")

// bucketKeys has what is remembered of each user's keys, by user id: those who were met as members, and those who were asked about.
const bucketKeys = "keys"

// maxUserEvents bounds how many events of a user are taken from a card or another device at once.
const maxUserEvents = 256

// userRecord is a value of bucketKeys.
type userRecord struct {
	Genesis peercrypto.UserGenesis `json:"genesis"`
	Events  []keys.Event           `json:"events,omitempty"`
	Pin     keys.Pin               `json:"pin"`
}

// UserKeys is what this device knows of a user's keys.
type UserKeys struct {
	Genesis peercrypto.UserGenesis
	Pin     keys.Pin
	// Events are those that decide: what stands, and two that contend. What lost a fork is not remembered.
	Events []keys.Event
	// History is their evaluation.
	History keys.History
}

// groupKeys gathers what the groups on this device say of a user.
func (e *Engine) groupKeys(user peercrypto.ID) (bodies []peercrypto.UserGenesis, events []keys.Event) {
	for _, g := range e.replicas() {
		v := g.view.Load()
		for _, p := range v.state.Principals(user) {
			if !p.Granted {
				continue
			}
			bodies = append(bodies, p.Genesis)
			g.logMu.RLock()
			for _, h := range v.state.Terms(p.Grant) {
				if ent, ok := g.log.Get(h); ok {
					switch op := ent.Op.(type) {
					case entry.Create:
						events = append(events, op.Keys...)
					case entry.Add:
						events = append(events, op.Keys...)
					case entry.Rekey:
						events = append(events, op.Events...)
					}
				}
			}
			g.logMu.RUnlock()
		}
	}
	if user == e.userID {
		bodies, events = append(bodies, e.cfg.Identity.Genesis), append(events, e.line...)
	}
	return bodies, events
}

// readKeys returns what is remembered of a user; ok is false for nothing.
func readKeys(r Reader, user peercrypto.ID) (rec userRecord, ok bool, err error) {
	raw, ok, err := r.Value(bucketKeys, string(user))
	if err != nil || !ok {
		return rec, false, err
	}
	if err := json.Unmarshal(raw, &rec); err != nil {
		return rec, false, fmt.Errorf("reading the keys of user %s: %w", user.Short(), err)
	}
	return rec, true, nil
}

// observe brings what is remembered of a user up to date with the groups and with what came from elsewhere, whose id is checked. It
// tells what a person should know. ErrNotFound: nothing is known.
func (e *Engine) observe(ctx context.Context, user peercrypto.ID, body *peercrypto.UserGenesis, more []keys.Event) (UserKeys, error) {
	bodies, events := e.groupKeys(user)
	if body != nil {
		bodies = append(bodies, *body)
	}
	events = append(events, more...)
	e.pinning.Lock()
	defer e.pinning.Unlock()
	var out UserKeys
	var news []keys.News
	var changed []byte
	err := e.store.View(ctx, func(r Reader) error {
		rec, known, err := readKeys(r, user)
		if err != nil {
			return err
		}
		if !known && len(bodies) == 0 {
			return ErrNotFound
		}
		before, _ := json.Marshal(rec)
		out, news = rec.follow(user, known, bodies, events, e.now())
		rec = userRecord{out.Genesis, out.Events, out.Pin}
		after, err := json.Marshal(rec)
		if err == nil && (!known || string(before) != string(after)) {
			changed = after
		}
		return err
	})
	if err == nil && changed != nil {
		err = e.store.Update(ctx, func(tx Tx) error { return tx.PutValue(bucketKeys, string(user), changed) })
	}
	if err != nil {
		return out, fmt.Errorf("looking at the keys of user %s: %w", user.Short(), err)
	}
	e.tellKeys(user, out, news)
	return out, nil
}

// follow is the transition of the pin.
func (r userRecord) follow(user peercrypto.ID, known bool, bodies []peercrypto.UserGenesis, events []keys.Event, now int64) (UserKeys, []keys.News) {
	if !known {
		r.Genesis = bodies[0]
	}
	all := slices.Concat(r.Events, events)
	all = slices.DeleteFunc(all, func(e keys.Event) bool { return e.Seq > entry.MaxKeyEvents }) // no device can show these
	h := keys.Evaluate(keys.GenesisOf(user, r.Genesis), all)
	var news []keys.News
	tell := func(n keys.News) {
		if n != keys.Nothing {
			news = append(news, n)
		}
	}
	if known {
		var n keys.News
		r.Pin, n = r.Pin.Observe(all, h, now)
		tell(n)
	} else {
		r.Pin = keys.NewPin(r.Genesis, h, now)
	}
	for _, b := range bodies {
		if b.Hash() != r.Pin.Genesis {
			var n keys.News
			r.Pin, n = r.Pin.Conflict(b.Hash())
			tell(n)
		}
	}
	return UserKeys{r.Genesis, r.Pin, h.Decisive(), h}, news
}

// tellKeys publishes news and notes which key a user's sessions must have.
func (e *Engine) tellKeys(user peercrypto.ID, k UserKeys, news []keys.News) {
	e.mu.Lock()
	e.current[user] = k.Pin.Key
	e.mu.Unlock()
	for _, n := range news {
		e.log.Warn("a user's key changed", "user", user.Short(), "what", string(n))
		text := fmt.Sprintf("%s: user %s", n, user.Short())
		if user == e.userID {
			text = fmt.Sprintf("%s: your own", n)
		}
		e.bus.publish(Alarm{Text: text})
	}
	if len(news) > 0 && user == e.userID {
		e.ownGeneration.Add(1)
	}
	if len(news) > 0 {
		e.bus.wakeAll()
	}
}

// meet checks the key of a session's other device against all that is known of its user. Strangers leave nothing behind.
func (e *Engine) meet(ctx context.Context, p Peer) (keysOnly bool, err error) {
	if e.Admits(p.UserID) != AdmitMember {
		return false, nil
	}
	k, err := e.observe(ctx, p.UserID, &p.Genesis, p.Keys)
	if err != nil {
		return false, err
	}
	if p.UserID == e.userID {
		return e.meetOwn(ctx, p, k)
	}
	if k.Pin.Ended || k.Pin.Key != p.UserKey || k.Pin.Genesis != p.Genesis.Hash() {
		return false, ErrKeyRefused
	}
	return false, nil
}

// stale tells whether a session's user has got another key meanwhile.
func (e *Engine) stale(p Peer) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	key, ok := e.current[p.UserID]
	return ok && key != p.UserKey
}

// noteKeys notes whose keys an operation may change.
func (b *batch) noteKeys(ent *entry.Entry) {
	if _, ok := ent.Op.(entry.Rekey); ok {
		if b.rekeyedUsers == nil {
			b.rekeyedUsers = map[peercrypto.ID]bool{}
		}
		b.rekeyedUsers[ent.Signer] = true
	}
}

// rekeyed follows the users whose keys a batch changed. The caller is the writer, after the commit.
func (e *Engine) rekeyed(b *batch) {
	for user := range b.rekeyedUsers {
		if _, err := e.observe(context.Background(), user, nil, nil); err != nil {
			e.log.Warn("a user's keys could not be followed", "user", user.Short(), "err", err)
		}
	}
}

// UserKeys returns what this device knows of a user's keys. The first look pins the user. ErrNotFound: the user is in no group here and
// was never met.
func (e *Engine) UserKeys(ctx context.Context, user peercrypto.ID) (UserKeys, error) {
	if err := e.enter(); err != nil {
		return UserKeys{}, err
	}
	defer e.active.Done()
	k, err := e.observe(ctx, user, nil, nil)
	if err != nil {
		return k, err
	}
	if bodies, _ := e.groupKeys(user); user != e.userID && len(bodies) > 0 {
		k.Pin, _ = k.Pin.Introduce(bodies[0].Hash(), e.now())
	}
	return k, nil
}

// SafetyNumber returns the 60 digits that this user and another one compare.
func (e *Engine) SafetyNumber(ctx context.Context, user peercrypto.ID) (string, error) {
	number, _, err := e.safetyNumber(ctx, user)
	return number, err
}

// safetyNumber returns the number, and what it is of the other user.
func (e *Engine) safetyNumber(ctx context.Context, user peercrypto.ID) (string, keys.Identity, error) {
	if user == e.userID {
		return "", keys.Identity{}, fmt.Errorf("making a safety number: it needs another user: %w", ErrNotFound)
	}
	other, err := e.UserKeys(ctx, user)
	if err != nil {
		return "", keys.Identity{}, err
	}
	mine, err := e.UserKeys(ctx, e.userID)
	if err != nil {
		return "", keys.Identity{}, err
	}
	id := other.Pin.Identity()
	return keys.SafetyNumber(mine.Pin.Identity(), id), id, nil
}

// VerifyUser notes that people compared a safety number, which must be the one that this device shows. White space in it does not matter.
func (e *Engine) VerifyUser(ctx context.Context, user peercrypto.ID, number string) (keys.Pin, error) {
	want, id, err := e.safetyNumber(ctx, user)
	if err != nil {
		return keys.Pin{}, err
	}
	if strings.Join(strings.Fields(number), "") != strings.ReplaceAll(want, " ", "") {
		return keys.Pin{}, fmt.Errorf("verifying user %s: %w", user.Short(), ErrNumber)
	}
	e.pinning.Lock()
	defer e.pinning.Unlock()
	var pin keys.Pin
	err = e.store.Update(ctx, func(tx Tx) error {
		rec, ok, err := readKeys(tx, user)
		switch {
		case err != nil:
			return err
		case !ok || !rec.Pin.Usable():
			return ErrKeyFrozen
		case rec.Pin.Key != id.Key || rec.Pin.Genesis != id.Genesis: // it changed meanwhile
			return ErrNumber
		}
		rec.Pin = rec.Pin.Verify(e.now())
		pin = rec.Pin
		raw, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		return tx.PutValue(bucketKeys, string(user), raw)
	})
	if err != nil {
		return pin, fmt.Errorf("verifying user %s: %w", user.Short(), err)
	}
	return pin, nil
}
