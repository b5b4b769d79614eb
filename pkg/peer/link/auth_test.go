package link

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// pipe is a main channel in memory.
type pipe struct {
	in  <-chan []byte
	out chan<- []byte
	tap func([]byte) []byte // sees what is written; nil drops it
}

func newPipe() (a, b *pipe) {
	ab, ba := make(chan []byte, 8), make(chan []byte, 8)
	return &pipe{in: ba, out: ab}, &pipe{in: ab, out: ba}
}

func (p *pipe) ReadFrame() ([]byte, error) {
	select {
	case b, ok := <-p.in:
		if !ok {
			return nil, io.EOF
		}
		return b, nil
	case <-time.After(time.Minute):
		return nil, errors.New("test waits too long")
	}
}

func (p *pipe) WriteFrame(b []byte) error {
	b = append([]byte(nil), b...)
	if p.tap != nil {
		b = p.tap(b)
	}
	if b != nil {
		p.out <- b
	}
	return nil
}

// person is a device with its proof.
type person struct {
	id   peercrypto.Identity
	self selfProof
}

func newPerson(t testing.TB) person {
	t.Helper()
	id, _, err := peercrypto.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := id.Cert(time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := peercrypto.SignUserDoc(id.User, id.Genesis, "tester", time.Now().UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	return person{id, selfProof{cert: cert, device: id.Device, genesis: id.Genesis, userDoc: doc}}
}

const (
	fpA = "aa00000000000000000000000000000000000000000000000000000000000000"
	fpB = "bb00000000000000000000000000000000000000000000000000000000000000"
	fpM = "cc00000000000000000000000000000000000000000000000000000000000000"
)

// hand makes a handshake of self with other over given certificates.
func hand(role string, self, other person, localFP, remoteFP string) *handshake {
	return &handshake{
		role: role, conn: "0mtz00000aaaaaaaaaaaaaaaa", self: self.self, expect: remoteOf(other.self.cert),
		localFP: localFP, remoteFP: remoteFP, offeredFP: remoteFP, now: time.Now, verified: func() {},
		userID: func(g peercrypto.UserGenesis) (peercrypto.ID, error) { return g.ID(), nil },
	}
}

type outcome struct {
	remote Remote
	id     peercrypto.Hash
	err    error
}

func start(h *handshake, ch frames) <-chan outcome {
	out := make(chan outcome, 1)
	go func() {
		r, id, err := h.run(ch)
		if p, ok := ch.(*pipe); ok && err != nil {
			close(p.out)
		}
		out <- outcome{r, id, err}
	}()
	return out
}

func TestHandshake(t *testing.T) {
	a, b := newPerson(t), newPerson(t)
	pa, pb := newPipe()
	ra := start(hand(roleOfferer, a, b, fpA, fpB), pa)
	rb := start(hand(roleAnswerer, b, a, fpB, fpA), pb)
	oa, ob := <-ra, <-rb
	if oa.err != nil || ob.err != nil {
		t.Fatal(oa.err, ob.err)
	}
	if oa.id != ob.id || oa.id.IsZero() {
		t.Error("the sides disagree about the transcript")
	}
	if oa.remote.UserID != b.id.UserID() || ob.remote.UserID != a.id.UserID() {
		t.Error("wrong remote")
	}
}

// A man in the middle who terminates DTLS on both sides and forwards all frames
// is noticed by both, although every frame is genuine.
func TestHandshakeSpliced(t *testing.T) {
	a, b := newPerson(t), newPerson(t)
	pa, pb := newPipe()
	ra := start(hand(roleOfferer, a, b, fpA, fpM), pa)
	rb := start(hand(roleAnswerer, b, a, fpB, fpM), pb)
	for _, o := range []outcome{<-ra, <-rb} {
		if !errors.Is(o.err, ErrAuthSignature) {
			t.Errorf("error %v, want %v", o.err, ErrAuthSignature)
		}
	}
	// With the fingerprints of the signed offers, it does not get that far.
	h := hand(roleOfferer, a, b, fpA, fpM)
	h.offeredFP = fpB
	if _, _, err := h.run(pa); !errors.Is(err, ErrFingerprintMismatch) {
		t.Errorf("error %v, want %v", err, ErrFingerprintMismatch)
	}
}

func TestHandshakeReplayed(t *testing.T) {
	a, b := newPerson(t), newPerson(t)
	pa, pb := newPipe()
	var frames [][]byte
	pb.tap = func(f []byte) []byte { frames = append(frames, f); return f }
	ra := start(hand(roleOfferer, a, b, fpA, fpB), pa)
	rb := start(hand(roleAnswerer, b, a, fpB, fpA), pb)
	if o := <-ra; o.err != nil {
		t.Fatal(o.err)
	}
	<-rb
	pa, pb = newPipe()
	for _, f := range frames {
		_ = pb.WriteFrame(f)
	}
	if o := <-start(hand(roleOfferer, a, b, fpA, fpB), pa); !errors.Is(o.err, ErrAuthSignature) {
		t.Errorf("error %v, want %v", o.err, ErrAuthSignature)
	}
}

func TestHandshakeReflected(t *testing.T) {
	a, b := newPerson(t), newPerson(t)
	// The mirror sends back everything.
	in := make(chan []byte, 8)
	mirror := &pipe{in: in, out: in}
	if o := <-start(hand(roleOfferer, a, b, fpA, fpB), mirror); !errors.Is(o.err, ErrReflection) {
		t.Errorf("mirror: error %v, want %v", o.err, ErrReflection)
	}
	// It changes the role, which nothing signs yet.
	in = make(chan []byte, 8)
	mirror = &pipe{in: in, out: in, tap: func(f []byte) []byte {
		return []byte(strings.Replace(string(f), `"role":"a"`, `"role":"b"`, 1))
	}}
	if o := <-start(hand(roleOfferer, a, b, fpA, fpB), mirror); !errors.Is(o.err, ErrReflection) {
		t.Errorf("changed role: error %v, want %v", o.err, ErrReflection)
	}
	// It has a genuine auth1 of b, and sends a's proof back.
	pa, pb := newPipe()
	nothing := make(chan []byte)
	rb := start(hand(roleAnswerer, b, a, fpB, fpA), &pipe{in: nothing, out: pb.out})
	ra := start(hand(roleOfferer, a, b, fpA, fpB), pa)
	<-pb.in // auth1 of a
	pb.out <- <-pb.in
	if o := <-ra; !errors.Is(o.err, ErrReflection) {
		t.Errorf("own proof: error %v, want %v", o.err, ErrReflection)
	}
	close(nothing)
	<-rb
}

func TestHandshakeWrongPerson(t *testing.T) {
	a, b, m := newPerson(t), newPerson(t), newPerson(t)
	for name, change := range map[string]func(h *handshake){
		"another device":      func(h *handshake) { h.self = m.self },
		"another's genesis":   func(h *handshake) { h.self.genesis = m.self.genesis },
		"another's document":  func(h *handshake) { h.self.userDoc = m.self.userDoc },
		"document not signed": func(h *handshake) { h.self.userDoc = []byte(`{"id":"x"}`) },
	} {
		t.Run(name, func(t *testing.T) {
			pa, pb := newPipe()
			bad := hand(roleAnswerer, b, a, fpB, fpA)
			change(bad)
			rb := start(bad, pb)
			if o := <-start(hand(roleOfferer, a, b, fpA, fpB), pa); !errors.Is(o.err, ErrWrongUser) {
				t.Errorf("error %v, want %v", o.err, ErrWrongUser)
			}
			<-rb
		})
	}
	t.Run("the device with another user", func(t *testing.T) {
		// All that it shows agrees, and is not who made the offer.
		cert := b.self.cert
		cert.UserID, cert.UserKey = m.self.cert.UserID, m.self.cert.UserKey
		cert, err := peercrypto.SignDeviceCert(m.id.User, cert)
		if err != nil {
			t.Fatal(err)
		}
		pa, pb := newPipe()
		bad := hand(roleAnswerer, b, a, fpB, fpA)
		bad.self = selfProof{cert: cert, device: b.self.device, genesis: m.self.genesis, userDoc: m.self.userDoc}
		rb := start(bad, pb)
		if o := <-start(hand(roleOfferer, a, b, fpA, fpB), pa); !errors.Is(o.err, ErrWrongUser) {
			t.Errorf("error %v, want %v", o.err, ErrWrongUser)
		}
		<-rb
	})
	t.Run("another's key signs", func(t *testing.T) {
		pa, pb := newPipe()
		bad := hand(roleAnswerer, b, a, fpB, fpA)
		bad.self.device = m.self.device
		rb := start(bad, pb)
		if o := <-start(hand(roleOfferer, a, b, fpA, fpB), pa); !errors.Is(o.err, ErrAuthSignature) {
			t.Errorf("error %v, want %v", o.err, ErrAuthSignature)
		}
		<-rb
	})
}

// end is one side of a real WebRTC connection without any signaling server.
type end struct {
	tr  *transport
	ctx context.Context
}

func newEnd(t *testing.T, conn string, offerer bool) end {
	t.Helper()
	api, socks, err := newAPI(Config{AllowLoopback: true, timing: timing{}.withDefaults()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	tr, err := newTransport(transportConfig{api: api, sockets: socks, mainLabel: conn + "-data", offerer: offerer, fail: cancel})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(ErrClosed); tr.close() })
	return end{tr, ctx}
}

// join connects two ends and returns their main channels.
func join(t *testing.T, a, b end) (am, bm *channel) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	pass := func(from, to end, typ webrtc.SDPType) {
		sdp, err := from.tr.describe(ctx)
		if err != nil {
			t.Fatal(err)
		}
		d, err := checkedSDP(sdp, typ, from.tr.fp, func(c string) bool { return usableCandidate(c, true) })
		if err != nil {
			t.Fatal(err)
		}
		if err := to.tr.setRemote(d); err != nil {
			t.Fatal(err)
		}
		go from.tr.trickle(from.ctx, sdp, func(c candidate) { _ = to.tr.addCandidate(c) })
	}
	pass(a, b, webrtc.SDPTypeOffer)
	pass(b, a, webrtc.SDPTypeAnswer)
	for _, e := range []struct {
		end
		main **channel
	}{{a, &am}, {b, &bm}} {
		select {
		case *e.main = <-e.tr.main:
		case <-ctx.Done():
			t.Fatal("no channel")
		}
	}
	return am, bm
}

// The strongest server: it somehow has both sides' trust in its own
// descriptions, terminates both DTLS connections and forwards the frames.
func TestSplicedStacks(t *testing.T) {
	const conn = "0mtz00000aaaaaaaaaaaaaaaa"
	a, m1 := newEnd(t, conn, true), newEnd(t, conn, false)
	m2, b := newEnd(t, conn, true), newEnd(t, conn, false)
	am, m1m := join(t, a, m1)
	m2m, bm := join(t, m2, b)
	forward := func(from, to *channel) {
		for {
			f, err := mainChannel{from}.ReadFrame()
			if err != nil {
				return
			}
			_ = mainChannel{to}.WriteFrame(f)
		}
	}
	go forward(m1m, m2m)
	go forward(m2m, m1m)
	alice, bob := newPerson(t), newPerson(t)
	run := func(e end, main *channel, role string, self, other person) <-chan outcome {
		fp, err := e.tr.remoteFP(main)
		if err != nil {
			t.Fatal(err)
		}
		return start(hand(role, self, other, e.tr.fp, fp), mainChannel{main})
	}
	ra := run(a, am, roleOfferer, alice, bob)
	rb := run(b, bm, roleAnswerer, bob, alice)
	for _, o := range []outcome{<-ra, <-rb} {
		if !errors.Is(o.err, ErrAuthSignature) {
			t.Errorf("error %v, want %v", o.err, ErrAuthSignature)
		}
	}
}

func FuzzAuthFrames(f *testing.F) {
	a, b := newPerson(f), newPerson(f)
	one, err := peercrypto.MarshalCanonical(auth1{
		Type: "auth1", V: 2, Role: roleAnswerer, Cert: b.self.cert, User: b.self.userDoc, Genesis: b.self.genesis,
	})
	if err != nil {
		f.Fatal(err)
	}
	two, _ := peercrypto.MarshalCanonical(auth2{Type: "auth2"})
	three, _ := peercrypto.MarshalCanonical(auth3{Type: "auth3", OK: true, Level: 2})
	f.Add(one, two, three)
	f.Add([]byte("null"), []byte("[]"), []byte(`{"type":"auth3"}`))
	f.Fuzz(func(t *testing.T, x, y, z []byte) {
		in := make(chan []byte, 3)
		in <- x
		in <- y
		in <- z
		close(in)
		h := hand(roleOfferer, a, b, fpA, fpB)
		if _, _, err := h.run(&pipe{in: in, out: make(chan []byte, 8)}); err == nil {
			t.Error("authenticated without the device's key")
		}
	})
}
