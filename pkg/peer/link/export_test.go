package link

import (
	"context"
	"fmt"
	"time"

	piontransport "github.com/pion/transport/v4"
	"github.com/pion/webrtc/v4"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// Raw is a channel that a test negotiated by hand, to do what a Link would not.
type Raw struct {
	l    *Link
	a    *attempt
	tr   *transport
	main *channel
}

// SetCert makes the link present another certificate and proof.
func (l *Link) SetCert(c peercrypto.DeviceCert, genesis peercrypto.UserGenesis, doc []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cert, l.user, l.userKey = c, c.UserID, c.UserKey
	l.cfg.Identity.Genesis, l.cfg.UserDoc = genesis, doc
}

// DialRaw negotiates a channel with a device, outside of the link's books, and
// stops before the handshake.
func (l *Link) DialRaw(ctx context.Context, device peercrypto.ID) (*Raw, error) {
	l.mu.Lock()
	d := l.peers.devices[device]
	if d == nil {
		l.mu.Unlock()
		return nil, ErrUnknownDevice
	}
	topic, _ := l.routeLocked(d)
	a, err := l.newOutgoing(d.cert, topic)
	if err != nil {
		l.mu.Unlock()
		return nil, err
	}
	a.ctx, a.cancel = context.WithCancelCause(l.ctx)
	l.byConn[a.conn] = a
	l.mu.Unlock()
	api, socks, err := newAPI(l.cfg)
	if err != nil {
		return nil, err
	}
	tr, err := newTransport(transportConfig{
		api: api, sockets: socks, policy: webrtc.ICETransportPolicyAll, mainLabel: string(a.conn) + "-data", offerer: true, fail: a.cancel,
	})
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.tr = tr
	a.mu.Unlock()
	r := &Raw{l: l, a: a, tr: tr}
	if err := a.invite(ctx, tr); err != nil {
		r.Close()
		return nil, err
	}
	select {
	case r.main = <-tr.main:
		return r, nil
	case <-ctx.Done():
		r.Close()
		return nil, fmt.Errorf("no channel: %w", ctx.Err())
	}
}

// Send sends one message on the main channel.
func (r *Raw) Send(b []byte, text bool) error {
	_, err := r.main.raw.WriteDataChannel(b, text)
	return err
}

// Read reads one message of the main channel.
func (r *Raw) Read() ([]byte, error) { return mainChannel{r.main}.ReadFrame() }

// Open opens another channel.
func (r *Raw) Open(label string) error {
	dc, err := r.tr.pc.CreateDataChannel(label, nil)
	if err != nil {
		return err
	}
	r.tr.onOpen(dc, func(*channel) {})
	return nil
}

// Handshake authenticates as the link would.
func (r *Raw) Handshake() error {
	_, err := r.a.authenticate(r.tr, r.main)
	return err
}

// Stream opens a channel and returns functions that send on it and close it
// without a word.
func (r *Raw) Stream(ctx context.Context, label string) (send func(b []byte, text bool) error, end func() error, err error) {
	dc, err := r.tr.pc.CreateDataChannel(label, nil)
	if err != nil {
		return nil, nil, err
	}
	open := make(chan *channel, 1)
	r.tr.onOpen(dc, func(c *channel) { open <- c })
	select {
	case c := <-open:
		return func(b []byte, text bool) error { _, err := c.raw.WriteDataChannel(b, text); return err }, c.raw.Close, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// Ended is closed when the peer has ended the channel.
func (r *Raw) Ended() <-chan struct{} { return r.a.ctx.Done() }

// Close ends the channel.
func (r *Raw) Close() {
	r.a.cancel(ErrClosed)
	r.tr.close()
}

// Offer is the content of an offer, for tests that forge one.
type Offer = offer

// ForgeOffer makes the envelope of an offer by an identity for the device of
// target; mutate changes it before it is signed, after after.
func ForgeOffer(id peercrypto.Identity, target peercrypto.DeviceCert, via peercrypto.Tag, salt [32]byte, now time.Time,
	mutate, after func(*Offer)) (*wire.Signal, error) {
	cert, err := id.Cert(now, time.Hour)
	if err != nil {
		return nil, err
	}
	secret, err := peercrypto.GenerateBoxKey()
	if err != nil {
		return nil, err
	}
	shared, err := secret.SharedSecret(target.BoxKey)
	if err != nil {
		return nil, err
	}
	fp := "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	o := offer{
		V: 2, Kind: wire.KindOffer, Conn: peercrypto.NewID(now), FromDevice: cert.DeviceID, ToDevice: target.DeviceID,
		FromUser: cert.UserID, ToUser: target.UserID, FP: fp, SDP: testSDP(fp), Time: now.UnixMilli(),
		Nonce: peercrypto.NewNonce(), Eph: secret.Public(), Cert: cert,
	}
	conn, eph := o.Conn, o.Eph
	if mutate != nil {
		mutate(&o)
	}
	plain, err := o.sign(id.Device)
	if err != nil {
		return nil, err
	}
	if after != nil {
		if err := peercrypto.UnmarshalStrict(plain, &o); err != nil {
			return nil, err
		}
		after(&o)
		if plain, err = peercrypto.MarshalCanonical(o); err != nil {
			return nil, err
		}
	}
	ctx := envelopeContext{Conn: conn, Dir: dirOfferer, From: cert.DeviceID, Kind: wire.KindOffer, To: target.DeviceID, Via: viaText(via)}
	sealed, err := newSealKeys(shared, salt).seal(ctx, plain)
	if err != nil {
		return nil, err
	}
	return &wire.Signal{Kind: wire.KindOffer, From: cert.DeviceID, Via: via, Conn: conn, Env: wire.NewEnvelope(&eph, sealed)}, nil
}

func testSDP(fp string, more ...string) string {
	colons := ""
	for i := 0; i < len(fp); i += 2 {
		if i > 0 {
			colons += ":"
		}
		colons += fp[i : i+2]
	}
	s := "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 " + colons +
		"\r\na=group:BUNDLE 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=setup:actpass\r\na=mid:0\r\n" +
		"a=sendrecv\r\na=sctp-port:5000\r\na=ice-ufrag:abcdefgh\r\na=ice-pwd:abcdefghabcdefghabcdefgh\r\n"
	for _, m := range more {
		s += m + "\r\n"
	}
	return s
}

// Hurry gives cfg short times, though enough for a busy machine, and, unless nil,
// another network.
func Hurry(cfg *Config, disconnected time.Duration, n func() (piontransport.Net, error)) {
	cfg.timing = timing{
		disconnected: disconnected, keepalive: 100 * time.Millisecond, try: 2 * time.Second, gone: 3 * time.Second,
		poll: 20 * time.Millisecond, probe: 3 * time.Second, urgent: 100 * time.Millisecond, connect: 10 * time.Second, net: n,
	}
}

// LocalSDP is what this side told the peer last.
func (c *Conn) LocalSDP() string { return c.tr.public(c.tr.pc.LocalDescription().SDP) }

// Restart makes the connection replace its path.
func (c *Conn) Restart() {
	c.keeper.mu.Lock()
	c.keeper.forced = true
	c.keeper.mu.Unlock()
	c.keeper.retry()
}

// ForgeRestart makes the envelope of a restart's offer for a connection, as the
// device of id would send it; mutate changes it before it is signed.
func (l *Link) ForgeRestart(c *Conn, id peercrypto.Identity, target peercrypto.DeviceCert, via peercrypto.Tag, mutate func(*Offer)) (*wire.Signal, error) {
	cert, err := id.Cert(time.Now(), time.Hour)
	if err != nil {
		return nil, err
	}
	rd, err := newRound(1, target, Topic{Tag: via})
	if err != nil {
		return nil, err
	}
	o := offer{
		V: 2, Kind: wire.KindOffer, Conn: c.keeper.a.conn, FromDevice: cert.DeviceID, ToDevice: target.DeviceID,
		FromUser: cert.UserID, ToUser: target.UserID, FP: c.tr.fp, SDP: c.tr.pc.LocalDescription().SDP, Gen: 1,
		Time: time.Now().UnixMilli(), Nonce: peercrypto.NewNonce(), Eph: rd.eph, Cert: cert,
	}
	mutate(&o)
	plain, err := o.sign(id.Device)
	if err != nil {
		return nil, err
	}
	sealed, err := rd.keys.seal(rd.context(cert.DeviceID, target.DeviceID, o.Conn, dirOfferer, wire.KindOffer), plain)
	if err != nil {
		return nil, err
	}
	return &wire.Signal{Kind: wire.KindOffer, From: cert.DeviceID, Via: via, Conn: o.Conn, Env: wire.NewEnvelope(&rd.eph, sealed)}, nil
}

// ForgeNote makes a notification of an identity for a device, in an envelope without a tag.
func ForgeNote(id peercrypto.Identity, target peercrypto.DeviceCert) (*wire.Signal, error) {
	now := time.Now()
	cert, err := id.Cert(now, time.Hour)
	if err != nil {
		return nil, err
	}
	n := note{
		V: 1, Kind: wire.KindNotify, Conn: peercrypto.NewID(now), FromDevice: cert.DeviceID, ToDevice: target.DeviceID,
		FromUser: cert.UserID, ToUser: target.UserID, Time: now.UnixMilli(), Expires: now.Add(time.Hour).UnixMilli(), Cert: cert,
	}
	env, err := n.seal(id, target, Topic{})
	if err != nil {
		return nil, err
	}
	return &wire.Signal{Kind: wire.KindNotify, From: cert.DeviceID, Conn: n.Conn, Env: env}, nil
}
