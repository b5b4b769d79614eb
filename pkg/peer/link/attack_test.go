package link_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
	"github.com/peersignal/peersignal/pkg/wire"
)

// failed waits until a device has failed to connect with another, and returns
// why.
func failed(d *device, with peercrypto.ID) error {
	return await(d, "failure", func(e link.DialFailed) bool { return e.DeviceID == with }).Err
}

// refusals waits until a device has counted a refusal.
func refusals(t *testing.T, d *device, reason string) {
	t.Helper()
	eventually(t, reason, func() bool { return d.link.Status().Refused[reason] > 0 })
}

// idle checks that a device has neither a connection nor an attempt.
func idle(t *testing.T, d *device) {
	t.Helper()
	if st := d.link.Status(); st.Attempts != 0 || len(st.Conns) != 0 {
		t.Errorf("%d attempts, %d connections", st.Attempts, len(st.Conns))
	}
}

func TestForgedOffers(t *testing.T) {
	r := newRelay(t)
	victim := startDevice(t, r.url(), nil)
	published(t, victim)
	cert := victimCert(t, r, victim)
	id, _ := testIdentity(t)
	other, _ := testIdentity(t)
	otherCert, err := other.Cert(time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	foreign := peercrypto.Tag{9}
	type change = func(*link.Offer)
	for _, c := range []struct {
		name, reason  string
		via           peercrypto.Tag
		salt          [32]byte
		at            time.Time
		mutate, after change
		wire          func(*wire.Signal)
	}{
		{name: "from another device", reason: "offer envelope", wire: func(m *wire.Signal) { m.From = otherCert.DeviceID }},
		{name: "other connection", reason: "offer envelope", wire: func(m *wire.Signal) { m.Conn = peercrypto.NewID(now) }},
		{name: "ciphertext changed", reason: "offer envelope", wire: func(m *wire.Signal) {
			swapped := "A"
			if m.Env.CT[100] == 'A' {
				swapped = "B"
			}
			m.Env.CT = m.Env.CT[:100] + swapped + m.Env.CT[101:]
		}},
		{name: "ephemeral key exchanged", reason: "offer envelope", wire: func(m *wire.Signal) { m.Env.Eph = otherCert.BoxKey.String() }},
		{name: "salt unknown", reason: "offer envelope", salt: [32]byte{1}},
		{name: "topic not held", reason: "offer over a foreign topic", via: foreign},
		{name: "as the same user", reason: "offer", via: peercrypto.Tag{}},
		{name: "old", reason: "offer time", mutate: func(o *link.Offer) { o.Time = now.Add(-6 * time.Minute).UnixMilli() }},
		{name: "ahead", reason: "offer time", mutate: func(o *link.Offer) { o.Time = now.Add(6 * time.Minute).UnixMilli() }},
		{name: "certificate expired", reason: "offer certificate", at: now.Add(-2 * time.Hour)},
		{name: "certificate of another", reason: "offer", mutate: func(o *link.Offer) { o.Cert = otherCert }},
		{name: "sdp after signing", reason: "offer signature", after: func(o *link.Offer) { o.SDP += "a=x\r\n" }},
		{name: "fingerprint after signing", reason: "offer signature", after: func(o *link.Offer) { o.FP = strings.Repeat("ab", 32) }},
		{name: "signed as answer", reason: "offer", mutate: func(o *link.Offer) { o.Kind = wire.KindAnswer }},
		{name: "for another device", reason: "offer", mutate: func(o *link.Offer) { o.ToDevice = otherCert.DeviceID }},
		{name: "for another user", reason: "offer", mutate: func(o *link.Offer) { o.ToUser = otherCert.UserID }},
		{name: "from another user", reason: "offer", mutate: func(o *link.Offer) { o.FromUser = otherCert.UserID }},
		{name: "another version", reason: "offer", mutate: func(o *link.Offer) { o.V = 1 }},
		{name: "another ephemeral key inside", reason: "offer", mutate: func(o *link.Offer) { o.Eph = otherCert.BoxKey }},
		{name: "long sdp", reason: "offer", mutate: func(o *link.Offer) { o.SDP += strings.Repeat("a=x\r\n", 4900) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			via, at := testTag, now
			if c.via != (peercrypto.Tag{}) || c.name == "as the same user" {
				via = c.via
			}
			if !c.at.IsZero() {
				at = c.at
			}
			m, err := link.ForgeOffer(id, cert, via, c.salt, at, c.mutate, c.after)
			if err != nil {
				t.Fatal(err)
			}
			if c.wire != nil {
				c.wire(m)
			}
			before := victim.link.Status().Refused[c.reason]
			r.inject(victim.deviceID(), m)
			eventually(t, c.reason, func() bool { return victim.link.Status().Refused[c.reason] > before })
			idle(t, victim)
		})
	}
	if victim.admits != 0 {
		t.Errorf("Admit was asked %d times about offers that are not genuine", victim.admits)
	}
}

func victimCert(t *testing.T, r *relay, d *device) peercrypto.DeviceCert {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sessions[d.deviceID()]
	if s == nil {
		t.Fatal("no session")
	}
	return s.cert
}

func published(t *testing.T, d *device) {
	t.Helper()
	eventually(t, "topics", func() bool { return d.link.Status().Published == 1 })
}

func TestGenuineOfferReplayed(t *testing.T) {
	r := newRelay(t)
	victim := startDevice(t, r.url(), nil)
	published(t, victim)
	id, _ := testIdentity(t)
	m, err := link.ForgeOffer(id, victimCert(t, r, victim), testTag, [32]byte{}, time.Now(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.inject(victim.deviceID(), m)
	// It is genuine, so it is answered; nobody is there to get the answer.
	wantErr(t, failed(victim, m.From), link.ErrRefused)
	r.inject(victim.deviceID(), m)
	refusals(t, victim, "offer replayed")
}

func TestNotAdmittedCreatesNothing(t *testing.T) {
	r := newRelay(t)
	asked := make(chan link.Remote, 1)
	victim := startDevice(t, r.url(), func(c *link.Config) {
		c.Admit = func(_ context.Context, r link.Remote) error { asked <- r; return errors.New("stranger") }
	})
	published(t, victim)
	id, _ := testIdentity(t)
	m, err := link.ForgeOffer(id, victimCert(t, r, victim), testTag, [32]byte{}, time.Now(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.inject(victim.deviceID(), m)
	remote := <-asked
	if remote.DeviceID != id.DeviceID() || remote.UserKey != id.User.Public() || len(remote.Via) != 1 || remote.UserDoc != nil {
		t.Errorf("Admit was asked about %v", remote.DeviceID)
	}
	refusals(t, victim, "offer not admitted")
	idle(t, victim)
	if n := count(victim, func(link.DialFailed) bool { return true }); n != 0 {
		t.Error("an attempt was made")
	}
}

func TestOfferRate(t *testing.T) {
	r := newRelay(t)
	victim := startDevice(t, r.url(), func(c *link.Config) { c.OffersPerMinute = 0 })
	published(t, victim)
	id, _ := testIdentity(t)
	for range 25 {
		m, err := link.ForgeOffer(id, victimCert(t, r, victim), testTag, [32]byte{}, time.Now(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.inject(victim.deviceID(), m)
	}
	eventually(t, "refusals", func() bool { return victim.link.Status().Refused["offers over the rate"] == 5 })
}

func TestForgedSignals(t *testing.T) {
	r := newRelay(t)
	a, b := startDevice(t, r.url(), nil), startDevice(t, r.url(), nil)
	// The server repeats everything changed, out of turn and under other names.
	r.setPass(func(to peercrypto.ID, m *wire.Signal) []*wire.Signal {
		junk := *m
		junk.Kind, junk.Env.Eph = wire.KindCandidate, ""
		foreign := junk
		foreign.From = peercrypto.NewID(time.Now())
		flipped := junk
		flipped.Env.CT = "AAAAAAAA" + junk.Env.CT[8:]
		stray := junk
		stray.Conn = peercrypto.NewID(time.Now())
		out := []*wire.Signal{&junk, &foreign, &flipped, &stray, m}
		if m.Kind == wire.KindAnswer {
			second := *m
			out = append(out, &second)
			early := *m
			early.From = foreign.From
			out = append([]*wire.Signal{&early}, out...)
		}
		return out
	})
	ac, bc := connect(t, a, b)
	echo(t, ac, bc, "works")
	for _, reason := range []string{"candidate envelope", "candidate of another device", "answer without offer"} {
		refusals(t, a, reason)
	}
}

func TestCandidateFlood(t *testing.T) {
	r := newRelay(t)
	a, b := startDevice(t, r.url(), nil), startDevice(t, r.url(), nil)
	published(t, b)
	m, err := link.ForgeOffer(a.id, victimCert(t, r, b), testTag, [32]byte{}, time.Now(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Kind, m.Env.Eph = wire.KindCandidate, ""
	for i := range 1100 {
		c := *m
		if i%60 == 0 {
			m.Conn = peercrypto.NewID(time.Now())
		}
		r.inject(b.deviceID(), &c)
	}
	refusals(t, b, "candidates over the limit")
	ac, bc := connect(t, a, b)
	echo(t, ac, bc, "works")
}

func TestTamperedAnswer(t *testing.T) {
	r := newRelay(t)
	a, b := startDevice(t, r.url(), nil), startDevice(t, r.url(), nil)
	r.setPass(func(to peercrypto.ID, m *wire.Signal) []*wire.Signal {
		if m.Kind == wire.KindAnswer {
			m.Env.CT = "AAAAAAAA" + m.Env.CT[8:]
		}
		return []*wire.Signal{m}
	})
	a.sees(b)
	_, err := a.link.Dial(testContext(t), b.deviceID())
	wantErr(t, err, link.ErrEnvelope)
	wantErr(t, failed(a, b.deviceID()), link.ErrEnvelope)
}

func TestNoAnswer(t *testing.T) {
	r := newRelay(t)
	a := startDevice(t, r.url(), func(c *link.Config) { c.DialTimeout = 2 * time.Second })
	b := startDevice(t, r.url(), nil)
	r.setPass(func(peercrypto.ID, *wire.Signal) []*wire.Signal { return nil })
	a.sees(b)
	_, err := a.link.Dial(testContext(t), b.deviceID())
	wantErr(t, err, link.ErrNoAnswer)
	idle(t, a)
}

// raw negotiates a channel from an attacker whose offers are genuine to a
// victim, without authenticating on it.
func raw(t *testing.T, r *relay, mod func(*link.Config)) (*link.Raw, *device, *device) {
	t.Helper()
	evil, victim := startDevice(t, r.url(), nil), startDevice(t, r.url(), mod)
	evil.sees(victim)
	ch, err := evil.link.DialRaw(testContext(t), victim.deviceID())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ch.Close)
	return ch, evil, victim
}

func TestBadAuthFrames(t *testing.T) {
	for name, c := range map[string]struct {
		frame string
		text  bool
	}{
		"too long":      {strings.Repeat("x", link.MaxAuthFrame+1), true},
		"long binary":   {strings.Repeat("x", 60000), false},
		"binary":        {`{"type":"auth1"}`, false},
		"not json":      {`__FUNCTION alert(1)`, true},
		"null":          {`null`, true},
		"prototype":     {`{"__proto__":{"admin":true},"type":"auth1"}`, true},
		"out of order":  {`{"sig":"","type":"auth2"}`, true},
		"data":          {`{"fnName":"signId"}`, true},
		"empty":         {``, true},
		"not canonical": {`{ "type":"auth1" }`, true},
	} {
		t.Run(name, func(t *testing.T) {
			ch, evil, victim := raw(t, newRelay(t), nil)
			if err := ch.Send([]byte(c.frame), c.text); err != nil {
				t.Fatal(err)
			}
			wantErr(t, failed(victim, evil.deviceID()), link.ErrAuthFrame)
			<-ch.Ended()
			idle(t, victim)
		})
	}
}

func TestExtraChannelBeforeAuth(t *testing.T) {
	ch, evil, victim := raw(t, newRelay(t), nil)
	if err := ch.Open("s:files"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, failed(victim, evil.deviceID()), link.ErrEarlyChannel)
	<-ch.Ended()
}

func TestAuthTimeout(t *testing.T) {
	_, evil, victim := raw(t, newRelay(t), func(c *link.Config) { c.AuthTimeout = time.Second })
	wantErr(t, failed(victim, evil.deviceID()), link.ErrAuthTimeout)
}

func TestBadStreams(t *testing.T) {
	for name, c := range map[string]struct {
		label, frame string
		text         bool
		want         error
	}{
		"name":           {"s:Bad Name", "", false, link.ErrStreamName},
		"no prefix":      {"files", "", false, link.ErrStreamName},
		"main again":     {"x-data", "", false, link.ErrStreamName},
		"header":         {"s:x", "\x02abc", false, link.ErrFragment},
		"empty fragment": {"s:x", "\x01", false, link.ErrFragment},
		"no header":      {"s:x", "", false, link.ErrFragment},
		"text":           {"s:x", "\x00abc", true, link.ErrFragment},
		"long fragment":  {"s:x", strings.Repeat("\x00", link.MaxFragment+1), false, link.ErrFragment},
		"longer":         {"s:x", strings.Repeat("\x00", 65536), false, link.ErrMessageTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			ch, _, victim := raw(t, newRelay(t), nil)
			if err := ch.Handshake(); err != nil {
				t.Fatal(err)
			}
			await(victim, "connection", func(link.Connected) bool { return true })
			send, _, err := ch.Stream(testContext(t), c.label)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(c.label, "s:x") {
				_ = send([]byte(c.frame), c.text)
			}
			e := await(victim, "end", func(link.Disconnected) bool { return true })
			wantErr(t, e.Reason, c.want)
		})
	}
}

func TestStreamGivenUp(t *testing.T) {
	ch, _, victim := raw(t, newRelay(t), nil)
	if err := ch.Handshake(); err != nil {
		t.Fatal(err)
	}
	c := await(victim, "connection", func(link.Connected) bool { return true }).Conn
	ctx := testContext(t)
	send, end, err := ch.Stream(ctx, "s:x")
	if err != nil {
		t.Fatal(err)
	}
	_ = send([]byte("\x00whole"), false)
	_ = send([]byte("\x01half"), false)
	_ = end()
	s, err := c.AcceptStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := s.ReadMessage(ctx); err != nil || string(msg) != "whole" {
		t.Errorf("%q, %v", msg, err)
	}
	_, err = s.ReadMessage(ctx)
	wantErr(t, err, link.ErrStreamReset)
	if c.Err() != nil {
		t.Errorf("the connection ended: %v", c.Err())
	}
}

func TestStreamFlood(t *testing.T) {
	ch, _, victim := raw(t, newRelay(t), nil)
	if err := ch.Handshake(); err != nil {
		t.Fatal(err)
	}
	await(victim, "connection", func(link.Connected) bool { return true })
	for range 2*link.MaxStreams + 1 {
		_ = ch.Open("s:x")
	}
	e := await(victim, "end", func(link.Disconnected) bool { return true })
	wantErr(t, e.Reason, link.ErrTooManyStreams)
}

func TestFragmentFlood(t *testing.T) {
	ch, _, victim := raw(t, newRelay(t), nil)
	if err := ch.Handshake(); err != nil {
		t.Fatal(err)
	}
	await(victim, "connection", func(link.Connected) bool { return true })
	send, _, err := ch.Stream(testContext(t), "s:x")
	if err != nil {
		t.Fatal(err)
	}
	fragment := []byte("\x01" + strings.Repeat("x", 50000))
	for range link.MaxMessage/50000 + 2 {
		_ = send(fragment, false)
	}
	e := await(victim, "end", func(link.Disconnected) bool { return true })
	wantErr(t, e.Reason, link.ErrMessageTooLarge)
}

func TestWrongUser(t *testing.T) {
	honest, honestDoc := testIdentity(t)
	for name, c := range map[string]struct {
		genesis func(evil peercrypto.Identity) peercrypto.UserGenesis
		doc     func(evil peercrypto.Identity) []byte
	}{
		"victim's genesis": {
			func(peercrypto.Identity) peercrypto.UserGenesis { return honest.Genesis },
			func(peercrypto.Identity) []byte { return honestDoc },
		},
		"own genesis": {
			func(e peercrypto.Identity) peercrypto.UserGenesis { return e.Genesis },
			func(peercrypto.Identity) []byte { return honestDoc },
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t)
			evil, victim := startDevice(t, r.url(), nil), startDevice(t, r.url(), nil)
			evil.sees(victim)
			// The attacker's key signs a certificate with the honest user's id.
			own, err := evil.id.Cert(time.Now(), 30*24*time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			own.UserID = honest.UserID()
			cert, err := peercrypto.SignDeviceCert(evil.id.User, own)
			if err != nil {
				t.Fatal(err)
			}
			evil.link.SetCert(cert, c.genesis(evil.id), c.doc(evil.id))
			ch, err := evil.link.DialRaw(testContext(t), victim.deviceID())
			if err != nil {
				t.Fatalf("%v; refused %v, %v", err, evil.link.Status().Refused, victim.link.Status().Refused)
			}
			defer ch.Close()
			go func() { _ = ch.Handshake() }()
			wantErr(t, failed(victim, evil.deviceID()), link.ErrWrongUser)
		})
	}
}

func TestServerName(t *testing.T) {
	r := newRelay(t)
	d := startDevice(t, r.url(), nil)
	up := await(d, "session", func(link.ServerUp) bool { return true })
	r.mu.Lock()
	auth := r.auths[0]
	r.mu.Unlock()
	if up.Name != hostPort(r.url()) || auth.A.Server != up.Name {
		t.Errorf("signed for %q, up at %q", auth.A.Server, up.Name)
	}
	// What one server got is of no use at another one.
	check := wire.AuthCheck{Nonce: auth.A.Nonce, Issued: time.Now(), Now: time.Now(), CheckName: func(name string) *wire.Refused {
		if name != "other.example:443" {
			return &wire.Refused{Code: wire.CodeUnknownName, Message: "no"}
		}
		return nil
	}}
	if got := auth.Verify(check); got == nil || got.Code != wire.CodeUnknownName {
		t.Errorf("another server accepts it: %v", got)
	}
}
