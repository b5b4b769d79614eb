package load

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/peersignal/peersignal/internal/throwaway"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// Peersignal is the dialect of our server, pkg/wire. Each device belongs to a
// user of its own and authenticates as any other client does.
type Peersignal struct {
	// Server is the name that is signed, see [wire.CanonicalServer].
	Server string
	// NoResume makes devices that cannot resume a session, and so acknowledge
	// nothing.
	NoResume bool
}

// Name is "peersignal".
func (Peersignal) Name() string { return "peersignal" }

// Device makes a device with new keys and a certificate.
func (p Peersignal) Device(int) (Device, error) {
	d, err := throwaway.NewDevice(7 * 24 * time.Hour)
	if err != nil {
		return nil, err
	}
	return &peer{server: p.Server, resumes: !p.NoResume, Device: d, id: string(d.Cert.DeviceID)}, nil
}

// peer is a device of our protocol.
type peer struct {
	server  string
	resumes bool
	id      string
	throwaway.Device

	resume  string        // the session's token
	session bool          // that can be resumed
	got     atomic.Uint64 // counted frames of the session
	signals atomic.Int64  // bytes of signals that are not acknowledged
	due     atomic.Bool   // some were not the last time that Ack was called
}

func (p *peer) ID() string { return p.id }

func (p *peer) Open() Opening { return Opening{Path: wire.Path, Subprotocol: wire.Subprotocol} }

func (p *peer) Greet(dst []byte) []byte { return dst }

func (p *peer) Read(message, reply []byte) (Event, []byte) {
	switch kind := messageType(message); string(kind) {
	case "result":
		return readResult(message), reply
	case "offer":
		return Event{Kind: Offer, Conn: readConn(message)}, p.count(len(message), reply)
	case "answer":
		return Event{Kind: Answer, Conn: readConn(message)}, p.count(len(message), reply)
	case "candidate":
		return Event{}, p.count(len(message), reply)
	case "present":
		return readPresence(message), p.count(0, reply)
	case "hello":
		return p.authenticate(message, reply)
	case "ready":
		return p.ready(message), reply
	case "refused", "notice":
		return readFarewell(message, string(kind) == "refused"), reply
	default:
		return Event{}, reply
	}
}

// messageType finds the member "type", which comes first in what servers write.
func messageType(message []byte) (kind []byte) {
	if rest, ok := bytes.CutPrefix(message, []byte(`{"type":"`)); ok {
		if end := bytes.IndexByte(rest, '"'); end >= 0 {
			return rest[:end]
		}
	}
	members(message, func(name, value []byte) bool {
		if string(name) == "type" {
			kind = text(value)
			return false
		}
		return true
	})
	return kind
}

func (p *peer) authenticate(message, reply []byte) (Event, []byte) {
	m, err := wire.DecodeFromServer(message)
	hello, ok := m.(*wire.Hello)
	if err != nil || !ok {
		return Event{Kind: Refused, Code: "bad-hello"}, reply
	}
	caps := []string{wire.CapRV1}
	if p.session = p.resumes && slices.Contains(hello.Caps, wire.CapResume); p.session {
		caps = append(caps, wire.CapResume)
	}
	auth, err := wire.SignAuth(wire.AuthBody{
		V: wire.Version, Server: p.server, Nonce: hello.Nonce, CNonce: peercrypto.NewNonce(),
		DeviceID: p.Cert.DeviceID, DeviceKey: p.Cert.DeviceKey, UserID: p.Cert.UserID, UserKey: p.Cert.UserKey,
		Time: time.Now().UnixMilli(), Caps: caps,
	}, p.Key, p.Cert)
	if err != nil {
		return Event{Kind: Refused, Code: "cannot-sign"}, reply
	}
	if p.session && p.resume != "" {
		auth.Resume, auth.Got = p.resume, p.got.Load()
	}
	frame, err := wire.Encode(auth)
	if err != nil {
		return Event{Kind: Refused, Code: "cannot-encode"}, reply
	}
	return Event{}, append(reply, frame...)
}

func (p *peer) ready(message []byte) Event {
	e := Event{Kind: Ready}
	members(message, func(name, value []byte) bool {
		switch string(name) {
		case "resume":
			p.resume = string(text(value))
		case "resumed":
			e.Resumed = string(value) == "true"
		case "topics":
			e.Kept = number(value) > 0
		}
		return true
	})
	if !e.Resumed {
		p.got.Store(0)
	}
	p.signals.Store(0)
	return e
}

// count counts a frame of the session, and acknowledges when many bytes of
// signals have come.
func (p *peer) count(bytes int, reply []byte) []byte {
	if !p.session {
		return reply
	}
	p.got.Add(1)
	if p.signals.Add(int64(bytes)) < wire.AckBytes {
		return reply
	}
	return p.ack(reply)
}

// Ack acknowledges what has come before the last call, too: it is called twice
// within the time that a client has.
func (p *peer) Ack(dst []byte) []byte {
	if p.signals.Load() == 0 || p.due.CompareAndSwap(false, true) {
		return dst
	}
	return p.ack(dst)
}

func (p *peer) ack(dst []byte) []byte {
	dst = append(dst, `{"type":"ack","n":`...)
	dst = strconv.AppendUint(dst, p.acknowledge(), 10)
	return append(dst, '}')
}

// acknowledge gives what an acknowledgement says, which the caller sends.
func (p *peer) acknowledge() uint64 {
	p.signals.Store(0)
	p.due.Store(false)
	return p.got.Load()
}

func readResult(message []byte) Event {
	e := Event{Kind: Result}
	// Almost all are of this form.
	if rest, ok := bytes.CutPrefix(message, []byte(`{"type":"result","id":`)); ok {
		if id, ok := bytes.CutSuffix(rest, []byte(`,"code":"delivered"}`)); ok {
			e.ID = number(id)
			return e
		}
	}
	members(message, func(name, value []byte) bool {
		switch string(name) {
		case "id":
			e.ID = number(value)
		case "code":
			if code := text(value); string(code) != "ok" && string(code) != "delivered" {
				e.Code = string(code)
			}
		case "retryAfter":
			e.RetryAfter = time.Duration(number(value)) * time.Millisecond
		}
		return true
	})
	return e
}

func readFarewell(message []byte, refused bool) Event {
	e := Event{Kind: Farewell}
	if refused {
		e.Kind = Refused
	}
	members(message, func(name, value []byte) bool {
		switch string(name) {
		case "code":
			e.Code = string(text(value))
		case "retryAfter":
			e.RetryAfter = time.Duration(number(value)) * time.Millisecond
		}
		return true
	})
	return e
}

func readConn(message []byte) (conn uint64) {
	members(message, func(name, value []byte) bool {
		if string(name) != "conn" {
			return true
		}
		for _, c := range text(value) {
			digit := uint64(c - '0')
			if c >= 'a' {
				digit = uint64(c-'a') + 10
			}
			conn = conn*36 + digit
		}
		return false
	})
	return conn
}

func readPresence(message []byte) Event {
	e := Event{Kind: Presence, Message: message}
	members(message, func(name, value []byte) bool {
		switch string(name) {
		case "tag":
			_, _ = base64.RawURLEncoding.Decode(e.Topic[:], text(value))
		case "full":
			e.Whole = string(value) == "true"
		case "join":
			e.Join = bytes.Count(value, []byte(`"deviceId":`))
		case "leave":
			e.Leave = bytes.Count(value, []byte(`"`)) / 2
		}
		return true
	})
	return e
}

func (p *peer) Topics(dst []byte, id uint64, add, drop []Topic) []byte {
	dst = append(dst, `{"type":"topics","id":`...)
	dst = strconv.AppendUint(dst, id, 10)
	dst = appendTags(dst, `,"add":[`, add)
	dst = appendTags(dst, `,"del":[`, drop)
	return append(dst, '}')
}

func appendTags(dst []byte, name string, tags []Topic) []byte {
	if len(tags) == 0 {
		return dst
	}
	dst = append(dst, name...)
	for i := range tags {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = base64.RawURLEncoding.AppendEncode(dst, tags[i][:])
		dst = append(dst, '"')
	}
	return append(dst, ']')
}

// sealed is the ciphertext of all envelopes: nobody opens it.
var sealed = strings.Repeat("c2VhbGVkIGJ5IG5vYm9keSwgb3BlbmVkIGJ5IG5vYm9keQ", wire.MaxCiphertext/48)

// overhead is about how long the rest of a signal is.
const overhead = 138

// MaxSize is the longest message that a signal can be.
const MaxSize = wire.MaxCiphertext - 4096 + overhead

func (p *peer) Signal(dst []byte, s Signal) []byte {
	if s.Answer {
		dst = append(dst, `{"type":"answer","id":`...)
	} else {
		dst = append(dst, `{"type":"offer","id":`...)
	}
	dst = strconv.AppendUint(dst, s.ID, 10)
	if p.signals.Load() > 0 { // a client of ours lets its signals bring it along, too
		dst = append(dst, `,"ack":`...)
		dst = strconv.AppendUint(dst, p.acknowledge(), 10)
	}
	dst = append(dst, `,"to":"`...)
	dst = append(dst, s.To...)
	dst = append(dst, `","via":"`...)
	dst = base64.RawURLEncoding.AppendEncode(dst, s.Via[:])
	dst = append(dst, `","conn":"`...)
	dst = appendConn(dst, s.Conn)
	dst = append(dst, `","env":{`...)
	n := s.Size - overhead
	if !s.Answer {
		dst = append(dst, `"eph":"CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",`...)
		n -= 53
	}
	dst = append(dst, `"ct":"`...)
	dst = append(dst, sealed[:max(n, 64)/4*4]...)
	return append(dst, `"}}`...)
}

// appendConn writes a number as a connection id: 25 digits of base 36.
func appendConn(dst []byte, n uint64) []byte {
	const zeros = "0000000000000000000000000"
	at := len(dst)
	dst = append(dst, zeros...)
	for i := len(dst) - 1; i >= at && n > 0; i-- {
		dst[i] = "0123456789abcdefghijklmnopqrstuvwxyz"[n%36]
		n /= 36
	}
	return dst
}

func (p *peer) Bye(dst []byte) []byte { return append(dst, `{"type":"bye"}`...) }
