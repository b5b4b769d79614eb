//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/peersignal/peersignal/internal/load"
)

var background = context.Background()

// dialectOf gives the dialect of a kind of server at an address.
func dialectOf(kind, hostport string) (load.Dialect, error) {
	switch kind {
	case "peersignal":
		return load.Peersignal{Server: hostport}, nil
	case "bare":
		return bare{}, nil
	case "stock":
		return stock{}, nil
	default:
		return nil, fmt.Errorf("no dialect is called %q", kind)
	}
}

// filler is what nobody looks at in envelopes and keys.
var filler = strings.Repeat("c2VhbGVkIGJ5IG5vYm9keSwgb3BlbmVkIGJ5IG5vYm9keQ", 2000)

func deviceID(n int) string { return fmt.Sprintf("%025d", n) }

// number finds the number behind a name such as `"conn":`.
func number(message []byte, name string) (n uint64) {
	at := bytes.Index(message, []byte(name))
	if at < 0 {
		return 0
	}
	for _, c := range message[at+len(name):] {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}

// listed is a list of devices.
func listed(message []byte) load.Event {
	return load.Event{Kind: load.Presence, Whole: true, Join: bytes.Count(message, []byte(`"deviceId":`)), Message: message}
}

// bare is what the bare servers speak, see bare.go.
type bare struct{}

func (bare) Name() string { return "bare" }

func (bare) Device(n int) (load.Device, error) { return &bareDevice{deviceID(n)}, nil }

type bareDevice struct{ id string }

func (d *bareDevice) ID() string         { return d.id }
func (d *bareDevice) Open() load.Opening { return load.Opening{Path: "/"} }

// Greet registers, with a record as long as a device certificate of peersignal.
func (d *bareDevice) Greet(dst []byte) []byte {
	return fmt.Appendf(dst, `{"type":"register","id":"%s","record":{"deviceId":"%s","keys":"%s"}}`, d.id, d.id, filler[:460])
}

func (d *bareDevice) Read(message, reply []byte) (load.Event, []byte) {
	switch {
	case bytes.HasPrefix(message, []byte(toPrefix)):
		e := load.Event{Kind: load.Offer, Conn: number(message, `"conn":`)}
		if bytes.HasPrefix(message[len(toPrefix)+idLength:], []byte(`","type":"answer"`)) {
			e.Kind = load.Answer
		}
		return e, reply
	case bytes.HasPrefix(message, []byte(`{"type":"ready"`)):
		return load.Event{Kind: load.Ready}, reply
	case bytes.HasPrefix(message, []byte(`{"type":"result"`)):
		return load.Event{Kind: load.Result, ID: number(message, `"id":`)}, reply
	case bytes.HasPrefix(message, []byte(`{"type":"list"`)):
		return listed(message), reply
	default:
		return load.Event{}, reply
	}
}

// Topics joins the first topic; a bare server has no others.
func (d *bareDevice) Topics(dst []byte, id uint64, add, _ []load.Topic) []byte {
	return fmt.Appendf(dst, `{"type":"join","id":%d,"group":"%x"}`, id, add[0])
}

func (d *bareDevice) Signal(dst []byte, s load.Signal) []byte {
	begin := len(dst)
	dst = append(dst, toPrefix...)
	dst = append(dst, s.To...)
	if s.Answer {
		dst = append(dst, `","type":"answer","conn":`...)
	} else {
		dst = append(dst, `","type":"offer","conn":`...)
	}
	dst = strconv.AppendUint(dst, s.Conn, 10)
	dst = append(dst, `,"ct":"`...)
	dst = append(dst, filler[:max(1, s.Size-(len(dst)-begin)-2)]...)
	return append(dst, `"}`...)
}

func (d *bareDevice) Bye(dst []byte) []byte { return dst }

// stock is what stock pages speak over Socket.IO: Engine.IO 3 on a WebSocket
// from the start.
type stock struct{}

func (stock) Name() string { return "stock" }

func (stock) Device(n int) (load.Device, error) { return &stockDevice{id: deviceID(n)}, nil }

type stockDevice struct {
	id     string
	topics uint64 // id of the registration that is on its way
}

func (d *stockDevice) ID() string { return d.id }

func (d *stockDevice) Open() load.Opening {
	return load.Opening{Path: "/socket.io/?EIO=3&transport=websocket"}
}

func (d *stockDevice) Greet(dst []byte) []byte { return dst }

// Read: 40 is the connection, 43<n> the acknowledgement of an event; after the
// registration (0) pages ask for the devices (1).
func (d *stockDevice) Read(message, reply []byte) (load.Event, []byte) {
	switch {
	case bytes.HasPrefix(message, []byte(`42["offer"`)):
		return load.Event{Kind: load.Offer, Conn: number(message, `"connectionId":"`)}, reply
	case bytes.HasPrefix(message, []byte(`42["answer"`)):
		return load.Event{Kind: load.Answer, Conn: number(message, `"connectionId":"`)}, reply
	case string(message) == "40":
		return load.Event{Kind: load.Ready}, reply
	case bytes.HasPrefix(message, []byte(`430[`)):
		return load.Event{Kind: load.Result, ID: d.topics}, append(reply, `421["get-available-devices"]`...)
	case bytes.HasPrefix(message, []byte(`431[`)):
		return listed(message), reply
	default:
		return load.Event{}, reply
	}
}

// Topics registers with the topics as groups.
func (d *stockDevice) Topics(dst []byte, id uint64, add, _ []load.Topic) []byte {
	d.topics = id
	dst = fmt.Appendf(dst, `420["register-device",{"deviceId":"%s","user":{"id":"%s","type":"User","group":"users",`+
		`"name":"somebody","publicKey":"%s","publicBoxKey":"%s","signature":"%s"},"groups":[`,
		d.id, d.id, filler[:44], filler[:44], filler[:88])
	for i, t := range add {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = hex.AppendEncode(dst, t[:])
		dst = append(dst, '"')
	}
	return append(dst, `]}]`...)
}

func (d *stockDevice) Signal(dst []byte, s load.Signal) []byte {
	begin := len(dst)
	if s.Answer {
		dst = append(dst, `42["answer",{"connectionId":"`...)
	} else {
		dst = append(dst, `42["offer",{"connectionId":"`...)
	}
	dst = strconv.AppendUint(dst, s.Conn, 10)
	dst = append(dst, `","fromDevice":"`...)
	dst = append(dst, d.id...)
	dst = append(dst, `","toDevice":"`...)
	dst = append(dst, s.To...)
	dst = append(dst, `","iceCandidates":[],"sdi":{"type":"offer","sdp":"`...)
	dst = append(dst, filler[:max(1, s.Size-(len(dst)-begin)-4)]...)
	return append(dst, `"}}]`...)
}

func (d *stockDevice) Bye(dst []byte) []byte { return dst }
