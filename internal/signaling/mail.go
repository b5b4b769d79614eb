package signaling

import (
	"bytes"
	"container/list"
	"net/netip"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// mailbox keeps notifications for devices that were here minutes ago. They are
// sealed; what is kept is the frame that the device will get. Guarded by hub.mu.
type mailbox struct {
	byDevice map[peercrypto.ID]*list.Element // of *mail
	order    list.List                       // by until of the first letter
	bytes    int
	byAddr   map[netip.Addr]int // of them, those that sessions of an address left
}

// mail is what waits for one device.
type mail struct {
	device  peercrypto.ID
	letters []letter // oldest first
	bytes   int
}

type letter struct {
	frame []byte
	until time.Time
	from  netip.Addr // the zero Addr has no limit
}

// mailShare is the part of the mailbox that the sessions of one address can fill.
const mailShare = 8

// put counts a letter, and take one that is gone.
func (b *mailbox) put(l letter) {
	b.bytes += len(l.frame)
	if b.byAddr == nil {
		b.byAddr = make(map[netip.Addr]int)
	}
	b.byAddr[l.from] += len(l.frame)
}

func (b *mailbox) take(l letter) {
	b.bytes -= len(l.frame)
	if b.byAddr[l.from] -= len(l.frame); b.byAddr[l.from] == 0 {
		delete(b.byAddr, l.from)
	}
}

// Most that waits for one device.
const (
	maxLetters     = 32
	maxLetterBytes = 64 << 10
)

// What became of letters.
const (
	mailStored    = "stored"
	mailDelivered = "delivered"
	mailExpired   = "expired"
	mailFull      = "full"
)

// isNotification tells a stamped frame of that kind.
func isNotification(frame []byte) bool {
	return bytes.HasPrefix(frame, []byte(`{"type":"`+string(wire.KindNotify)+`"`))
}

// keepLocked stores a notification for a device that is not here; from is the
// address that caused it.
func (h *hub) keepLocked(device peercrypto.ID, frame []byte, from netip.Addr, now time.Time) bool {
	if h.limits.NotifyTime <= 0 {
		return false
	}
	b := &h.mail
	h.expireMailLocked(now)
	e := b.byDevice[device]
	share := from.IsValid() && h.live.SessionsPerAddress > 0 && b.byAddr[from]+len(frame) > h.limits.NotifyBytes/mailShare
	if share || b.bytes+len(frame) > h.limits.NotifyBytes {
		h.metrics.mail.WithLabelValues(mailFull).Inc()
		return false
	}
	if e == nil {
		if b.byDevice == nil {
			b.byDevice = make(map[peercrypto.ID]*list.Element)
		}
		e = b.order.PushBack(&mail{device: device})
		b.byDevice[device] = e
	}
	m := e.Value.(*mail)
	if len(m.letters) >= maxLetters || m.bytes+len(frame) > maxLetterBytes {
		h.metrics.mail.WithLabelValues(mailFull).Inc()
		return false
	}
	l := letter{frame, now.Add(h.limits.NotifyTime), from}
	m.letters = append(m.letters, l)
	m.bytes += len(frame)
	b.put(l)
	h.metrics.mail.WithLabelValues(mailStored).Inc()
	return true
}

// expireMailLocked drops what is too old, of the devices that have waited longest.
func (h *hub) expireMailLocked(now time.Time) {
	b := &h.mail
	for e := b.order.Front(); e != nil; e = b.order.Front() {
		m := e.Value.(*mail)
		i := 0
		for ; i < len(m.letters) && !now.Before(m.letters[i].until); i++ {
			m.bytes -= len(m.letters[i].frame)
			b.take(m.letters[i])
			h.metrics.mail.WithLabelValues(mailExpired).Inc()
		}
		if i == 0 {
			return
		}
		if m.letters = slices.Delete(m.letters, 0, i); len(m.letters) == 0 {
			b.order.Remove(e)
			delete(b.byDevice, m.device)
			continue
		}
		h.sortMailLocked(e)
	}
}

// sortMailLocked puts mail whose first letter is gone where its next one belongs.
func (h *hub) sortMailLocked(e *list.Element) {
	first := e.Value.(*mail).letters[0].until
	for at := e.Next(); at != nil; at = at.Next() {
		if at.Value.(*mail).letters[0].until.After(first) {
			h.mail.order.MoveBefore(e, at)
			return
		}
	}
	h.mail.order.MoveToBack(e)
}

// collectLocked gives a new session of this node what waits for its device.
func (h *hub) collectLocked(m *member, now time.Time) {
	e := h.mail.byDevice[m.device]
	if e == nil {
		return
	}
	box := h.mail.order.Remove(e).(*mail)
	delete(h.mail.byDevice, m.device)
	for _, l := range box.letters {
		h.mail.take(l)
		if !now.Before(l.until) {
			h.metrics.mail.WithLabelValues(mailExpired).Inc()
			continue
		}
		if code := h.put(m, l.frame, false, receipt{}); code == wire.CodeDelivered {
			h.metrics.mail.WithLabelValues(mailDelivered).Inc()
			h.metrics.relayed.Add(float64(len(l.frame)))
		} else {
			h.metrics.mail.WithLabelValues(mailFull).Inc()
		}
	}
}

// leave keeps a notification for a device that was here minutes ago, if its
// sender could have reached it then.
func (h *hub) leave(from *member, sig *wire.SignalRef, now time.Time) wire.Code {
	h.mu.Lock()
	defer h.mu.Unlock()
	to := peercrypto.ID(sig.To)
	e := h.memories.byDevice[to]
	if e == nil || from.gone || h.devices[to] != nil {
		return wire.CodeNotAllowed
	}
	rest := e.Value.(*memory)
	via := sig.Tag()
	_, holds := from.tags[via]
	allowed := holds && slices.Contains(rest.tags, via)
	if len(sig.Via) == 0 {
		allowed = rest.user == from.userKey
	}
	if !allowed || !time.Now().Before(rest.until) {
		return wire.CodeNotAllowed
	}
	if !h.keepLocked(to, sig.AppendStamped(make([]byte, 0, sig.StampedSize()), from.device), from.conn.Load().addrKey, now) {
		return wire.CodeOffline
	}
	return wire.CodeQueued
}

// rescueLocked keeps the notifications that a session which is over had coming,
// and answers who waits for their results. It gives the receipts of the rest.
func (h *hub) rescueLocked(m *member, signals []signalOut, now time.Time) (expired []receipt) {
	for _, s := range signals {
		code := wire.CodeExpired
		if isNotification(s.frame) && h.keepLocked(m.device, s.frame, m.conn.Load().addrKey, now) {
			code = wire.CodeQueued
		}
		switch {
		case s.held == nil:
		case code == wire.CodeQueued:
			h.settle(*s.held, code)
		default:
			expired = append(expired, *s.held)
		}
	}
	return expired
}
