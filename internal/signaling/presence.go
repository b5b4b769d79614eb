package signaling

import (
	"github.com/peersignal/peersignal/internal/signaling/ws"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// presenceBatch is about how many bytes of whole lists a writer takes at once.
const presenceBatch = 32 << 10

// presenceSlack is how many tags may wait in the order in vain.
const presenceSlack = 64

// tellLocked sends a change of a tag to the sessions of this node among its
// holders. The frame is made once, if anybody needs it.
func (h *hub) tellLocked(holders []*member, tag peercrypto.Tag, kind string, make func() []byte) {
	var frame []byte
	told, deferred := 0, 0
	for _, m := range holders {
		if !m.local() {
			continue
		}
		if _, due := m.isDue[tag]; due {
			continue // the whole list will have it
		}
		if frame == nil {
			frame = make()
		}
		if m.tell(tag, frame) {
			told++
			continue
		}
		deferred++
		h.deferLocked(m, tag)
	}
	h.metrics.presence.WithLabelValues(kind).Add(float64(told))
	h.metrics.presence.WithLabelValues("deferred").Add(float64(deferred))
}

// deferLocked notes that m has to be told who holds tag. What is noted is
// bounded by the tags that m holds: see undeferLocked.
func (h *hub) deferLocked(m *member, tag peercrypto.Tag) {
	if _, due := m.isDue[tag]; due {
		return
	}
	if m.isDue == nil {
		m.isDue = make(map[peercrypto.Tag]struct{})
	}
	m.isDue[tag] = struct{}{}
	m.deferred = append(m.deferred, tag)
	m.conn.Load().signal()
}

// undeferLocked is called when m has dropped tags. They may stay in the order
// for a while, and more than once.
func (m *member) undeferLocked(dropped []peercrypto.Tag) {
	for _, tag := range dropped {
		delete(m.isDue, tag)
	}
	if len(m.deferred) <= 2*len(m.isDue)+presenceSlack {
		return
	}
	kept := make([]peercrypto.Tag, 0, len(m.isDue))
	seen := make(map[peercrypto.Tag]struct{}, len(m.isDue))
	for _, tag := range m.deferred {
		if _, due := m.isDue[tag]; due {
			if _, again := seen[tag]; !again {
				seen[tag] = struct{}{}
				kept = append(kept, tag)
			}
		}
	}
	m.deferred, m.isDue = kept, seen // maps do not shrink
}

// backlog puts in the queue of m's connection what waits for it to be empty:
// signals as far as there is room, and the next whole lists. What happens
// afterwards is queued behind them.
func (h *hub) backlog(m *member) {
	m.pump()
	h.mu.RLock()
	idle := len(m.deferred) == 0
	h.mu.RUnlock()
	if idle {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for size := 0; size < presenceBatch && len(m.deferred) > 0; {
		tag := m.deferred[0]
		_, holds := m.tags[tag]
		if _, due := m.isDue[tag]; due && holds {
			n, ok := m.tellList(tag, fullList(tag, h.topics[tag], m))
			if !ok {
				return // whoever resumes is told then
			}
			size += n
			h.metrics.presence.WithLabelValues("full").Inc()
		}
		m.deferred = m.deferred[1:]
		delete(m.isDue, tag)
	}
	if len(m.deferred) == 0 {
		m.deferred, m.isDue = nil, nil
	}
}

// fullList makes the frames of a tag's whole list as m sees it.
func fullList(tag peercrypto.Tag, holders []*member, m *member) [][]byte {
	const room = wire.MaxFrame - 256
	var frames [][]byte
	certs := make([][]byte, 0, len(holders))
	size := 0
	flush := func() {
		frames = append(frames, wire.AppendPresent(ws.Bulk(size+128), tag, len(frames) == 0, certs, nil))
		certs, size = certs[:0], 0
	}
	for _, o := range holders {
		if o == m {
			continue
		}
		if size+len(o.cert)+16 > room {
			flush()
		}
		certs = append(certs, o.cert)
		size += len(o.cert) + 16
	}
	if len(certs) > 0 || len(frames) == 0 {
		flush()
	}
	return frames
}
