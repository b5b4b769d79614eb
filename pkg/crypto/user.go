package crypto

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrUserDoc is matched by every refusal of a user document.
var ErrUserDoc = errors.New("invalid user document")

// MaxUserName is the longest name of a user, in bytes.
const MaxUserName = 128

// UserDoc is the stock document of a user, signed by the key in it. It proves
// that the holder of PublicKey chose the rest; that ID belongs to that key is
// for the caller to know, from a genesis or a pin.
type UserDoc struct {
	ID           ID
	Name         string // at most 128 bytes, printable, may be empty
	PublicKey    PublicKey
	PublicBoxKey BoxPublicKey
	Modified     int64  // unix milliseconds
	Auth         int    // peers.auth: 2 if the user's own software binds identities to channels
	Canonical    []byte // the whole document, with members this type does not have
}

type userMembers struct {
	ID           ID             `json:"id"`
	Group        string         `json:"group"`
	Type         string         `json:"type"`
	Name         string         `json:"name"`
	PublicKey    PublicKey      `json:"publicKey"`
	PublicBoxKey BoxPublicKey   `json:"publicBoxKey"`
	Modified     int64          `json:"modified"`
	Peers        jsontext.Value `json:"peers,omitzero"`
	Signer       ID             `json:"signer,omitempty"`
}

// SignUserDoc returns the canonical form of the signed document of a user. The
// key k is the current one, which is the first one only until it is rotated.
func SignUserDoc(k SigningKey, genesis UserGenesis, name string, modified int64) ([]byte, error) {
	if err := genesis.Validate(); err != nil {
		return nil, fmt.Errorf("signing a user document: %w", err)
	}
	if err := checkUserMembers(name, modified); err != nil {
		return nil, fmt.Errorf("signing a user document: %w", err)
	}
	id := genesis.ID()
	raw, err := MarshalCanonical(userMembers{
		ID: id, Group: "users", Type: "User", Name: name, PublicKey: k.Public(),
		PublicBoxKey: k.StockBoxKey().Public(), Modified: modified, Peers: jsontext.Value(`{"auth":2}`),
	})
	if err != nil {
		return nil, fmt.Errorf("signing a user document: %w", err)
	}
	return SignStockObject(k, id, raw)
}

// ParseUserDoc decodes a user document strictly and verifies its signature with
// the key in it. Members that it does not know are kept in Canonical, since
// stock applications add some.
func ParseUserDoc(raw []byte) (UserDoc, error) {
	canonical, err := Canonicalize(raw)
	if err != nil {
		return UserDoc{}, fmt.Errorf("parsing a user document: %w: %w", ErrUserDoc, err)
	}
	var m userMembers
	if err := UnmarshalLenientFields(canonical, &m); err != nil {
		return UserDoc{}, fmt.Errorf("parsing a user document: %w: %w", ErrUserDoc, err)
	}
	if err := m.check(); err != nil {
		return UserDoc{}, fmt.Errorf("parsing a user document: %w", err)
	}
	if err := verifyStock(canonical, m.PublicKey); err != nil {
		return UserDoc{}, fmt.Errorf("parsing a user document: %w: %w", ErrUserDoc, err)
	}
	doc := UserDoc{
		ID: m.ID, Name: m.Name, PublicKey: m.PublicKey, PublicBoxKey: m.PublicBoxKey,
		Modified: m.Modified, Canonical: canonical,
	}
	var peers struct {
		Auth int `json:"auth"`
	}
	// A stock application may use the member for something of its own.
	if UnmarshalLenientFields(m.Peers, &peers) == nil {
		doc.Auth = peers.Auth
	}
	return doc, nil
}

func (m userMembers) check() error {
	if m.Type != "User" || m.Group != "users" {
		return fmt.Errorf("%w: type or group is another", ErrUserDoc)
	}
	if _, err := ParseStockID(string(m.ID)); err != nil {
		return fmt.Errorf("%w: %w", ErrUserDoc, err)
	}
	if m.Signer != m.ID {
		return fmt.Errorf("%w: the signer is not the user", ErrUserDoc)
	}
	// A missing member leaves the zero key, which these refuse.
	if err := firstError(checkEdwardsOrder(m.PublicKey), m.PublicBoxKey.Check()); err != nil {
		return fmt.Errorf("%w: %w", ErrUserDoc, err)
	}
	return checkUserMembers(m.Name, m.Modified)
}

func checkUserMembers(name string, modified int64) error {
	if modified < 0 || modified >= maxIDTime {
		return fmt.Errorf("%w: modified is out of range", ErrUserDoc)
	}
	if len(name) > MaxUserName || !utf8.ValidString(name) {
		return fmt.Errorf("%w: the name is longer than %d bytes or not UTF-8", ErrUserDoc, MaxUserName)
	}
	for _, r := range name {
		// The joiners U+200C and U+200D are part of some scripts and emoji.
		if !unicode.IsPrint(r) && r != '\u200c' && r != '\u200d' {
			return fmt.Errorf("%w: the name has a character that does not print", ErrUserDoc)
		}
	}
	return nil
}
