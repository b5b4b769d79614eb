package sync

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// ErrCard is matched by every refusal of a card.
var ErrCard = errors.New("invalid card")

const (
	cardPrefix = "peers:card#"
	// maxCard bounds the text of a card, in bytes.
	maxCard = 256 << 10
	// returnWithin is how long a way back is tried.
	returnWithin = 30 * 24 * time.Hour
)

// A Card is what others know of a user: what the recovery words alone do not tell. With Groups it is a way back into groups, and
// secret among their members: who has it can find their devices at the signaling server.
type Card struct {
	Genesis peercrypto.UserGenesis
	Keys    []keys.Event // those that decide: UserKeys.Events
	Groups  []CardGroup
}

// CardGroup is a group that the user is a member of.
type CardGroup struct {
	Group  peercrypto.ID   `json:"group"`
	Create peercrypto.Hash `json:"create"`
	Owner  peercrypto.Hash `json:"owner"` // genesis hash
	Name   string          `json:"name"`
	Topic  entry.TopicKey  `json:"topic"` // rendezvous key
	Server string          `json:"server,omitempty"`
}

type cardText struct {
	V       int                    `json:"v"` // 1
	Genesis peercrypto.UserGenesis `json:"genesis"`
	Keys    []keys.Event           `json:"keys,omitzero"`
	Groups  []CardGroup            `json:"groups,omitzero"`
}

// Text returns "peers:card#…".
func (c Card) Text() string {
	raw, err := json.Marshal(cardText{1, c.Genesis, c.Keys, c.Groups})
	if err != nil {
		return ""
	}
	return toText(cardPrefix, raw)
}

// toText makes a text for people to copy: with the beginning of a hash behind, so that a damaged one is recognized.
func toText(prefix string, raw []byte) string {
	sum := peercrypto.Sum(raw)
	return prefix + peercrypto.EncodeB64u(append(raw, sum[:4]...))
}

// fromText reads what toText made, of at most limit bytes of text.
func fromText(prefix, text string, limit int) ([]byte, error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(text), prefix)
	if !ok || len(body) > limit {
		return nil, fmt.Errorf("it does not begin with %s, or is too long", prefix)
	}
	raw, err := peercrypto.DecodeB64u(body)
	if err != nil || len(raw) < 5 {
		return nil, errors.New("it was cut or mistyped")
	}
	raw, check := raw[:len(raw)-4], raw[len(raw)-4:]
	if sum := peercrypto.Sum(raw); string(sum[:4]) != string(check) {
		return nil, errors.New("it was cut or mistyped")
	}
	return raw, nil
}

// ParseCard reads the text of a card and checks its key events.
func ParseCard(text string) (Card, error) {
	fail := func(why string) (Card, error) { return Card{}, fmt.Errorf("reading a card: %w: %s", ErrCard, why) }
	raw, err := fromText(cardPrefix, text, maxCard)
	if err != nil {
		return fail(err.Error())
	}
	var c cardText
	if err := peercrypto.UnmarshalStrict(raw, &c); err != nil || c.V != 1 {
		return fail("it has an unknown form: a newer release may read it")
	}
	if err := c.Genesis.Validate(); err != nil {
		return fail(err.Error())
	}
	if len(c.Keys) > maxUserEvents || len(c.Groups) > maxJoins {
		return fail("it has too many events or groups")
	}
	if !keys.Connected(keys.Genesis(c.Genesis), c.Keys) {
		return fail("its key events do not follow each other")
	}
	for _, g := range c.Groups {
		if err := g.invitation(c.Genesis.Created).check(); err != nil {
			return fail(err.Error())
		}
	}
	return Card{c.Genesis, c.Keys, c.Groups}, nil
}

// Card returns what this device knows of a user; withGroups adds the way back into the groups that both are members of.
func (e *Engine) Card(ctx context.Context, user peercrypto.ID, withGroups bool) (Card, error) {
	k, err := e.UserKeys(ctx, user)
	if err != nil {
		return Card{}, err
	}
	c := Card{Genesis: k.Genesis, Keys: k.Events}
	for _, g := range e.replicas() {
		v := g.view.Load()
		topics := v.state.RendezvousKeys()
		if !withGroups || !e.shares(v, user) || v.state.Deleted() || len(topics) == 0 || len(c.Groups) == maxJoins {
			continue
		}
		g.logMu.RLock()
		create, ok := g.log.Create()
		g.logMu.RUnlock()
		if !ok {
			continue
		}
		c.Groups = append(c.Groups, CardGroup{
			Group: g.id, Create: create.Hash, Owner: create.Op.(entry.Create).User.Hash(), Name: v.state.Name(), Topic: topics[0].Key,
		})
	}
	return c, nil
}

// backInvitation is the shape that a way back has among pending joins.
type backInvitation entry.Invitation

func (g CardGroup) invitation(now int64) backInvitation {
	inv := entry.Invitation{
		Group: g.Group, Create: g.Create, OwnerGenesis: g.Owner, Name: g.Name, Role: entry.Read,
		Expires: now + returnWithin.Milliseconds(),
	}
	if g.Server != "" {
		inv.Servers = []string{g.Server}
	}
	_, _ = rand.Read(inv.Secret[:]) // never fails, see crypto/rand
	return backInvitation(inv)
}

func (b backInvitation) check() error {
	if entry.Invitation(b).Link() == "" {
		return errors.New("a group in it is malformed")
	}
	return nil
}

// Return goes back into a group that this user is a member of, with a new key and without what the old device held: it looks for the
// members' devices, gets everything from them and then sets the new key. It is tried for 30 days, also after a restart.
func (e *Engine) Return(ctx context.Context, g CardGroup) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.active.Done()
	inv := g.invitation(e.now())
	if err := inv.check(); err != nil {
		return fmt.Errorf("returning to group %s: %w: %w", g.Group.Short(), ErrCard, err)
	}
	if r, err := e.replica(g.Group); err == nil && e.shares(r.view.Load(), e.userID) {
		return nil
	}
	e.mu.RLock()
	n := len(e.joins)
	e.mu.RUnlock()
	if n >= maxJoins {
		return fmt.Errorf("returning to group %s: %d joins are pending: %w", g.Group.Short(), n, ErrLimit)
	}
	topic := g.Topic
	if err := e.putJoin(ctx, &pendingJoin{inv: entry.Invitation(inv), claim: []byte("{}"), since: e.now(), back: &topic}); err != nil {
		return fmt.Errorf("returning to group %s: %w", g.Group.Short(), err)
	}
	e.bus.wakeAll()
	e.bus.publish(RendezvousChanged{})
	return nil
}
