package wire_test

import (
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

const day = 24 * time.Hour

// device is a device of a user, made from fixed seeds.
type device struct {
	key  peercrypto.SigningKey
	cert peercrypto.DeviceCert
}

func newDevice(t testing.TB, seed byte, now time.Time) device {
	t.Helper()
	user := seedKey(t, seed)
	key := seedKey(t, seed+100)
	created := now.Add(-day).UnixMilli()
	genesis := peercrypto.UserGenesis{V: 1, Created: created, Key: user.Public()}
	body := peercrypto.DeviceBody{Created: created, Key: key.Public()}
	box, err := peercrypto.GenerateBoxKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := peercrypto.SignDeviceCert(user, peercrypto.DeviceCert{
		V: 1, DeviceID: body.ID(), DeviceKey: key.Public(), BoxKey: box.Public(),
		UserID: genesis.ID(), UserKey: user.Public(),
		Issued: now.Add(-time.Hour).UnixMilli(), Expires: now.Add(30 * day).UnixMilli(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return device{key: key, cert: cert}
}

func seedKey(t testing.TB, seed byte) peercrypto.SigningKey {
	t.Helper()
	b := make([]byte, 32)
	for i := range b {
		b[i] = seed + byte(i)
	}
	k, err := peercrypto.SigningKeyFromSeed(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (d device) auth(t testing.TB, nonce wire.Nonce, server string, now time.Time) *wire.Auth {
	t.Helper()
	m, err := wire.SignAuth(wire.AuthBody{
		Server: server, Nonce: nonce, CNonce: peercrypto.NewNonce(), Time: now.UnixMilli(),
		Caps: []string{wire.CapRV1},
	}, d.key, d.cert)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func tag(n byte) (t peercrypto.Tag) {
	for i := range t {
		t[i] = n
	}
	return t
}
