package link

import (
	"errors"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// A verifyCase is an offer or answer with one thing wrong, or none.
type verifyCase struct {
	name   string
	base   offer
	want   expectation
	change func(o *offer, want *expectation)
	signer peercrypto.SigningKey
	err    error
}

// TestOfferVerify: each part of an offer or answer that the receiver knows from elsewhere has to agree, also when everything else is signed as it should be.
func TestOfferVerify(t *testing.T) {
	for _, c := range verifyCases(t) {
		o, want := c.base, c.want
		c.change(&o, &want)
		plain, err := o.sign(c.signer)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseOffer(plain, want); !errors.Is(err, c.err) || c.err == nil && err != nil {
			t.Errorf("%s: error %v, want %v", c.name, err, c.err)
		}
	}
}

func verifyCases(t *testing.T) []verifyCase {
	w := newGoldenWorld(t)
	stranger := goldenPerson(t, 0x10)
	now := time.UnixMilli(goldenTime + 1000)
	a, b := w.a.self.cert, w.b.self.cert
	certified := func(by person, user peercrypto.ID, c peercrypto.DeviceCert) peercrypto.DeviceCert {
		c.UserID, c.UserKey = user, by.id.User.Public()
		c, err := peercrypto.SignDeviceCert(by.id.User, c)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	toB := expectation{
		kind: wire.KindOffer, conn: w.offer.Conn, from: a.DeviceID, toDevice: b.DeviceID, toUser: b.UserID, eph: w.offer.Eph, now: now,
	}
	toA := expectation{
		kind: wire.KindAnswer, conn: w.offer.Conn, from: b.DeviceID, toDevice: a.DeviceID, toUser: a.UserID, eph: w.offer.Eph, gen: 1, now: now, dialled: &b,
	}
	ownKey, otherKey := a.UserKey, b.UserKey
	offered := w.offer
	answered := w.offer
	answered.Kind, answered.Gen, answered.Cert = wire.KindAnswer, 1, b
	answered.FromDevice, answered.ToDevice, answered.FromUser, answered.ToUser = b.DeviceID, a.DeviceID, b.UserID, a.UserID
	return []verifyCase{
		{"an offer", offered, toB, func(*offer, *expectation) {}, w.a.id.Device, nil},
		{"an answer", answered, toA, func(*offer, *expectation) {}, w.b.id.Device, nil},
		{"of the same user", offered, toB, func(_ *offer, e *expectation) { e.sameUser = &ownKey }, w.a.id.Device, nil},
		{"version", offered, toB, func(o *offer, _ *expectation) { o.V = 1 }, w.a.id.Device, ErrOffer},
		{"kind", offered, toB, func(_ *offer, e *expectation) { e.kind = wire.KindAnswer }, w.a.id.Device, ErrOffer},
		{"connection", offered, toB, func(o *offer, _ *expectation) { o.Conn = peercrypto.NewID(now) }, w.a.id.Device, ErrOffer},
		{"ephemeral key", offered, toB, func(o *offer, _ *expectation) { o.Eph = b.BoxKey }, w.a.id.Device, ErrOffer},
		{"high generation", offered, toB, func(o *offer, _ *expectation) { o.Gen = maxGeneration + 1 }, w.a.id.Device, ErrOffer},
		{"another generation", answered, toA, func(o *offer, _ *expectation) { o.Gen = 2 }, w.b.id.Device, ErrOffer},
		{"another's, in the sender's frame", offered, toB, func(o *offer, _ *expectation) {
			o.FromDevice, o.FromUser, o.Cert = stranger.self.cert.DeviceID, stranger.self.cert.UserID, stranger.self.cert
		}, stranger.id.Device, ErrOffer},
		{"as another device", offered, toB, func(o *offer, _ *expectation) {
			o.FromUser, o.Cert = stranger.self.cert.UserID, stranger.self.cert
		}, stranger.id.Device, ErrOffer},
		{"as another user", offered, toB, func(o *offer, _ *expectation) { o.FromUser = b.UserID }, w.a.id.Device, ErrOffer},
		{"to another device", offered, toB, func(o *offer, _ *expectation) { o.ToDevice = a.DeviceID }, w.a.id.Device, ErrOffer},
		{"to another user", offered, toB, func(o *offer, _ *expectation) { o.ToUser = a.UserID }, w.a.id.Device, ErrOffer},
		{"long description", offered, toB, func(o *offer, _ *expectation) { o.SDP = strings.Repeat("x", maxSDP+1) }, w.a.id.Device, ErrOffer},
		{"certificate over", offered, toB, func(o *offer, e *expectation) {
			e.now = time.UnixMilli(a.Expires).Add(time.Hour)
			o.Time = e.now.UnixMilli()
		}, w.a.id.Device, ErrCertificate},
		{"not the same user", offered, toB, func(_ *offer, e *expectation) { e.sameUser = &otherKey }, w.a.id.Device, ErrOffer},
		{"answered under another user's id", answered, toA, func(o *offer, _ *expectation) {
			o.FromUser, o.Cert = stranger.id.UserID(), certified(w.b, stranger.id.UserID(), b)
		}, w.b.id.Device, ErrOffer},
		{"answered under another user's key", answered, toA, func(o *offer, _ *expectation) {
			o.Cert = certified(stranger, b.UserID, b)
		}, w.b.id.Device, ErrOffer},
		{"signed by another", offered, toB, func(*offer, *expectation) {}, w.b.id.Device, ErrOfferSignature},
		{"old", offered, toB, func(o *offer, _ *expectation) { o.Time = now.Add(-OfferSkew - time.Second).UnixMilli() }, w.a.id.Device, ErrOfferTime},
		{"ahead", offered, toB, func(o *offer, _ *expectation) { o.Time = now.Add(OfferSkew + time.Second).UnixMilli() }, w.a.id.Device, ErrOfferTime},
	}
}
