package link

import "time"

const (
	// windowMin and windowMax bound what one stream may have written and not
	// confirmed; below, a stream sends at most one window a round trip.
	windowMin = 256 << 10
	windowMax = 4 << 20
	// windowQueue is how long what one connection sends may wait on this side:
	// a message on another stream waits no longer.
	windowQueue = 100 * time.Millisecond
	// windowSpan is the least time over which a rate is measured.
	windowSpan = 20 * time.Millisecond
	rttLife    = time.Second
)

// sendWindow adapts how much a stream may have under way to the path: what it
// carries in a round trip, and what it carries in windowQueue beside. The share
// of a stream follows its share of the path. It belongs to the writer.
type sendWindow struct {
	limit     int
	written   uint64
	since     time.Time // of this measurement
	confirmed uint64    // then
}

func newSendWindow() sendWindow { return sendWindow{limit: windowMin} }

// low is where a writer that waited goes on: early enough for the path not to
// run dry.
func (w *sendWindow) low() int { return w.limit / 4 * 3 }

// measure takes what is buffered now, with the path's round-trip time, and
// reports whether the limit has changed.
func (w *sendWindow) measure(now time.Time, buffered int, rtt time.Duration) bool {
	confirmed := w.written - min(uint64(buffered), w.written)
	elapsed := now.Sub(w.since)
	if w.since.IsZero() || buffered == 0 { // nothing was under way: the writer was slow, not the path
		w.since, w.confirmed = now, confirmed
		return false
	}
	if elapsed < max(windowSpan, 2*rtt) {
		return false
	}
	rate := float64(confirmed-w.confirmed) / elapsed.Seconds()
	w.since, w.confirmed = now, confirmed
	want := int(rate * (rtt + windowQueue).Seconds())
	want = min(max(want, w.limit/2, windowMin), w.limit*2, windowMax)
	changed := want != w.limit
	w.limit = want
	return changed
}

// baseRTT is the shortest round-trip time that the path has shown: a longer one
// has queues in it, which a window must not grow with. It is asked for at most
// once in rttLife.
func (c *Conn) baseRTT(now time.Time) time.Duration {
	c.rttMu.Lock()
	defer c.rttMu.Unlock()
	if now.Sub(c.rttAt) >= rttLife {
		c.rttAt = now
		if rtt := c.tr.path().RTT; rtt > 0 && (c.rtt == 0 || rtt < c.rtt) {
			c.rtt = rtt
		}
	}
	return c.rtt
}

// newPath forgets the round-trip time of the path before.
func (c *Conn) newPath() {
	c.rttMu.Lock()
	c.rtt, c.rttAt = 0, time.Time{}
	c.rttMu.Unlock()
}
