package signaling

import (
	"math/bits"
	"slices"
	"sync"
	"time"
	"unsafe"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// outbox is what a client that can resume is sent: each signal from when it is
// accepted until the client acknowledges it, and which tags' presence it was
// sent lately. The queue of the connection is filled from it, so that a new
// connection can go on where the old one ended.
//
// Its lock comes after the hub's and before a connection's.
type outbox struct {
	mu      sync.Mutex
	parked  bool        // there is no connection
	gone    bool        // the session is over
	leaving *closing    // ends the connection when everything is in its queue
	signals []signalOut // not acknowledged, in order; in room while they are few
	next    int         // the first of signals that was not put in the queue
	bytes   int         // of signals
	seq     uint64      // counted frames that were put in a queue
	acked   uint64      // of them, those that the client has received
	told    []toldTag   // presence, by seq; one entry for each tag
	floor   uint64      // told does not know the presence up to this seq
	hole    uint64      // seq of the last signal that was not kept
	room    [2]signalOut
}

type signalOut struct {
	seq   uint64 // 0: not in the queue yet
	frame []byte
	lent  bool     // the memory of frame is to be given back when it is acknowledged
	held  *receipt // whose result waits for the client to come back
}

// lendings are frames' memory, of 512 bytes to 4 KiB: relaying to clients that
// can resume would be work for the garbage collector mostly.
var lendings [4]sync.Pool

// lendingOf is the index of the smallest lending for n bytes.
func lendingOf(n int) int { return max(bits.Len(uint(max(n, 1)-1))-9, 0) }

// lend gives an empty slice with room for n bytes.
func lend(n int) []byte {
	i := lendingOf(n)
	if i >= len(lendings) {
		return make([]byte, 0, n)
	}
	if first, ok := lendings[i].Get().(*byte); ok {
		return unsafe.Slice(first, 512<<i)[:0]
	}
	return make([]byte, 0, 512<<i)
}

// giveBack ends the use of what was lent. The pools have the pointer alone, since
// that needs no memory of its own.
func giveBack(b []byte) {
	if i := lendingOf(cap(b)); i < len(lendings) && cap(b) == 512<<i {
		lendings[i].Put(unsafe.SliceData(b))
	}
}

type toldTag struct {
	seq uint64
	tag peercrypto.Tag
}

// maxTold is how many tags' presence is remembered for a session. Who resumes
// and may have missed older presence than that is told of all its tags.
const maxTold = 64

// receipt says who waits for the result of a signal: a session of this node,
// or another node.
type receipt struct {
	from *member
	conn *conn  // over which the request came
	id   uint64 // its request id
	node string // "" or the node that forwarded it
	ref  uint64 // its number there
}

// codeHeld is no result yet: it follows when the target comes back, or does
// not. It is known to nodes only.
const codeHeld wire.Code = "held"

// put gives a stamped frame to a session of this node, and what to answer:
// codeHeld when r will be answered later. The frame must not change any more; if
// it was lent, lent is given back here or later.
func (h *hub) put(to *member, frame []byte, lent bool, r receipt) wire.Code {
	if !to.resumable {
		if to.conn.Load().push(frame) != nil {
			return wire.CodeOffline
		}
		return wire.CodeDelivered
	}
	b := &to.box
	b.mu.Lock()
	defer b.mu.Unlock()
	c := to.conn.Load()
	switch {
	case b.gone || b.leaving != nil:
		return wire.CodeOffline
	case b.bytes+len(frame) > h.limits.SendQueueBytes:
		if !b.parked {
			c.shut(closing{code: wire.CloseSlowReader, reason: wire.CloseSlowReader.String()})
		}
		return wire.CodeOffline
	case !h.reserve(len(frame)):
		return b.passLocked(c, frame)
	}
	if b.signals == nil {
		b.signals = b.room[:0]
	}
	b.signals = append(b.signals, signalOut{frame: frame, lent: lent})
	b.bytes += len(frame)
	b.pumpLocked(c)
	if b.next < len(b.signals) && (b.parked || c.ending()) {
		held := r // r itself would have to be allocated for every signal
		b.signals[len(b.signals)-1].held = &held
		return codeHeld
	}
	return wire.CodeDelivered
}

// passLocked sends a frame that cannot be kept. Until the client has
// acknowledged it the session cannot be resumed.
func (b *outbox) passLocked(c *conn, frame []byte) wire.Code {
	if b.parked || b.next < len(b.signals) || c.push(frame) != nil {
		return wire.CodeOffline
	}
	b.seq++
	b.hole = b.seq
	return wire.CodeDelivered
}

// reserve counts bytes that are kept for clients, unless there are too many.
func (h *hub) reserve(n int) bool {
	if h.kept.Add(int64(n)) <= int64(h.limits.ResumeBytes) {
		return true
	}
	h.kept.Add(int64(-n))
	return false
}

// pumpLocked puts in the queue what waits, as far as it has room.
func (b *outbox) pumpLocked(c *conn) {
	for !b.parked && b.next < len(b.signals) {
		s := &b.signals[b.next]
		if !c.pushNowIfIdle(s.frame) {
			return
		}
		b.seq++
		s.seq = b.seq
		b.next++
	}
	if b.leaving != nil && b.next == len(b.signals) {
		c.shut(*b.leaving)
	}
}

// pump is pumpLocked for the connection's writer.
func (m *member) pump() {
	if !m.resumable {
		return
	}
	m.box.mu.Lock()
	defer m.box.mu.Unlock()
	m.box.pumpLocked(m.conn.Load())
}

// tell sends presence of a tag now, or says that it has to be deferred.
func (m *member) tell(tag peercrypto.Tag, frame []byte) bool {
	if !m.resumable {
		return m.conn.Load().pushIfIdle(frame)
	}
	b := &m.box
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.parked || !m.conn.Load().pushIfIdle(frame) {
		return false
	}
	b.seq++
	b.noteLocked(tag)
	return true
}

// tellList sends the whole list of a tag, or says that there is no connection.
func (m *member) tellList(tag peercrypto.Tag, frames [][]byte) (size int, ok bool) {
	b := &m.box
	b.mu.Lock()
	defer b.mu.Unlock()
	c := m.conn.Load()
	for _, f := range frames {
		if b.parked || !c.pushList(f) {
			return size, false
		}
		size += len(f)
		b.seq++
	}
	if m.resumable {
		b.noteLocked(tag)
	}
	return size, true
}

// noteLocked remembers that the last counted frame was presence of a tag.
func (b *outbox) noteLocked(tag peercrypto.Tag) {
	if last := len(b.told) - 1; last >= 0 && b.told[last].tag == tag {
		b.told[last].seq = b.seq
		return
	}
	i := slices.IndexFunc(b.told, func(t toldTag) bool { return t.tag == tag })
	if i < 0 && len(b.told) >= maxTold {
		b.floor, i = b.told[0].seq, 0
	}
	if i >= 0 {
		b.told = slices.Delete(b.told, i, i+1)
	}
	b.told = append(b.told, toldTag{b.seq, tag})
}

// ack takes note of what a client has received; false when it cannot be.
func (h *hub) ack(m *member, n uint64) bool {
	if !m.resumable {
		return false
	}
	b := &m.box
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.seq {
		return false
	}
	if n > b.acked {
		h.kept.Add(-int64(b.forgetLocked(n)))
	}
	return true
}

// forgetLocked drops what the client has received and gives its bytes.
func (b *outbox) forgetLocked(n uint64) (freed int) {
	b.acked = n
	i := 0
	for ; i < b.next && b.signals[i].seq <= n; i++ {
		freed += len(b.signals[i].frame)
		if b.signals[i].lent {
			giveBack(b.signals[i].frame) // the transport has its own copy, if it needs one
		}
	}
	b.bytes -= freed
	b.next -= i
	if b.signals = slices.Delete(b.signals, 0, i); len(b.signals) == 0 {
		b.signals = nil
		clear(b.room[:]) // they may have moved out
	}
	j := 0
	for j < len(b.told) && b.told[j].seq <= n {
		j++
	}
	b.told = slices.Delete(b.told, 0, j)
	return freed
}

// canGoOnLocked says whether a client that has got so many frames can be sent
// all that it has not.
func (b *outbox) canGoOnLocked(got uint64) bool {
	return !b.gone && b.leaving == nil && got >= b.acked && got <= b.seq && got >= b.hole
}

// rewindLocked goes back to what the client has got: everything behind it is to
// be put in a queue again. It gives the tags whose presence may be lost, or all
// when that may be any, and the bytes that are free now.
func (b *outbox) rewindLocked(got uint64) (lost []peercrypto.Tag, all bool, freed int) {
	all = got < b.floor
	freed = b.forgetLocked(got)
	for _, t := range b.told {
		lost = append(lost, t.tag)
	}
	b.told, b.floor, b.seq, b.next = nil, 0, got, 0
	return lost, all, freed
}

// releaseLocked gives the receipts that were held, which now have an answer.
func (b *outbox) releaseLocked() (held []receipt) {
	for i := range b.signals {
		if r := b.signals[i].held; r != nil {
			held = append(held, *r)
			b.signals[i].held = nil
		}
	}
	return held
}

// end empties the outbox of a session that is over, and answers what was held.
// hub.mu is held.
func (h *hub) end(m *member) {
	b := &m.box
	b.mu.Lock()
	b.gone = true
	signals := b.signals
	h.kept.Add(-int64(b.bytes))
	b.signals, b.told, b.next, b.bytes = nil, nil, 0, 0
	b.mu.Unlock()
	for _, r := range h.rescueLocked(m, signals, time.Now()) {
		h.settle(r, wire.CodeExpired)
	}
}

// finish ends a connection when everything that its client has coming is in its
// queue. What comes for the session from now on is refused.
func (m *member) finish(c *conn, how closing) {
	if !m.resumable {
		c.shut(how)
		return
	}
	b := &m.box
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.conn.Load() != c {
		c.shut(how)
		return
	}
	if b.leaving == nil {
		b.leaving = &how
	}
	b.pumpLocked(c)
}

// settle gives a result that was held. The session that asked may have another
// connection by now.
func (h *hub) settle(r receipt, code wire.Code) {
	if r.node != "" {
		h.cluster.enqueue(r.node, busMsg{Kind: busAck, Ref: r.ref, Code: code})
		return
	}
	c := r.from.conn.Load()
	if r.from.resumable && c.ending() {
		// The next connection may have got its first frame already, see switchTo.
		r.from.box.mu.Lock()
		c = r.from.conn.Load()
		r.from.box.mu.Unlock()
	}
	if c == r.conn || r.from.resumable {
		h.answer(c, wire.Result{ID: r.id, Code: code})
	}
}
