package crypto

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/crypto/scrypt"
)

// ErrGenesis is matched by every refusal of a genesis body.
var ErrGenesis = errors.New("invalid genesis")

// Nonce is 16 random bytes. Its text is 22 characters of base64url without
// padding.
type Nonce [16]byte

// NewNonce returns a random nonce.
func NewNonce() Nonce {
	var n Nonce
	_, _ = rand.Read(n[:]) // never fails, see crypto/rand
	return n
}

// String returns the text of n.
func (n Nonce) String() string { return EncodeB64u(n[:]) }

// MarshalText returns the text of n.
func (n Nonce) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads the text of a nonce; it changes n only on success.
func (n *Nonce) UnmarshalText(text []byte) error {
	return decodeFixed(n[:], text, base64.RawURLEncoding, "a nonce")
}

// UserGenesis is the body that a user's id is derived from. It says nothing of
// the user but the first key and what can recover the account.
type UserGenesis struct {
	V        int       `json:"v"`        // 1
	Created  int64     `json:"created"`  // unix milliseconds, the id's time
	Key      PublicKey `json:"key"`      // the first key
	Recovery *Hash     `json:"recovery"` // SHA-256 of the recovery public key, or nil
}

// GroupGenesis is the body that a group's id is derived from.
type GroupGenesis struct {
	V       int   `json:"v"`       // 1
	Created int64 `json:"created"` // unix milliseconds, the id's time
	Owner   ID    `json:"owner"`   // user id of the creator
	Genesis Hash  `json:"genesis"` // hash of the owner's genesis body
	Nonce   Nonce `json:"nonce"`   // binds the rest of the create: docs/formats.md, section 5
}

// DeviceBody is what a device's id is derived from.
type DeviceBody struct {
	Created int64     `json:"created"` // unix milliseconds, the id's time
	Key     PublicKey `json:"key"`     // the device key
}

// Canonical returns the canonical form of a valid body.
func (g UserGenesis) Canonical() []byte {
	b := appendCreated(nil, g.Created)
	b = appendText(append(b, `,"key":`...), g.Key.String())
	b = append(b, `,"recovery":`...)
	if g.Recovery == nil {
		b = append(b, "null"...)
	} else {
		b = appendText(b, g.Recovery.String())
	}
	return appendVersion(b, g.V)
}

// Hash returns the hash of the canonical form: the genesis hash that is pinned.
func (g UserGenesis) Hash() Hash { return Sum(g.Canonical()) }

// ID returns the user's id. The first call for a body takes tens of
// milliseconds and 16 MiB (scrypt); the results of the last 32,768 bodies are
// kept. A body whose Created is out of range has the id "".
func (g UserGenesis) ID() ID { return stretchedID("user", g.Created, g.Canonical()) }

// HasID reports whether the result of [UserGenesis.ID] is kept and costs nothing
// now.
func (g UserGenesis) HasID() bool {
	_, ok := stretchedIDs.get(Sum(stretchedPassword("user", g.Canonical())))
	return ok
}

// Validate checks the body without deriving its id.
func (g UserGenesis) Validate() error {
	if err := checkBody(g.V, g.Created); err != nil {
		return fmt.Errorf("checking a user genesis: %w", err)
	}
	if err := g.Key.Check(); err != nil {
		return fmt.Errorf("checking a user genesis: %w: %w", ErrGenesis, err)
	}
	return nil
}

// Canonical returns the canonical form of a valid body.
func (g GroupGenesis) Canonical() []byte {
	b := appendCreated(nil, g.Created)
	b = appendText(append(b, `,"genesis":`...), g.Genesis.String())
	b = appendText(append(b, `,"nonce":`...), g.Nonce.String())
	b = appendText(append(b, `,"owner":`...), string(g.Owner))
	return appendVersion(b, g.V)
}

// Hash returns the hash of the canonical form: the genesis hash that is pinned.
func (g GroupGenesis) Hash() Hash { return Sum(g.Canonical()) }

// ID returns the group's id; see [UserGenesis.ID] for what it costs.
func (g GroupGenesis) ID() ID { return stretchedID("group", g.Created, g.Canonical()) }

// Validate checks the body without deriving its id or that of its owner.
func (g GroupGenesis) Validate() error {
	if err := checkBody(g.V, g.Created); err != nil {
		return fmt.Errorf("checking a group genesis: %w", err)
	}
	if err := g.Owner.check(); err != nil {
		return fmt.Errorf("checking the owner in a group genesis: %w: %w", ErrGenesis, err)
	}
	if g.Genesis.IsZero() {
		return fmt.Errorf("checking a group genesis: %w: no hash of the owner's genesis", ErrGenesis)
	}
	return nil
}

// Canonical returns the canonical form of a valid body.
func (d DeviceBody) Canonical() []byte {
	b := appendCreated(nil, d.Created)
	return append(appendText(append(b, `,"key":`...), d.Key.String()), '}')
}

// ID returns the device's id. It costs one SHA-256, because a server checks
// many at a time. A body whose Created is out of range has the id "".
func (d DeviceBody) ID() ID {
	h := sha256.Sum256(append([]byte("peers/id/1 device\n"), d.Canonical()...))
	return derivedID(d.Created, h[:])
}

func appendCreated(b []byte, created int64) []byte {
	return strconv.AppendInt(append(b, `{"created":`...), created, 10)
}

func appendVersion(b []byte, v int) []byte {
	return append(strconv.AppendInt(append(b, `,"v":`...), int64(v), 10), '}')
}

func appendText(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s) // invalid UTF-8 is replaced; Validate refuses such ids
	return b
}

func checkBody(v int, created int64) error {
	if v != 1 {
		return fmt.Errorf("%w: version is not 1", ErrGenesis)
	}
	if created <= 0 || created >= maxIDTime {
		return fmt.Errorf("%w: created is out of range", ErrGenesis)
	}
	return nil
}

// scryptSlots bounds the memory that concurrent derivations take: 16 MiB each.
var scryptSlots = make(chan struct{}, max(4, min(runtime.GOMAXPROCS(0), 16)))

// stretchedIDs maps the hash of kind and body to the id. What is kept of one
// takes about 300 bytes. All users of a large group have room.
var stretchedIDs = newIDCache(1 << 15)

func stretchedPassword(kind string, canonical []byte) []byte {
	return append([]byte("peers/id/1 "+kind+"\n"), canonical...)
}

func stretchedID(kind string, created int64, canonical []byte) ID {
	password := stretchedPassword(kind, canonical)
	key := Sum(password)
	if id, ok := stretchedIDs.get(key); ok {
		return id
	}
	scryptSlots <- struct{}{}
	defer func() { <-scryptSlots }()
	if id, ok := stretchedIDs.get(key); ok { // another caller was first
		return id
	}
	h, err := scrypt.Key(password, []byte("peers/id/1"), 1<<14, 8, 1, 32)
	if err != nil {
		return "" // the parameters are constant and valid
	}
	id := derivedID(created, h)
	stretchedIDs.put(key, id)
	return id
}

// idSpace is the number of values of the second part of an id.
var idSpace = new(big.Int).Exp(big.NewInt(36), big.NewInt(idRandomLen), nil)

func derivedID(created int64, h []byte) ID {
	if created < 0 || created >= maxIDTime {
		return ""
	}
	v := new(big.Int).SetBytes(h)
	digits := v.Mod(v, idSpace).Text(36)
	id := appendBase36(make([]byte, 0, idLen), uint64(created), idTimeLen)
	for range idRandomLen - len(digits) {
		id = append(id, '0')
	}
	return ID(append(id, digits...))
}
