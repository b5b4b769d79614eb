package load

import (
	"maps"
	"strconv"
	"sync/atomic"

	"github.com/peersignal/peersignal/pkg/wire"
)

// counters are what one share of the clients count. There are several, so that
// processors do not wait for each other.
type counters struct {
	connect, auth, result, received histogram

	sent, delivered, arrived, resumed atomic.Uint64
	_                                 [64]byte
}

// total is what has been counted in all shares.
type total struct {
	sent, delivered, arrived, resumed uint64
}

func (r *run) total() (t total) {
	for _, c := range r.counters {
		t.sent += c.sent.Load()
		t.delivered += c.delivered.Load()
		t.arrived += c.arrived.Load()
		t.resumed += c.resumed.Load()
	}
	return t
}

// refuse counts a message or a connection that the server refused.
func (*counters) refuse(r *run, code string) { r.count(r.refused, code) }

// note counts something that is no error in itself.
func (*counters) note(r *run, code string) { r.count(r.noted, code) }

// fail counts a connection that failed or ended unasked.
func (r *run) fail(err error) {
	code := codeOf(err)
	if code == drained {
		r.count(r.noted, code)
		return
	}
	r.count(r.failed, code)
}

// drained is how a server that stops ends connections.
var drained = "close-" + strconv.Itoa(int(wire.CloseDraining))

func (r *run) count(in map[string]uint64, code string) {
	if r.down.Load() {
		return // what goes wrong while all leave is no error
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(in) >= 64 {
		code = "other"
	}
	in[code]++
}

// errors is how many things went wrong.
func (r *run) errors() (n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, in := range []map[string]uint64{r.refused, r.failed} {
		for v := range maps.Values(in) {
			n += v
		}
	}
	return n
}

// restart forgets what was measured of messages, after warming up; a storm is
// about connecting.
func (r *run) restart() {
	for _, c := range r.counters {
		c.result.reset()
		c.received.reset()
		if r.cfg.Scenario == Storm {
			c.connect.reset()
			c.auth.reset()
		}
	}
}
