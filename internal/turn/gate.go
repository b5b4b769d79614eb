package turn

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v3"
)

const (
	stunHeader    = 20
	stunCookie    = 0x2112A442
	channelHeader = 4

	burstSeconds  = 4
	maxSources    = 1 << 15
	sourceBitsIP4 = 24
	sourceBitsIP6 = 48
)

// kind is what a datagram or frame of a client is.
type kind int

const (
	kindMalformed kind = iota
	kindChannelData
	kindRequest
	kindIndication
	kindResponse
)

// classify reads as much of a packet as the gate needs; it validates the
// length, but no attribute. The method is that of a STUN message.
func classify(b []byte) (kind, stun.Method) {
	if len(b) >= channelHeader && b[0]>>6 == 1 {
		length := int(binary.BigEndian.Uint16(b[2:4]))
		if length > len(b)-channelHeader {
			return kindMalformed, 0
		}
		return kindChannelData, 0
	}
	if len(b) < stunHeader || b[0]>>6 != 0 || binary.BigEndian.Uint32(b[4:8]) != stunCookie {
		return kindMalformed, 0
	}
	length := int(binary.BigEndian.Uint16(b[2:4]))
	if length%4 != 0 || length != len(b)-stunHeader {
		return kindMalformed, 0
	}
	var t stun.MessageType
	t.ReadValue(binary.BigEndian.Uint16(b[:2]))
	switch t.Class {
	case stun.ClassRequest:
		return kindRequest, t.Method
	case stun.ClassIndication:
		return kindIndication, t.Method
	default:
		return kindResponse, t.Method
	}
}

// attribute finds the first attribute of the type in a STUN message that
// classify accepted. The value is a part of b.
func attribute(b []byte, typ stun.AttrType) ([]byte, bool) {
	for rest := b[stunHeader:]; len(rest) >= 4; {
		length := int(binary.BigEndian.Uint16(rest[2:4]))
		if length > len(rest)-4 {
			return nil, false
		}
		if binary.BigEndian.Uint16(rest[:2]) == uint16(typ) {
			return rest[4 : 4+length], true
		}
		rest = rest[min(4+(length+3)&^3, len(rest)):]
	}
	return nil, false
}

// sources limits what networks may ask without a credential: one token bucket
// a network, in two generations. When the younger is full it becomes the
// older, and what was only in the older is forgotten; so the table stays below
// maxSources, and a flood of invented sources costs the others a fresh bucket
// at worst.
type sources struct {
	perSecond float64 // negative: no bound

	mu         sync.Mutex
	young, old map[netip.Prefix]*bucket
}

type bucket struct {
	tokens float64
	last   time.Time
}

func newSources(perSecond int) *sources {
	return &sources{perSecond: float64(perSecond), young: make(map[netip.Prefix]*bucket)}
}

// allow takes a token of the source's network, and says whether there was one.
func (s *sources) allow(source netip.Addr, now time.Time) bool {
	return s.take(source, now, 1)
}

// has says whether a token is left, without taking it.
func (s *sources) has(source netip.Addr, now time.Time) bool { return s.take(source, now, 0) }

func (s *sources) take(source netip.Addr, now time.Time, n float64) bool {
	if s.perSecond < 0 {
		return true
	}
	key := sourceNet(source)
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.young[key]
	if b == nil {
		if b = s.old[key]; b == nil {
			b = &bucket{tokens: s.perSecond * burstSeconds, last: now}
		}
		if len(s.young) >= maxSources/2 {
			s.young, s.old = make(map[netip.Prefix]*bucket), s.young
		}
		s.young[key] = b
	}
	if d := now.Sub(b.last); d > 0 {
		b.tokens = min(b.tokens+d.Seconds()*s.perSecond, s.perSecond*burstSeconds)
		b.last = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens -= n
	return true
}

func (s *sources) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.young) + len(s.old)
}

// sourceNet is the network whose users share a bucket.
func sourceNet(source netip.Addr) netip.Prefix {
	source = source.Unmap().WithZone("")
	bits := sourceBitsIP6
	if source.Is4() {
		bits = sourceBitsIP4
	}
	p, err := source.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address at all: one shared bucket
	}
	return p
}
