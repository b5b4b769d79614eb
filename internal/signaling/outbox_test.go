package signaling

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/peersignal/peersignal/internal/signaling/ws"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// pipe is a transport of a few frames whose other end is a boxModel. Nothing
// moves by itself.
type pipe struct {
	transport // what is not used here
	conn      *conn
	frames    []string
	room      int
	ended     bool
}

var errPipe = errors.New("the pipe has ended")

func (p *pipe) Queue(m []byte) error {
	if p.ended {
		return errPipe
	}
	p.frames = append(p.frames, string(m))
	return nil
}

func (p *pipe) QueueBelow(m []byte, _ int) bool {
	return len(p.frames) < p.room && p.Queue(m) == nil
}

func (p *pipe) QueueSoon(m []byte, most int) bool { return p.QueueBelow(m, most) }
func (p *pipe) SendBelow(m []byte, most int) bool { return p.QueueBelow(m, most) }
func (p *pipe) QueueOver(m []byte) error          { return p.Queue(m) }
func (p *pipe) Shut(ws.End)                       { p.ended = true }
func (p *pipe) Queued() int                       { return len(p.frames) }
func (p *pipe) Kick()                             {}

// boxModel is a session, its client, and what the client should get.
type boxModel struct {
	t      *testing.T
	server *Server
	auth   *wire.Auth
	m      *member
	pipe   *pipe // nil while there is no connection

	got     uint64 // the client's count
	want    []string
	arrived []string
	held    map[uint64]bool // request ids whose results have not come
	sent    uint64
}

func newBoxModel(t *testing.T, limits Limits) *boxModel {
	s, err := New(Config{Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	b := &boxModel{t: t, server: s, auth: &wire.Auth{}, held: make(map[uint64]bool)}
	b.auth.A.DeviceID = peercrypto.NewID(time.Now())
	b.auth.A.Caps = []string{wire.CapResume}
	b.auth.Cert.Expires = time.Now().Add(time.Hour).UnixMilli()
	s.hub.answer = func(_ *conn, r wire.Result) {
		if !b.held[r.ID] {
			t.Fatalf("a second result for %d: %s", r.ID, r.Code)
		}
		delete(b.held, r.ID)
		if r.Code == wire.CodeExpired {
			name := signalName(r.ID)
			b.want = slices.DeleteFunc(b.want, func(f string) bool { return f == name })
		}
	}
	c := b.dial()
	b.m = s.newMember(c, b.auth)
	if r := s.hub.add(b.m, &wire.Ready{Session: b.m.session}, ""); r != nil {
		t.Fatal(r)
	}
	return b
}

func (b *boxModel) dial() *conn {
	b.pipe = &pipe{room: 3}
	c := &conn{transport: b.pipe, server: b.server, limits: &b.server.cfg.Limits, metrics: b.server.metrics}
	c.seen.Store(time.Now().UnixMilli())
	b.pipe.conn = c
	if ok, _ := b.server.gate.ready(c.addrKey, nil); !ok {
		b.t.Fatal("no place")
	}
	return c
}

func signalName(id uint64) string { return "s" + strconv.FormatUint(id, 10) }

// put sends a signal to the session.
func (b *boxModel) put() {
	b.sent++
	name := signalName(b.sent)
	frame := append(lend(len(name)), name...)
	switch code := b.server.hub.put(b.m, frame, true, receipt{from: b.m, conn: b.m.conn.Load(), id: b.sent}); code {
	case wire.CodeDelivered:
		b.want = append(b.want, name)
	case codeHeld:
		b.want = append(b.want, name)
		b.held[b.sent] = true
	case wire.CodeOffline:
	default:
		b.t.Fatalf("got %q", code)
	}
}

// receive takes the next frame at the client's end.
func (b *boxModel) receive() {
	if b.pipe == nil || len(b.pipe.frames) == 0 {
		return
	}
	f := b.pipe.frames[0]
	b.pipe.frames = b.pipe.frames[1:]
	if f[0] == 's' {
		b.arrived = append(b.arrived, f)
	}
	if f[0] == 's' || f[0] == 'p' {
		b.got++
	}
	if len(b.pipe.frames) == 0 {
		b.pipe.conn.Drained()
	}
}

// cut breaks the connection; what was not received is lost.
func (b *boxModel) cut() {
	if b.pipe == nil {
		return
	}
	c := b.pipe.conn
	c.shut(closing{reason: endGone})
	if kept, over := b.server.hub.part(b.m, c); !kept {
		b.t.Fatalf("not parked, over: %v", over)
	}
	b.pipe = nil
}

// resume comes back with what the client has, also while the server does not
// know yet that the connection broke.
func (b *boxModel) resume() {
	c := b.dial()
	b.auth.Resume, b.auth.Got = b.m.token.String(), b.got
	if !b.server.hub.resume(b.m, c, b.auth, &wire.Ready{Session: b.m.session, Resumed: true}, time.Now()) {
		b.t.Fatalf("not resumed with %d", b.got)
	}
}

func (b *boxModel) ack() {
	if !b.server.hub.ack(b.m, b.got) {
		b.t.Fatalf("%d was not taken", b.got)
	}
}

// check compares what arrived with the beginning of what should.
func (b *boxModel) check() {
	if n := len(b.arrived); n > len(b.want) || !slices.Equal(b.arrived, b.want[:n]) {
		b.t.Fatalf("arrived %v, want %v", b.arrived, b.want)
	}
	kept := 0
	for _, s := range b.m.box.signals {
		kept += len(s.frame)
	}
	if kept != b.m.box.bytes || int64(kept) != b.server.hub.kept.Load() {
		b.t.Fatalf("%d bytes are kept; counted: %d and %d", kept, b.m.box.bytes, b.server.hub.kept.Load())
	}
}

// FuzzOutbox: whatever is sent, received, acknowledged, lost and resumed in
// whatever order, the client gets each signal that was called delivered once, in
// order, and each result that was held comes once.
func FuzzOutbox(f *testing.F) {
	f.Add([]byte("pppcpprrrraacr"))
	f.Add([]byte("ppppppppprcrpprrrrrrtttrcrpa"))
	f.Add([]byte("ptptrrrcptptrtrpaptrcaprr"))
	f.Fuzz(func(t *testing.T, ops []byte) {
		b := newBoxModel(t, Limits{ResumeWindow: time.Hour, PingTimeout: time.Hour})
		for _, op := range ops[:min(len(ops), 512)] {
			switch op {
			case 'p':
				b.put()
			case 't':
				b.m.tell(peercrypto.Tag{1, byte(b.sent)}, []byte("presence"))
			case 'r':
				b.receive()
			case 'a':
				b.ack()
			case 'c':
				b.cut()
			default:
				b.resume()
			}
			b.check()
		}
		if b.pipe == nil {
			b.resume()
		}
		for len(b.pipe.frames) > 0 {
			b.receive()
		}
		b.ack()
		b.check()
		if len(b.arrived) != len(b.want) || len(b.held) > 0 || b.m.box.bytes != 0 {
			t.Fatalf("arrived %d of %d, %d results are missing, %d bytes are left",
				len(b.arrived), len(b.want), len(b.held), b.m.box.bytes)
		}
		b.cut()
		b.put()
		b.server.hub.close()
		if b.server.hub.kept.Load() != 0 || len(b.held) > 0 {
			t.Fatalf("after the end: %d bytes, %d results", b.server.hub.kept.Load(), len(b.held))
		}
	})
}
