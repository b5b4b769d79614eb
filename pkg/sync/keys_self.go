package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

const (
	// selfKeys is the value of bucketSelf that holds a selfRecord, sealed under the device's box key.
	selfKeys = "keys"
	// maxLine bounds the own history of keys, in bytes: it is shown whole when a connection begins.
	maxLine = 40 << 10
	// oldTopicFor is how long a topic of an earlier key is kept for devices that were away.
	oldTopicFor  = 90 * 24 * time.Hour
	maxOldTopics = 8
)

// selfRecord is what a device keeps of its own user's keys beside the key store: what came, or was made, while it ran. It is sealed under
// a key of the device, so that the store alone gives none of it away.
type selfRecord struct {
	Seed      string                                 `json:"seed,omitempty"` // base64url; of a user key that the key store may lack
	Events    []keys.Event                           `json:"events,omitempty"`
	Topic     string                                 `json:"topic,omitempty"` // base64url; of the key in use
	Old       []oldTopic                             `json:"old,omitempty"`   // of earlier keys
	Met       map[peercrypto.ID]peercrypto.PublicKey `json:"met,omitempty"`   // under which key other own devices were met last
	Proposals []proposal                             `json:"proposals,omitempty"`
	Came      bool                                   `json:"came,omitempty"` // the key came from another device, and the groups are not marked yet
}

// An oldTopic is where devices of this user look for others that have not got the new key yet.
type oldTopic struct {
	Key   string `json:"key"` // base64url of the rendezvous key
	Until int64  `json:"until"`
}

func selfBox(id peercrypto.Identity) [32]byte {
	return peercrypto.DeriveKey(id.DeviceBox.ExportBytes(), nil, "peers/self-store/1")
}

// readSelf opens the record. One that another device sealed is none.
func readSelf(r Reader, id peercrypto.Identity) (rec selfRecord, err error) {
	raw, ok, err := r.Value(bucketSelf, selfKeys)
	if err != nil || !ok {
		return rec, err
	}
	plain, err := peercrypto.Open(selfBox(id), []byte(id.DeviceID()), raw)
	if err != nil {
		return rec, nil
	}
	defer clear(plain)
	if err := json.Unmarshal(plain, &rec); err != nil {
		return rec, fmt.Errorf("reading the own keys: %w", err)
	}
	return rec, nil
}

// ownStore refuses the store of another user, before what is sealed there for that user's device is replaced: it may be the only copy of a key.
func ownStore(r Reader, user peercrypto.ID) error {
	raw, _, err := r.Value(bucketSelf, "userdoc")
	if err != nil {
		return err
	}
	if doc, err := peercrypto.ParseUserDoc(raw); err == nil && doc.ID != user {
		return fmt.Errorf("the keys are of user %s: %w: %s", user.Short(), ErrOtherUser, doc.ID.Short())
	}
	return nil
}

func writeSelf(tx Tx, id peercrypto.Identity, rec selfRecord) error {
	plain, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	defer clear(plain)
	return tx.PutValue(bucketSelf, selfKeys, peercrypto.Seal(selfBox(id), []byte(id.DeviceID()), plain))
}

func (r selfRecord) key() peercrypto.SigningKey {
	seed, err := peercrypto.DecodeB64u(r.Seed)
	if err != nil || len(seed) == 0 {
		return peercrypto.SigningKey{}
	}
	k, _ := peercrypto.SigningKeyFromSeed(seed) // else the zero key, which nobody has
	return k
}

// CurrentIdentity returns the identity that this device goes on with: the given one of its key store, or the one with the key and the
// history that came meanwhile from another device of the user, or that was made while the device ran. [Open] uses it by itself; who
// keeps a key store writes it there when it differs.
func CurrentIdentity(ctx context.Context, store Store, id peercrypto.Identity) (peercrypto.Identity, error) {
	out, _, err := currentIdentity(ctx, store, id)
	if err != nil {
		return id, fmt.Errorf("looking for a newer key: %w", err)
	}
	return out, nil
}

func currentIdentity(ctx context.Context, store Store, id peercrypto.Identity) (peercrypto.Identity, selfRecord, error) {
	var rec selfRecord
	var known userRecord
	user := id.UserID()
	err := store.View(ctx, func(r Reader) (err error) {
		if err := ownStore(r, user); err != nil {
			return err
		}
		if rec, err = readSelf(r, id); err == nil {
			known, _, err = readKeys(r, user)
		}
		return err
	})
	if err != nil {
		return id, rec, err
	}
	own, err := parseEvents(id.History)
	if err != nil {
		return id, rec, err
	}
	h := keys.Evaluate(keys.GenesisOf(user, id.Genesis), slices.Concat(known.Events, own, rec.Events))
	for _, k := range []peercrypto.SigningKey{id.User, rec.key()} {
		if k.IsZero() || h.Frozen() || h.State.Ended() || h.State.Key() != k.Public() {
			continue
		}
		if next, err := withLine(id, k, h.Line); err == nil {
			return next, rec, nil
		}
	}
	// Somebody else's key stands, or none. The last one that this device got is the one that others may still know.
	if k := rec.key(); !k.IsZero() && len(rec.Events) > len(own) {
		if next, err := withLine(id, k, rec.Events); err == nil {
			return next, rec, nil
		}
	}
	return id, rec, nil
}

// withLine returns an identity with another key and the history that leads there.
func withLine(id peercrypto.Identity, key peercrypto.SigningKey, line []keys.Event) (peercrypto.Identity, error) {
	id.User, id.History = key, nil
	size := 0
	for _, e := range line {
		raw, err := e.Canonical()
		if err != nil {
			return id, err
		}
		size += len(raw)
		id.History = append(id.History, raw)
	}
	if size > maxLine {
		return id, fmt.Errorf("the history of keys has %d bytes, more than %d: %w", size, maxLine, ErrLimit)
	}
	if len(line) == 0 && id.Genesis.Key == key.Public() {
		return id, nil
	}
	_, err := ParseHistory(id.Genesis, id.History, key.Public())
	return id, err
}

// loadSelf finds the identity that the engine works with and notes the topic of its key. made tells that the key store has a key that this
// engine has neither made nor got.
func (e *Engine) loadSelf(ctx context.Context) (made bool, err error) {
	id, rec, err := currentIdentity(ctx, e.store, e.cfg.Identity)
	if err != nil {
		return false, err
	}
	stored := e.cfg.Identity.User.Public()
	e.cfg.Identity, e.self = id, rec
	if e.self.Events, err = parseEvents(id.History); err != nil {
		return false, err
	}
	key := peercrypto.PersonalRendezvousKey(id.User)
	topic, old := peercrypto.EncodeB64u(key[:]), rec.Topic
	if e.self.Seed != "" && rec.key().Public() == stored {
		e.self.Seed = "" // the key store has it
	}
	if e.self.Topic = topic; old != "" && old != topic {
		e.self.addOld(oldTopic{old, e.now() + oldTopicFor.Milliseconds()})
		made = rec.key().Public() != id.User.Public()
		e.self.Came = e.self.Came && !made
	}
	if old == topic && e.self.Seed == rec.Seed {
		return false, nil
	}
	return made, e.store.Update(ctx, func(tx Tx) error { return writeSelf(tx, e.cfg.Identity, e.self) })
}

func (r *selfRecord) addOld(t oldTopic) {
	same := func(o oldTopic) bool { return o.Key == t.Key }
	if t.Key == r.Topic || slices.ContainsFunc(r.Old, same) {
		return
	}
	r.Old = append([]oldTopic{t}, r.Old...)
	r.Old = r.Old[:min(len(r.Old), maxOldTopics)]
}

// Identity is what the engine works with; see [CurrentIdentity].
func (e *Engine) Identity() peercrypto.Identity { return e.cfg.Identity }

// IdentityReplaced tells whether another key than the engine's is stored: IdentityChanged was told.
func (e *Engine) IdentityReplaced() bool { return e.replaced.Load() }

// changeSelf changes the record and makes that durable.
func (e *Engine) changeSelf(ctx context.Context, change func(r *selfRecord) error) error {
	e.selfMu.Lock()
	defer e.selfMu.Unlock()
	next := e.self
	next.Old, next.Proposals = slices.Clone(next.Old), slices.Clone(next.Proposals)
	if err := change(&next); err != nil {
		if errors.Is(err, errAborted) {
			return nil
		}
		return err
	}
	err := e.store.Update(ctx, func(tx Tx) error { return writeSelf(tx, e.cfg.Identity, next) })
	if err == nil {
		e.self = next
	}
	return err
}

// keepLine makes the own history longer. With another key than the one in use the engine has to be opened anew: IdentityChanged tells.
func (e *Engine) keepLine(ctx context.Context, key peercrypto.SigningKey, line []keys.Event, old []oldTopic) error {
	return e.keepKey(ctx, key, line, old, false)
}

// keepKey is keepLine; came tells that another device made the key.
func (e *Engine) keepKey(ctx context.Context, key peercrypto.SigningKey, line []keys.Event, old []oldTopic, came bool) error {
	if _, err := withLine(e.cfg.Identity, key, line); err != nil {
		return err
	}
	changed := key.Public() != e.cfg.Identity.User.Public()
	err := e.changeSelf(ctx, func(r *selfRecord) error {
		if changed {
			r.Seed, r.Came = peercrypto.EncodeB64u(key.ExportSeed()), came
		}
		r.Events = line
		r.Proposals = slices.DeleteFunc(r.Proposals, func(p proposal) bool {
			return slices.ContainsFunc(line, func(ev keys.Event) bool { return ev.Hash() == p.id() })
		})
		for _, t := range old {
			r.addOld(t)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := e.observe(ctx, e.userID, nil, line); err != nil {
		return err
	}
	if changed {
		e.replaced.Store(true)
		e.bus.publish(IdentityChanged{})
	}
	return nil
}

// selfTopics are those on which own devices meet: the one of the key in use, and those of earlier keys until every device that
// counts was met under this one.
func (e *Engine) selfTopics(now int64) []Rendezvous {
	out := []Rendezvous{{Key: peercrypto.PersonalRendezvousKey(e.cfg.Identity.User), Announce: true}}
	e.selfMu.Lock()
	defer e.selfMu.Unlock()
	if len(e.self.Old) == 0 || e.allMet() {
		return out
	}
	for _, t := range e.self.Old {
		if raw, err := peercrypto.DecodeB64u(t.Key); err == nil && len(raw) == 32 && now < t.Until {
			out = append(out, Rendezvous{Key: [32]byte(raw)})
		}
	}
	return out
}

// allMet tells whether there are no devices that may still lack the key in use. The caller holds selfMu.
func (e *Engine) allMet() bool {
	for _, d := range e.stateOf(e.self.Events).Devices() {
		if d.ID != e.deviceID && e.self.Met[d.ID] != e.cfg.Identity.User.Public() {
			return false
		}
	}
	return true
}

// ownLine is the history that led to this device's key, whatever others say, as long as it was known here that it does.
func (e *Engine) ownLine() []keys.Event {
	e.selfMu.Lock()
	defer e.selfMu.Unlock()
	return e.self.Events
}

// stateOf is what events say that follow each other from the genesis.
func (e *Engine) stateOf(line []keys.Event) keys.State {
	s := keys.GenesisOf(e.userID, e.cfg.Identity.Genesis)
	for _, ev := range line {
		if next, err := s.Follow(ev); err == nil {
			s = next
		}
	}
	return s
}

func (e *Engine) lineState() keys.State { return e.stateOf(e.ownLine()) }

// followLine makes the own line longer by what stands behind it under the same key.
func (e *Engine) followLine(ctx context.Context, k UserKeys) error {
	line := k.History.Line
	if !k.Pin.Usable() || k.History.State.Key() != e.cfg.Identity.User.Public() || k.History.State.Head() == e.lineState().Head() {
		return nil
	}
	if _, err := withLine(e.cfg.Identity, e.cfg.Identity.User, line); err != nil {
		return err
	}
	return e.changeSelf(ctx, func(r *selfRecord) error {
		r.Events = line
		return nil
	})
}

// met notes that another own device has the key in use.
func (e *Engine) met(ctx context.Context, device peercrypto.ID) {
	err := e.changeSelf(ctx, func(r *selfRecord) error {
		if r.Met[device] == e.cfg.Identity.User.Public() || len(r.Met) >= 4*keys.MaxDevices {
			return errAborted
		}
		next := map[peercrypto.ID]peercrypto.PublicKey{device: e.cfg.Identity.User.Public()}
		for id, k := range r.Met {
			if id != device {
				next[id] = k
			}
		}
		r.Met = next
		return nil
	})
	if err != nil {
		e.log.Warn("it could not be noted which of the own devices has the new key", "err", err)
		return
	}
	e.bus.publish(RendezvousChanged{})
}
