package link_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
	"github.com/peersignal/peersignal/pkg/wire"
)

func TestConnectBothWays(t *testing.T) {
	r := newRelay(t)
	a, b := startDevice(t, r.url(), nil), startDevice(t, r.url(), nil)
	ac, bc := connect(t, a, b)
	if ac.Remote().DeviceID != b.deviceID() || ac.Remote().UserID != b.link.UserID() || len(ac.Remote().UserDoc) == 0 {
		t.Errorf("remote of a: %v", ac.Remote().DeviceID)
	}
	if got := ac.Remote().Genesis.ID(); got != b.link.UserID() {
		t.Errorf("genesis gives %s", got)
	}
	if !ac.Outgoing() || bc.Outgoing() {
		t.Error("wrong idea of who dialled")
	}
	for i, side := range []struct{ from, to *link.Conn }{{ac, bc}, {bc, ac}} {
		s := echo(t, side.from, side.to, fmt.Sprintf("test/%d", i))
		if s.Name() != fmt.Sprintf("test/%d", i) || s.Conn() != side.from {
			t.Error("stream lost its name or connection")
		}
	}
	st := ac.Stats()
	if st.LocalCandidateType != "host" || st.Protocol != "udp" || st.BytesOut == 0 || st.MessagesIn == 0 {
		t.Errorf("stats %+v", st)
	}
	again, err := b.link.Dial(testContext(t), a.deviceID())
	if err != nil || again != bc {
		t.Errorf("second Dial made another connection: %v", err)
	}
	if err := ac.Close("test is over"); err != nil {
		t.Fatal(err)
	}
	e := await(b, "end", func(e link.Disconnected) bool { return e.Conn == bc })
	wantErr(t, e.Reason, link.ErrPeerClosed)
	e = await(a, "end", func(e link.Disconnected) bool { return e.Conn == ac })
	wantErr(t, e.Reason, link.ErrClosed)
	if len(a.link.Conns())+len(b.link.Conns()) != 0 {
		t.Error("connections are still listed")
	}
}

// echo opens a stream, has it answered by the other side and leaves it open.
func echo(t *testing.T, from, to *link.Conn, name string) *link.Stream {
	t.Helper()
	ctx := testContext(t)
	s, err := from.OpenStream(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	sizes := []int{0, 1, link.MaxFragment - 2, link.MaxFragment - 1, link.MaxFragment, link.MaxMessage}
	done := make(chan error, 1)
	go func() {
		p, err := to.AcceptStream(ctx)
		if err == nil && p.Name() != name {
			err = fmt.Errorf("name is %q", p.Name())
		}
		for range sizes {
			if err != nil {
				break
			}
			var msg []byte
			if msg, err = p.ReadMessage(ctx); err == nil {
				err = p.WriteMessage(ctx, msg)
			}
		}
		done <- err
	}()
	for _, n := range sizes {
		msg := bytes.Repeat([]byte{byte(n), 1, 2}, n/3+1)[:n]
		if err := s.WriteMessage(ctx, msg); err != nil {
			t.Fatal(err)
		}
		got, err := s.ReadMessage(ctx)
		if err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("message of %d bytes came back with %d: %v", n, len(got), err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStreamsEnd(t *testing.T) {
	r := newRelay(t)
	a, b := startDevice(t, r.url(), nil), startDevice(t, r.url(), nil)
	ac, bc := connect(t, a, b)
	ctx := testContext(t)
	for _, name := range []string{"", "Upper", "sp ace", "a.b", string(make([]byte, 65))} {
		_, err := ac.OpenStream(ctx, name)
		wantErr(t, err, link.ErrStreamName)
	}
	s, err := ac.OpenStream(ctx, "one")
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.WriteMessage(ctx, make([]byte, link.MaxMessage+1)), link.ErrMessageTooLarge)
	if err := s.WriteMessage(ctx, []byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.WriteMessage(ctx, nil), link.ErrClosed)
	_, err = s.ReadMessage(ctx)
	wantErr(t, err, link.ErrClosed)
	p, err := bc.AcceptStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := p.ReadMessage(ctx); err != nil || string(msg) != "last words" {
		t.Fatalf("%q, %v", msg, err)
	}
	if _, err := p.ReadMessage(ctx); !errors.Is(err, io.EOF) {
		t.Fatalf("error %v, want EOF", err)
	}
	_ = p.Close()
	// Many streams one after the other, and never more than the limit at once.
	for i := range 3 * link.MaxStreams {
		eventually(t, "room for a stream", func() bool {
			s, err := ac.OpenStream(ctx, "more")
			if err == nil {
				_ = s.Close()
			}
			return err == nil
		})
		p, err := bc.AcceptStream(ctx)
		if err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
		_ = p.Close()
	}
	eventually(t, "end of streams", func() bool { return ac.Stats().Streams == 0 && bc.Stats().Streams == 0 })
	for range link.MaxStreams {
		if _, err := ac.OpenStream(ctx, "full"); err != nil {
			t.Fatal(err)
		}
	}
	_, err = ac.OpenStream(ctx, "full")
	wantErr(t, err, link.ErrTooManyStreams)
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	q, err := bc.AcceptStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = q.ReadMessage(short)
	wantErr(t, err, context.DeadlineExceeded)
}

func TestGlare(t *testing.T) {
	r := newRelay(t)
	a, b := startDevice(t, r.url(), nil), startDevice(t, r.url(), nil)
	a.sees(b)
	b.sees(a)
	for round := range 12 {
		type result struct {
			c   *link.Conn
			err error
		}
		results := [2]chan result{make(chan result, 1), make(chan result, 1)}
		start := make(chan struct{})
		for i, pair := range [][2]*device{{a, b}, {b, a}} {
			go func() {
				<-start
				c, err := pair[0].link.Dial(testContext(t), pair[1].deviceID())
				results[i] <- result{c, err}
			}()
		}
		close(start)
		ra, rb := <-results[0], <-results[1]
		if ra.err != nil || rb.err != nil {
			t.Fatalf("round %d: %v, %v", round, ra.err, rb.err)
		}
		if ra.c.SessionID() != rb.c.SessionID() {
			t.Fatalf("round %d: two connections", round)
		}
		if ra.c.Outgoing() == rb.c.Outgoing() {
			t.Fatalf("round %d: both or none is the offerer", round)
		}
		if n, m := len(a.link.Conns()), len(b.link.Conns()); n != 1 || m != 1 {
			t.Fatalf("round %d: %d and %d connections", round, n, m)
		}
		_ = ra.c.Close("next round")
		eventually(t, "end of round", func() bool { return len(a.link.Conns())+len(b.link.Conns()) == 0 })
	}
}

func TestRedialReplaces(t *testing.T) {
	r := newRelay(t)
	a := startDevice(t, r.url(), nil)
	id, doc := testIdentity(t)
	b := startIdentity(t, r.url(), id, doc, nil)
	_, old := connect(t, b, a)
	// b forgets everything without a word: its process is gone, its sockets are
	// not. The same device dials again.
	b2 := startIdentity(t, r.url(), id, doc, nil)
	_, fresh := connect(t, b2, a)
	e := await(a, "end of the old connection", func(e link.Disconnected) bool { return e.Conn == old })
	wantErr(t, e.Reason, link.ErrReplaced)
	if c := a.link.Conn(b.deviceID()); c != fresh || c.Err() != nil {
		t.Error("the old connection's end removed the new one")
	}
}

// TestDeviceRestartsWhileDialled loses the offer with the process that it was for. Nothing may wait for an answer from
// somebody who can't know of it.
func TestDeviceRestartsWhileDialled(t *testing.T) {
	r := newRelay(t)
	a := startDevice(t, r.url(), nil)
	id, doc := testIdentity(t)
	b := startIdentity(t, r.url(), id, doc, nil)
	a.sees(b)
	offered := make(chan struct{}, 1)
	r.setPass(func(_ peercrypto.ID, m *wire.Signal) []*wire.Signal {
		if m.Kind == wire.KindOffer {
			offered <- struct{}{}
		}
		return nil
	})
	dialled := make(chan error, 1)
	go func() {
		_, err := a.link.Dial(testContext(t), b.deviceID())
		dialled <- err
	}()
	<-offered
	b.stop()
	wantErr(t, <-dialled, link.ErrDeviceGone)
	r.setPass(nil)
	connect(t, startIdentity(t, r.url(), id, doc, nil), a)
}

func TestDialErrors(t *testing.T) {
	r := newRelay(t)
	a, b := startDevice(t, r.url(), nil), startDevice(t, r.url(), func(c *link.Config) {
		c.Admit = func(context.Context, link.Remote) error { return errors.New("no") }
	})
	ctx := testContext(t)
	published(t, a)
	_, err := a.link.Dial(ctx, peercrypto.NewID(time.Now()))
	wantErr(t, err, link.ErrUnknownDevice)
	idle, err := link.New(link.Config{
		Server: r.url(), Identity: a.id, UserDoc: mustDoc(t, a.id), Admit: func(context.Context, link.Remote) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = idle.Dial(ctx, b.deviceID())
	wantErr(t, err, link.ErrNotRunning)
	a.sees(b)
	dialling, cancel := context.WithCancel(ctx)
	defer cancel()
	dialled := make(chan error, 1)
	go func() {
		_, err := a.link.Dial(dialling, b.deviceID())
		dialled <- err
	}()
	eventually(t, "a refused offer", func() bool { return b.link.Status().Refused["offer not admitted"] == 1 })
	cancel()
	wantErr(t, <-dialled, context.Canceled)
}

func mustDoc(t *testing.T, id peercrypto.Identity) []byte {
	t.Helper()
	doc, err := peercrypto.SignUserDoc(id.User, id.Genesis, "tester", 1)
	if err != nil {
		doc, err = peercrypto.SignUserDoc(id.User, id.Genesis, "tester", time.Now().UnixMilli())
	}
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestServerRestart(t *testing.T) {
	r := newRelay(t)
	a, b := startDevice(t, r.url(), nil), startDevice(t, r.url(), nil)
	ac, bc := connect(t, a, b)
	up := count(a, func(link.ServerUp) bool { return true })
	r.dropAll()
	await(a, "loss of the server", func(link.ServerDown) bool { return true })
	eventually(t, "new session", func() bool { return count(a, func(link.ServerUp) bool { return true }) > up })
	eventually(t, "topics", func() bool {
		st := a.link.Status()
		return st.Published == 1 && st.Peers == 1
	})
	echo(t, ac, bc, "still-here")
	if ac.Err() != nil || len(a.link.Conns()) != 1 {
		t.Error("the connection did not survive")
	}
}
