package link

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/webrtc/v4"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

func TestCheckedSDP(t *testing.T) {
	all := func(string) bool { return true }
	colons := func(fp string) string { return strings.TrimSuffix(strings.ToUpper(pairs(fp)), ":") }
	for name, c := range map[string]struct {
		sdp string
		ok  bool
	}{
		"good":                 {testSDP(fpA), true},
		"twice the same":       {testSDP(fpA, "a=fingerprint:SHA-256 "+colons(fpA)), true},
		"two":                  {testSDP(fpA, "a=fingerprint:sha-256 "+colons(fpB)), false},
		"another":              {testSDP(fpB), false},
		"sha-1":                {testSDP(fpA, "a=fingerprint:sha-1 "+colons(fpA[:40])), false},
		"sha-512":              {testSDP(fpA, "a=fingerprint:sha-512 "+colons(fpA+fpA)), false},
		"none":                 {strings.Replace(testSDP(fpA), "a=fingerprint", "a=fingerprlnt", 1), false},
		"audio too":            {testSDP(fpA, "m=audio 9 UDP/TLS/RTP/SAVPF 111"), false},
		"audio instead":        {strings.Replace(testSDP(fpA), "m=application", "m=audio", 1), false},
		"empty":                {"", false},
		"no media":             {"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 " + colons(fpA) + "\r\n", false},
		"no colons":            {strings.Replace(testSDP(fpA), colons(fpA), fpA, 1), true}, // testSDP prints lower case: unchanged
		"value after":          {testSDP(fpA, "a=fingerprint:sha-256 "+colons(fpA)+" x"), false},
		"fingerprint of bytes": {testSDP(fpA, "a=fingerprint:sha-256"), false},
	} {
		d, err := checkedSDP(c.sdp, webrtc.SDPTypeOffer, fpA, all)
		if (err == nil) != c.ok {
			t.Errorf("%s: error %v", name, err)
		}
		if err == nil && strings.Count(strings.ToLower(d.SDP), "fingerprint:sha-256") == 0 {
			t.Errorf("%s: fingerprint was lost", name)
		}
	}
	d, err := checkedSDP(testSDP(fpA, "a=candidate:1 1 udp 1 192.0.2.1 4 typ host", "a=candidate:1 1 udp 1 127.0.0.1 4 typ host", "a=remote-candidates:1 127.0.0.1 1"),
		webrtc.SDPTypeOffer, fpA, func(c string) bool { return usableCandidate(c, false) })
	if err != nil || strings.Contains(d.SDP, "127.0.0.1") || !strings.Contains(d.SDP, "192.0.2.1") {
		t.Errorf("candidates were not filtered: %v", err)
	}
}

func pairs(s string) string {
	var b strings.Builder
	for i := 0; i+1 < len(s); i += 2 {
		b.WriteString(s[i:i+2] + ":")
	}
	return b.String()
}

func TestUsableCandidate(t *testing.T) {
	for text, want := range map[string]bool{
		"candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host":                                 true,
		"1 1 UDP 2130706431 2001:db8::1 5000 typ srflx raddr 0.0.0.0 rport 0":                  true,
		"candidate:1 1 udp 1 10.0.0.1 1024 typ relay raddr 0.0.0.0 rport 0 ufrag x":            true,
		"candidate:1 1 tcp 1 192.0.2.1 5000 typ host tcptype active":                           false,
		"candidate:1 1 udp 1 127.0.0.1 5000 typ host":                                          false,
		"candidate:1 1 udp 1 ::1 5000 typ host":                                                false,
		"candidate:1 1 udp 1 ::ffff:127.0.0.1 5000 typ host":                                   false,
		"candidate:1 1 udp 1 0.0.0.0 5000 typ host":                                            false,
		"candidate:1 1 udp 1 0.1.2.3 5000 typ host":                                            false,
		"candidate:1 1 udp 1 :: 5000 typ host":                                                 false,
		"candidate:1 1 udp 1 224.0.0.1 5000 typ host":                                          false,
		"candidate:1 1 udp 1 ff02::1 5000 typ host":                                            false,
		"candidate:1 1 udp 1 255.255.255.255 5000 typ host":                                    false,
		"candidate:1 1 udp 1 240.0.0.1 5000 typ host":                                          false,
		"candidate:1 1 udp 1 64:ff9b::127.0.0.1 5000 typ host":                                 false,
		"candidate:1 1 udp 1 64:ff9b::192.0.2.1 5000 typ host":                                 true,
		"candidate:1 1 udp 1 2002:7f00:1:: 5000 typ host":                                      false,
		"candidate:1 1 udp 1 2002:c000:201:: 5000 typ host":                                    true,
		"candidate:1 1 udp 1 ::127.0.0.1 5000 typ host":                                        false,
		"candidate:1 1 udp 1 192.0.2.1 0 typ host":                                             false,
		"candidate:1 1 udp 1 192.0.2.1 65536 typ host":                                         false,
		"candidate:1 1 udp 1 192.0.2.1 -1 typ host":                                            false,
		"candidate:1 1 udp 1 6fcc8f3a-1111-2222-3333-444455556666.local 5000 typ host":         false,
		"candidate:1 1 udp 1 example.org 5000 typ host":                                        false,
		"candidate:1 1 udp 1 fe80::1%eth0 5000 typ host":                                       false,
		"candidate:1 1 udp 1 192.0.2.1 5000 typ other":                                         false,
		"candidate:1 1 udp 1 192.0.2.1 5000":                                                   false,
		"":                                                                                     false,
		"candidate:1 1 udp 1 192.0.2.1 5000 typ host " + strings.Repeat("x", maxCandidateText): false,
	} {
		if got := usableCandidate(text, false); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if !usableCandidate("candidate:1 1 udp 1 127.0.0.1 5000 typ host", true) {
		t.Error("loopback is not allowed when it should be")
	}
}

func TestReplayCache(t *testing.T) {
	now := time.Now()
	c := newReplayCache()
	must := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("error %v, want %v", err, want)
		}
	}
	must(c.add("d", "c", now), nil)
	must(c.add("d", "c", now.Add(replayWindow)), ErrOfferReplayed)
	must(c.add("d", "c", now.Add(-time.Hour)), ErrOfferReplayed) // the clock was set back
	must(c.add("d", "other", now), nil)
	must(c.add("other", "c", now), nil)
	must(c.add("d", "c", now.Add(replayWindow+time.Second)), nil)
	for i := range maxSeen {
		_ = c.add("d", peercrypto.ID(fmt.Sprint(i)), now)
	}
	must(c.add("d", "one more", now), ErrBusy)
	must(c.add("d", "one more", now.Add(2*replayWindow+time.Minute)), nil)
	for range 20 {
		must(c.allow("d", 20, now), nil)
	}
	must(c.allow("d", 20, now), ErrBusy)
	must(c.allow("other", 20, now), nil)
	must(c.allow("d", 20, now.Add(time.Minute)), nil)
	must(c.allow("d", 20, now.Add(-time.Hour)), nil)
}

func TestEarlyCandidates(t *testing.T) {
	now := time.Now()
	e := newEarlyCandidates()
	for i := range MaxEarly {
		if !e.addLocked(peercrypto.ID(fmt.Sprint(i/MaxCandidates)), "c", wire.Envelope{}, now) {
			t.Fatalf("candidate %d has no place", i)
		}
	}
	if e.addLocked("x", "c", wire.Envelope{}, now) {
		t.Error("no limit")
	}
	if n := len(e.takeLocked("0", "c", now)); n != MaxCandidates || e.total != MaxEarly-n {
		t.Errorf("took %d, %d left", n, e.total)
	}
	if !e.addLocked("x", "c", wire.Envelope{}, now.Add(earlyLife+time.Second)) || e.total > MaxCandidates+1+MaxEarly {
		t.Error("no room")
	}
	if got := e.takeLocked("1", "c", now.Add(earlyLife+time.Second)); got != nil || e.total != 1 {
		t.Errorf("old candidates stay: %d", e.total)
	}
}

func TestEventQueue(t *testing.T) {
	q := newEventQueue()
	drain := func() (out []string) {
		for es := q.pop(); es != nil; es = q.pop() {
			for _, e := range es {
				out = append(out, strings.TrimPrefix(fmt.Sprintf("%T", e), "link."))
			}
		}
		return out
	}
	want := func(events ...string) {
		t.Helper()
		if got := drain(); fmt.Sprint(got) != fmt.Sprint(events) {
			t.Errorf("got %v, want %v", got, events)
		}
	}
	c := &Conn{}
	q.push(Connected{c})
	q.push(Disconnected{Conn: c})
	want()
	q.push(Connected{c})
	want("Connected")
	q.push(Disconnected{Conn: c})
	want("Disconnected")
	q.push(Discovered{Remote: Remote{DeviceID: "d"}})
	q.push(Gone{DeviceID: "d"})
	want("Gone")
	q.push(ServerUp{})
	q.push(Discovered{Remote: Remote{DeviceID: "d"}})
	q.push(ServerDown{})
	q.push(ServerUp{Session: "new"})
	q.push(Discovered{Remote: Remote{DeviceID: "d"}})
	want("ServerDown", "ServerUp", "Discovered")
	// A consumer that is stuck costs as much as there is to tell.
	for i := range 100000 {
		c := &Conn{}
		q.push(Connected{c})
		q.push(Disconnected{Conn: c})
		q.push(DialFailed{DeviceID: peercrypto.ID(fmt.Sprint(i))})
		q.push(Discovered{Remote: Remote{DeviceID: "d"}})
	}
	if len(q.wait) > maxDialFailed+1 || len(q.order) > 2*len(q.wait)+65 {
		t.Errorf("%d events and %d keys wait", len(q.wait), len(q.order))
	}
	if n := len(drain()); n != maxDialFailed+1 || q.dials != 0 {
		t.Errorf("%d events, %d dials", n, q.dials)
	}
}

func TestRetryDelay(t *testing.T) {
	l := &Link{cfg: Config{ReconnectMin: time.Second, ReconnectMax: time.Minute}}
	close := func(code wire.CloseCode) error {
		return fmt.Errorf("reading: %w", websocket.CloseError{Code: websocket.StatusCode(code)})
	}
	for name, c := range map[string]struct {
		err         error
		failures    int
		least, most time.Duration
	}{
		"first":            {errors.New("x"), 0, 0, time.Second},
		"third":            {errors.New("x"), 2, 0, 4 * time.Second},
		"many":             {errors.New("x"), 1000, 0, time.Minute},
		"renew":            {errRenew, 5, 0, 0},
		"replaced":         {close(wire.CloseReplaced), 0, -1, -1},
		"protocol":         {close(wire.CloseProtocol), 0, -1, -1},
		"rate":             {close(wire.CloseRate), 0, 10 * time.Second, 11 * time.Second},
		"notice replaced":  {&noticeError{code: wire.CodeReplaced}, 0, -1, -1},
		"notice draining":  {&noticeError{code: wire.CodeDraining, retryAfter: 3 * time.Second}, 0, 3 * time.Second, 3 * time.Second},
		"refused full":     {fmt.Errorf("x: %w", &RefusedError{Code: wire.CodeServerFull, RetryAfter: 5 * time.Second}), 0, 5 * time.Second, 6 * time.Second},
		"refused for good": {&RefusedError{Code: wire.CodeUnknownName}, 0, 30 * time.Second, 90 * time.Second},
		"absurd":           {&RefusedError{Code: wire.CodeServerFull, RetryAfter: math.MaxInt64}, 0, time.Hour, time.Hour + time.Second},
	} {
		for range 50 {
			if _, d := l.retryDelay(c.err, c.failures); d < c.least || d > c.most {
				t.Errorf("%s: %v is not in %v…%v", name, d, c.least, c.most)
				break
			}
		}
	}
}

func TestSendWindow(t *testing.T) {
	const rtt = 100 * time.Millisecond
	start := time.Now()
	for name, c := range map[string]struct {
		rate, want int // bytes a second that the path carries; the limit in the end
	}{
		"narrow": {100_000, windowMin},
		"middle": {5_000_000, 1_000_000}, // a round trip and windowQueue
		"wide":   {1_000_000_000, windowMax},
	} {
		w := newSendWindow()
		now, confirmed := start, uint64(0)
		w.measure(now, 0, rtt)
		for range 40 {
			now = now.Add(2 * rtt)
			w.written = confirmed + uint64(w.limit)
			// The path carries what it can, and at most a window a round trip.
			confirmed += uint64(min(c.rate/5, 2*w.limit))
			w.written = max(w.written, confirmed+1)
			w.measure(now, int(w.written-confirmed), rtt)
			if w.limit < windowMin || w.limit > windowMax || w.low() >= w.limit {
				t.Fatalf("%s: limit %d", name, w.limit)
			}
		}
		if w.limit != c.want {
			t.Errorf("%s: limit is %d, want %d", name, w.limit, c.want)
		}
		// A pause of the writer says nothing about the path.
		limit := w.limit
		w.written = confirmed
		if w.measure(now.Add(time.Hour), 0, rtt); w.limit != limit {
			t.Errorf("%s: limit is %d after a pause", name, w.limit)
		}
	}
}

func TestFragments(t *testing.T) {
	for _, n := range []int{0, 1, MaxFragment - 2, MaxFragment - 1, MaxFragment, 3 * MaxFragment, MaxMessage} {
		msg := bytes.Repeat([]byte("ab"), n/2+1)[:n]
		var a assembler
		var got []byte
		finished := false
		err := fragments(make([]byte, 0, 8), msg, func(f []byte) error {
			if finished || len(f) > MaxFragment {
				return errors.New("too long, or more after the last")
			}
			var err error
			got, finished, err = a.add(f)
			return err
		})
		if err != nil || !finished || !bytes.Equal(got, msg) || a.pending() != 0 {
			t.Errorf("%d bytes: %v, %d came back", n, err, len(got))
		}
	}
}

func FuzzFragments(f *testing.F) {
	f.Add([]byte("\x00abc"), 3)
	f.Add([]byte("\x01abc\x01def\x00g"), 4)
	f.Add([]byte{}, 1)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		if size <= 0 {
			return
		}
		var a assembler
		for len(data) > 0 {
			n := min(size, len(data))
			msg, done, err := a.add(data[:n])
			if err != nil {
				return
			}
			if len(msg) > MaxMessage || a.pending() > MaxMessage || done && a.pending() != 0 {
				t.Fatal("limits do not hold")
			}
			data = data[n:]
		}
	})
}

func FuzzSDP(f *testing.F) {
	f.Add(testSDP(fpA))
	f.Add(testSDP(fpA, "a=fingerprint:sha-256 "+strings.TrimSuffix(pairs(fpB), ":")))
	f.Add(testSDP(fpA, "a=candidate:1 1 udp 1 192.0.2.1 4 typ host", "a=end-of-candidates"))
	f.Fuzz(func(t *testing.T, text string) {
		keep := func(c string) bool { return usableCandidate(c, false) }
		d, err := checkedSDP(text, webrtc.SDPTypeOffer, fpA, keep)
		if err != nil {
			return
		}
		// What was accepted is accepted again, unchanged, and names no other
		// certificate.
		again, err := checkedSDP(d.SDP, webrtc.SDPTypeOffer, fpA, keep)
		if err != nil || again.SDP != d.SDP {
			t.Fatalf("not stable: %v", err)
		}
		if _, err := checkedSDP(d.SDP, webrtc.SDPTypeOffer, fpB, keep); err == nil {
			t.Fatal("accepted for another certificate")
		}
	})
}

func FuzzOffer(f *testing.F) {
	p := newPerson(f)
	cert := p.self.cert
	now := time.Now()
	o := offer{
		V: 2, Kind: wire.KindOffer, Conn: "0mtz00000aaaaaaaaaaaaaaaa", FromDevice: cert.DeviceID, ToDevice: cert.DeviceID,
		FromUser: cert.UserID, ToUser: cert.UserID, FP: fpA, SDP: testSDP(fpA), Time: now.UnixMilli(), Eph: cert.BoxKey, Cert: cert,
	}
	plain, err := o.sign(p.id.Device)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"candidate":"","sdpMLineIndex":0,"sdpMid":"0","usernameFragment":""}`))
	want := expectation{
		kind: wire.KindOffer, conn: o.Conn, from: cert.DeviceID, toDevice: cert.DeviceID, toUser: cert.UserID, eph: cert.BoxKey, now: now,
	}
	if _, err := parseOffer(plain, want); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := parseOffer(b, want); err == nil && (!bytes.Equal(b, plain) || got.Sig == peercrypto.Signature{}) {
			t.Fatal("accepted what was not signed")
		}
		_, _ = parseCandidate(b)
	})
}
