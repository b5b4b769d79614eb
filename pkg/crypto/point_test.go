package crypto_test

import (
	"crypto/ecdh"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

var prime = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))

func littleEndian(v *big.Int) [32]byte {
	var b [32]byte
	v.FillBytes(b[:])
	slices.Reverse(b[:])
	return b
}

// edwardsTorsion returns the y coordinates of the 8 points of small order,
// computed from the curve: 1, -1, 0, and those of the points that double to
// (±sqrt(-1), 0), which are the roots of d y^4 + 2 y^2 - 1 = 0 ... as
// y^2 = (-1 ± sqrt(1 + d)) / d.
func edwardsTorsion(t *testing.T) []*big.Int {
	d := new(big.Int).ModInverse(big.NewInt(121666), prime)
	d.Mul(d, big.NewInt(-121665)).Mod(d, prime)
	root := new(big.Int).ModSqrt(new(big.Int).Add(d, big.NewInt(1)), prime)
	if root == nil {
		t.Fatal("1 + d is no square")
	}
	ys := []*big.Int{big.NewInt(0), big.NewInt(1), new(big.Int).Sub(prime, big.NewInt(1))}
	for _, r := range []*big.Int{root, new(big.Int).Neg(root)} {
		square := new(big.Int).Sub(r, big.NewInt(1))
		square.Mul(square, new(big.Int).ModInverse(d, prime)).Mod(square, prime)
		if y := new(big.Int).ModSqrt(square, prime); y != nil {
			ys = append(ys, y, new(big.Int).Sub(prime, y))
		}
	}
	return ys
}

func TestSigningKeyCheck(t *testing.T) {
	torsion := edwardsTorsion(t)
	if len(torsion) != 5 {
		t.Fatalf("%d coordinates of small order, want 5", len(torsion))
	}
	for _, y := range torsion {
		for _, sign := range []byte{0, 0x80} {
			key := peercrypto.PublicKey(littleEndian(y))
			key[31] |= sign
			refuseKey(t, key)
		}
	}
	// y + p fits in 255 bits for y < 19.
	for y := range int64(19) {
		for _, sign := range []byte{0, 0x80} {
			key := peercrypto.PublicKey(littleEndian(new(big.Int).Add(prime, big.NewInt(y))))
			key[31] |= sign
			refuseKey(t, key)
		}
	}
	refuseKey(t, peercrypto.PublicKey{2}) // not on the curve
	onCurve := 0
	for y := range byte(250) {
		if (peercrypto.PublicKey{y + 2, 9}).Check() == nil {
			onCurve++
		}
	}
	if onCurve < 80 || onCurve > 170 {
		t.Errorf("%d of 250 are on the curve, want about half", onCurve)
	}
	for i := range byte(100) {
		if err := seedKey(t, i).Public().Check(); err != nil {
			t.Errorf("key %d: %v", i, err)
		}
	}
}

func refuseKey(t *testing.T, key peercrypto.PublicKey) {
	t.Helper()
	if err := key.Check(); !errors.Is(err, peercrypto.ErrKey) {
		t.Errorf("%x: %v, want ErrKey", key[:], err)
	}
	if _, err := peercrypto.ParsePublicKey(key.String()); !errors.Is(err, peercrypto.ErrKey) {
		t.Errorf("parsing %x: %v, want ErrKey", key[:], err)
	}
}

func TestBoxKeyCheck(t *testing.T) {
	// u = (1 + y) / (1 - y) maps the points of small order; -1 is on the twist.
	us := []*big.Int{big.NewInt(0), big.NewInt(1), new(big.Int).Sub(prime, big.NewInt(1))}
	for _, y := range edwardsTorsion(t)[3:] {
		u := new(big.Int).Sub(big.NewInt(1), y)
		u.ModInverse(u.Mod(u, prime), prime)
		us = append(us, u.Mul(u, new(big.Int).Add(y, big.NewInt(1))).Mod(u, prime))
	}
	secret := seedKey(t, 0).StockBoxKey()
	private, err := ecdh.X25519().NewPrivateKey(countedFrom(0))
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range us {
		key := peercrypto.BoxPublicKey(littleEndian(u))
		public, err := ecdh.X25519().NewPublicKey(key[:])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := private.ECDH(public); err == nil {
			t.Errorf("%x is not of small order", key[:])
		}
		refuseBoxKey(t, secret, key)
		key[31] |= 0x80
		refuseBoxKey(t, secret, key)
		if v := new(big.Int).Add(u, prime); v.BitLen() <= 255 {
			refuseBoxKey(t, secret, littleEndian(v))
		}
	}
	high := seedKey(t, 9).StockBoxKey().Public()
	high[31] |= 0x80
	refuseBoxKey(t, secret, high)
}

func refuseBoxKey(t *testing.T, secret peercrypto.BoxSecretKey, key peercrypto.BoxPublicKey) {
	t.Helper()
	if err := key.Check(); !errors.Is(err, peercrypto.ErrKey) {
		t.Errorf("%s: %v, want ErrKey", hex.EncodeToString(key[:]), err)
	}
	if _, err := peercrypto.ParseBoxPublicKey(key.String()); !errors.Is(err, peercrypto.ErrKey) {
		t.Errorf("parsing %x: %v, want ErrKey", key[:], err)
	}
	if _, err := secret.SharedSecret(key); !errors.Is(err, peercrypto.ErrKey) {
		t.Errorf("agreeing with %x: %v, want ErrKey", key[:], err)
	}
	if _, err := peercrypto.SealBox(secret, "", key, []byte("1")); !errors.Is(err, peercrypto.ErrKey) {
		t.Errorf("sealing to %x: %v, want ErrKey", key[:], err)
	}
}
