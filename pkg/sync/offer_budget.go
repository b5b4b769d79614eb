package sync

import (
	"bytes"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

const (
	// offerIDsEvery is how long a user's id in an offered group counts: to check it costs tens of milliseconds of a core, and to send it less than a KiB.
	offerIDsEvery = 2 * time.Second
	// maxOfferers bounds the table.
	maxOfferers = 1_000
)

var errOffers = errors.New("this member offers more than is looked at now; it is tried again in another session")

// An offerBudget bounds the work that others cause by offering groups. It is safe for concurrent use.
type offerBudget struct {
	mu    sync.Mutex
	users map[peercrypto.ID]*rate.Limiter
}

// take counts ids that are to be checked for a user, of whom at most that many count at a time.
func (b *offerBudget) take(user peercrypto.ID, ids, most int, now time.Time) bool {
	l := b.of(user, most, now)
	return l != nil && l.AllowN(now, ids)
}

// covers tells whether take would count that many now.
func (b *offerBudget) covers(user peercrypto.ID, ids, most int, now time.Time) bool {
	l := b.of(user, most, now)
	return l != nil && l.TokensAt(now) >= float64(ids)
}

// of returns nil while too many users have a part of theirs in use.
func (b *offerBudget) of(user peercrypto.ID, most int, now time.Time) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.users[user]
	if l != nil {
		return l
	}
	if len(b.users) >= maxOfferers {
		for u, other := range b.users {
			if other.TokensAt(now) >= float64(most) {
				delete(b.users, u)
			}
		}
	}
	if len(b.users) >= maxOfferers {
		return nil
	}
	if b.users == nil {
		b.users = map[peercrypto.ID]*rate.Limiter{}
	}
	l = rate.NewLimiter(rate.Every(offerIDsEvery), most)
	b.users[user] = l
	return l
}

// idsIn counts the self-certifying ids in operations.
func idsIn(items []*item) (n int) {
	for _, it := range items {
		switch it.ent.Op.(type) {
		case entry.Create:
			n += 2
		case entry.Add:
			n++
		}
	}
	return n
}

// encode keeps the operations byte by byte, which json.Marshal does not: "&" and others would come back escaped.
func (o offer) encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(o); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// same tells whether it holds exactly these operations, in their order.
func (o offer) same(items []*item) bool {
	if len(o.Ops) != len(items) {
		return false
	}
	for i, it := range items {
		if string(o.Ops[i]) != string(it.ent.Raw) {
			return false
		}
	}
	return true
}
