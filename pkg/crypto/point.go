package crypto

import (
	"fmt"
	"math/big"
	"slices"
)

// Both curves are over the field of p = 2^255 - 19; encodings are little-endian.
// The lists hold every canonical encoding of a point whose order divides 8: such
// a key gives the same shared secret, or accepts the same signature, whatever
// the other side does.

// edwardsSmallOrder holds the y coordinates, without the sign bit.
var edwardsSmallOrder = [][32]byte{
	{},
	{0: 1},
	fieldMinusOne,
	{
		0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
		0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
	},
	{
		0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
		0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
	},
}

// montgomerySmallOrder holds the u coordinates, of the curve and its twist.
var montgomerySmallOrder = [][32]byte{
	{},
	{0: 1},
	fieldMinusOne,
	{
		0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
		0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
	},
	{
		0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
		0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
	},
}

var fieldMinusOne = [32]byte{
	0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
}

var (
	fieldPrime = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	// edwardsD is -121665/121666 of the curve equation (RFC 8032, section 5.1).
	edwardsD = func() *big.Int {
		inverse := new(big.Int).ModInverse(big.NewInt(121666), fieldPrime)
		return inverse.Mul(inverse, big.NewInt(-121665)).Mod(inverse, fieldPrime)
	}()
)

// checkEdwards refuses an Ed25519 public key of small order, with y >= p, or
// that is no point of the curve. It runs in variable time: keys are public.
func checkEdwards(key [32]byte) error {
	if err := checkEdwardsOrder(key); err != nil {
		return err
	}
	key[31] &= 0x7f // the sign of x
	if !onEdwards(key) {
		return fmt.Errorf("checking a signing key: %w: not a point of the curve", ErrKey)
	}
	return nil
}

// checkEdwardsOrder is [checkEdwards] without the test for a point of the curve,
// which takes a quarter of the time of a signature: enough where a signature by
// the key is checked anyway, since nothing verifies under what is no point.
func checkEdwardsOrder(key [32]byte) error {
	key[31] &= 0x7f // the sign of x
	return checkCoordinate(key, edwardsSmallOrder, "a signing key")
}

// onEdwards reports whether some x has x^2 = (y^2 - 1) / (d y^2 + 1). The
// divisor is never zero, and a quotient is a square if the product is.
func onEdwards(y [32]byte) bool {
	slices.Reverse(y[:])
	square := new(big.Int).SetBytes(y[:])
	square.Mul(square, square).Mod(square, fieldPrime)
	divisor := new(big.Int).Mul(square, edwardsD)
	divisor.Add(divisor, big.NewInt(1))
	square.Sub(square, big.NewInt(1))
	return big.Jacobi(square.Mul(square, divisor), fieldPrime) >= 0
}

// checkMontgomery refuses an X25519 public key of small order or with u >= p.
func checkMontgomery(key [32]byte) error {
	return checkCoordinate(key, montgomerySmallOrder, "a box key")
}

func checkCoordinate(v [32]byte, smallOrder [][32]byte, what string) error {
	if !belowField(v) {
		return fmt.Errorf("checking %s: %w: not in its only encoding", what, ErrKey)
	}
	for _, bad := range smallOrder {
		if v == bad {
			return fmt.Errorf("checking %s: %w: of small order", what, ErrKey)
		}
	}
	return nil
}

// belowField reports whether v <= p - 1.
func belowField(v [32]byte) bool {
	for i := len(v) - 1; i >= 0; i-- {
		if v[i] != fieldMinusOne[i] {
			return v[i] < fieldMinusOne[i]
		}
	}
	return true
}
