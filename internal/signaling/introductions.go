package signaling

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Defaults of IntroductionsConfig.
const (
	DefaultIntroductionsLife = 15 * time.Minute
	DefaultIntroductionsMax  = 1 << 17
)

// IntroductionsConfig configures Introductions. Zero values mean the defaults.
type IntroductionsConfig struct {
	// Life is how long an introduction lasts at least without being used; it
	// ends before twice that. Default 15 minutes, at least 11: a relay asks
	// again when a client refreshes a channel, which it does within 10.
	Life time.Duration
	// Max is how many introductions are kept; beyond it the older half of those
	// that nobody used lately is forgotten. Default 131,072, about 40 MB.
	Max int
	Now func() time.Time // nil: time.Now
}

const minIntroductionsLife = 11 * time.Minute

// Introductions remembers which devices this node relayed an offer or an
// answer between, so that a relay can refuse to carry data between strangers.
// A Server that has it in its Config writes to it. Its methods may be called
// from several goroutines and do not block.
//
// Devices are introduced, not sessions: a device that connects again keeps
// using the relay that it opened in its last session.
type Introductions struct {
	now func() time.Time

	mu       sync.Mutex
	sessions fading[peercrypto.Nonce, peercrypto.PublicKey]
	pairs    fading[[2]peercrypto.PublicKey, struct{}]
	networks fading[deviceNetwork, struct{}]
}

// deviceNetwork is a device and where one that it was introduced to came from.
type deviceNetwork struct {
	device  peercrypto.PublicKey
	network netip.Prefix
}

// NewIntroductions validates cfg. Nobody is introduced yet.
func NewIntroductions(cfg IntroductionsConfig) (*Introductions, error) {
	setDefault(&cfg.Life, DefaultIntroductionsLife)
	setDefault(&cfg.Max, DefaultIntroductionsMax)
	if cfg.Life < minIntroductionsLife || cfg.Max < 2 {
		return nil, fmt.Errorf("configuring introductions: life %v and most %d: must be at least %v and 2",
			cfg.Life, cfg.Max, minIntroductionsLife)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Introductions{
		now:      cfg.Now,
		sessions: newFading[peercrypto.Nonce, peercrypto.PublicKey](cfg.Life, cfg.Max),
		pairs:    newFading[[2]peercrypto.PublicKey, struct{}](cfg.Life, cfg.Max),
		networks: newFading[deviceNetwork, struct{}](cfg.Life, 2*cfg.Max), // two for each pair
	}, nil
}

// Introduced says whether the devices of two sessions were introduced to each
// other lately. Using an introduction keeps it.
func (i *Introductions) Introduced(a, b string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.now()
	x, ok := i.deviceLocked(a, now)
	if !ok {
		return false
	}
	y, ok := i.deviceLocked(b, now)
	if !ok {
		return false
	}
	_, ok = i.pairs.get(pairOf(x, y), now)
	return ok
}

// IntroducedAddr says whether the device of a session was introduced lately to
// one whose signaling connection came from the address; of IPv6 from its /64,
// in which devices change their addresses.
func (i *Introductions) IntroducedAddr(session string, peer netip.Addr) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.now()
	device, ok := i.deviceLocked(session, now)
	if !ok {
		return false
	}
	from := networkOf(peer)
	_, ok = i.networks.get(deviceNetwork{device, from}, now)
	return ok && from.IsValid()
}

func (i *Introductions) deviceLocked(session string, now time.Time) (peercrypto.PublicKey, bool) {
	var id peercrypto.Nonce
	if id.UnmarshalText([]byte(session)) != nil {
		return peercrypto.PublicKey{}, false
	}
	return i.sessions.get(id, now)
}

// enroll notes whose session it is. It has to be called before the session can
// use a relay.
func (i *Introductions) enroll(m *member) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.sessions.put(m.session, m.deviceKey, i.now())
}

// knows says whether the devices of two sessions are introduced.
func (i *Introductions) knows(a, b *member) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, ok := i.pairs.get(pairOf(a.deviceKey, b.deviceKey), i.now())
	return ok
}

// note introduces the devices of two sessions of this node.
func (i *Introductions) note(a, b *member) {
	fromA, fromB := a.conn.Load().network(), b.conn.Load().network()
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.now()
	i.sessions.put(a.session, a.deviceKey, now)
	i.sessions.put(b.session, b.deviceKey, now)
	i.pairs.put(pairOf(a.deviceKey, b.deviceKey), struct{}{}, now)
	i.networks.put(deviceNetwork{a.deviceKey, fromB}, struct{}{}, now)
	i.networks.put(deviceNetwork{b.deviceKey, fromA}, struct{}{}, now)
}

func (i *Introductions) stats() (pairs int, lost uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pairs.age(i.now())
	return len(i.pairs.young) + len(i.pairs.old), i.pairs.lost
}

func (i *Introductions) collectors() []prometheus.Collector {
	const name = metricPrefix + "introductions"
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: "Pairs of devices that were introduced lately."},
			func() float64 { n, _ := i.stats(); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name + "_limit", Help: "Most introductions that are kept."},
			func() float64 { return float64(i.pairs.max) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: name + "_forgotten_total", Help: "Introductions forgotten early, since there were too many.",
		}, func() float64 { _, lost := i.stats(); return float64(lost) }),
	}
}

// pairOf is the same for both orders.
func pairOf(a, b peercrypto.PublicKey) [2]peercrypto.PublicKey {
	if string(a[:]) > string(b[:]) {
		a, b = b, a
	}
	return [2]peercrypto.PublicKey{a, b}
}

// networkOf is an IPv4 address or an IPv6 /64.
func networkOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits) // the zero Prefix for the zero Addr, which is nobody's
	return p
}

// fading is a map in two generations. What is put or asked for is young; at
// the end of a life the young become old and the old are forgotten. Half of
// max young ones end a life early.
type fading[K comparable, V any] struct {
	life       time.Duration
	max        int
	young, old map[K]V
	began      time.Time // the life of the young
	lost       uint64    // forgotten since there were too many
}

func newFading[K comparable, V any](life time.Duration, limit int) fading[K, V] {
	return fading[K, V]{life: life, max: limit, young: make(map[K]V)}
}

// age ends the lives that are over.
func (f *fading[K, V]) age(now time.Time) {
	passed := now.Sub(f.began)
	if passed < f.life {
		return
	}
	f.turn(now)
	if passed >= 2*f.life {
		f.old = nil
	}
}

func (f *fading[K, V]) turn(now time.Time) {
	f.young, f.old, f.began = make(map[K]V), f.young, now
}

func (f *fading[K, V]) put(k K, v V, now time.Time) {
	f.age(now)
	if _, ok := f.young[k]; !ok && len(f.young) >= f.max/2 {
		f.lost += uint64(len(f.old))
		f.turn(now)
	}
	delete(f.old, k)
	f.young[k] = v
}

func (f *fading[K, V]) get(k K, now time.Time) (V, bool) {
	f.age(now)
	if v, ok := f.young[k]; ok {
		return v, true
	}
	v, ok := f.old[k]
	if ok {
		f.put(k, v, now)
	}
	return v, ok
}
