package notify

import (
	"crypto/sha256"
	"sync"
	"time"
)

// maxRemembered bounds each memory; the older half makes room.
const maxRemembered = 32_768

// memory remembers keys for a while, in two generations: when the younger is full, or old enough, the older is dropped.
type memory[V any] struct {
	mu         sync.Mutex
	turn       time.Duration
	since      time.Time
	young, old map[[32]byte]V
}

func newMemory[V any](turn time.Duration, now time.Time) *memory[V] {
	return &memory[V]{turn: turn, since: now, young: map[[32]byte]V{}, old: map[[32]byte]V{}}
}

func endpointKey(endpoint string) [32]byte { return sha256.Sum256([]byte(endpoint)) }

// update changes the value of a key, zero if it is not remembered, and says what fn says.
func (m *memory[V]) update(key [32]byte, now time.Time, fn func(*V) bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.since) > m.turn || len(m.young) >= maxRemembered {
		m.old, m.young, m.since = m.young, map[[32]byte]V{}, now
	}
	v, ok := m.young[key]
	if !ok {
		v = m.old[key]
	}
	answer := fn(&v)
	m.young[key] = v
	return answer
}

// has looks a key up.
func (m *memory[V]) has(key [32]byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, young := m.young[key]
	_, old := m.old[key]
	return young || old
}

func (m *memory[V]) forget(key [32]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.young, key)
	delete(m.old, key)
}

func (m *memory[V]) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.young) + len(m.old)
}

// bucket is a token bucket of a minute.
type bucket struct {
	used float64
	at   time.Time
}

// take takes one of perMinute.
func (b *bucket) take(perMinute int, now time.Time) bool {
	if !b.at.IsZero() {
		b.used = max(0, b.used-now.Sub(b.at).Minutes()*float64(perMinute))
	}
	b.at = now
	if b.used+1 > float64(perMinute) {
		return false
	}
	b.used++
	return true
}
