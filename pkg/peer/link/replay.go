package link

import (
	"sync"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// maxSeen bounds the memory of seen offers. It is entered by admitted devices
// only, at most Config.OffersPerMinute each, and refuses when full: forgetting would
// let an old offer in again.
const maxSeen = 16384

// replayCache remembers (device, connection) of accepted offers for as long as
// their time would be accepted, and counts the offers of each device.
type replayCache struct {
	mu    sync.Mutex
	seen  map[replayKey]time.Time
	rate  map[peercrypto.ID]int
	epoch time.Time // start of the minute that rate counts
	swept time.Time
}

type replayKey struct{ from, conn peercrypto.ID }

func newReplayCache() *replayCache {
	return &replayCache{seen: make(map[replayKey]time.Time), rate: make(map[peercrypto.ID]int)}
}

// allow counts an offer of a device and refuses when it sends too many.
func (r *replayCache) allow(from peercrypto.ID, limit int, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := now.Sub(r.epoch); d >= time.Minute || d < 0 {
		clear(r.rate)
		r.epoch = now
	}
	n, known := r.rate[from]
	if n >= limit || !known && len(r.rate) >= maxSeen {
		return ErrBusy
	}
	r.rate[from] = n + 1
	return nil
}

// add remembers an offer and refuses one that it knows.
func (r *replayCache) add(from, conn peercrypto.ID, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := replayKey{from, conn}
	if at, ok := r.seen[key]; ok && now.Sub(at) <= replayWindow {
		return ErrOfferReplayed
	}
	if len(r.seen) >= maxSeen && now.Sub(r.swept) > time.Second || now.Sub(r.swept) > replayWindow {
		r.swept = now
		for k, at := range r.seen {
			if now.Sub(at) > replayWindow {
				delete(r.seen, k)
			}
		}
	}
	if len(r.seen) >= maxSeen {
		return ErrBusy
	}
	r.seen[key] = now
	return nil
}
