package crypto

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// DeriveKey returns 32 bytes of HKDF-SHA256 (RFC 5869). The info says what the
// key is for; a nil salt is one of zeros.
func DeriveKey(secret, salt []byte, info string) [32]byte {
	k, err := hkdf.Key(sha256.New, secret, salt, info, 32)
	if err != nil {
		// Only a restricted FIPS mode refuses: secrets below 112 bits.
		panic("crypto: HKDF refused its input: " + err.Error())
	}
	return [32]byte(k)
}

// Seal encrypts with XChaCha20-Poly1305 under a random nonce and returns the 24
// bytes of the nonce and the ciphertext, which is 16 bytes longer than the
// plaintext. The receiver must give the same aad to [Open].
func Seal(key [32]byte, aad, plaintext []byte) []byte {
	var nonce [chacha20poly1305.NonceSizeX]byte
	_, _ = rand.Read(nonce[:]) // never fails, see crypto/rand
	return seal(key, nonce, aad, plaintext)
}

func seal(key [32]byte, nonce [24]byte, aad, plaintext []byte) []byte {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic("crypto: a key of 32 bytes was refused: " + err.Error())
	}
	out := make([]byte, len(nonce), len(nonce)+len(plaintext)+chacha20poly1305.Overhead)
	copy(out, nonce[:])
	return aead.Seal(out, nonce[:], plaintext, aad)
}

// Open reverses [Seal]. Every failure is [ErrOpen].
func Open(key [32]byte, aad, sealed []byte) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil || len(sealed) < chacha20poly1305.NonceSizeX {
		return nil, fmt.Errorf("opening: %w", ErrOpen)
	}
	nonce, ciphertext := sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:]
	plain, err := aead.Open(nil, nonce, ciphertext, aad)
	if err != nil {
		return nil, fmt.Errorf("opening: %w", ErrOpen)
	}
	return plain, nil
}
