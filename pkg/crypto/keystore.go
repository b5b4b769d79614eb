package crypto

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/crypto/argon2"
)

// Errors of [SaveKeystore], [ReplaceKeystore] and [LoadKeystore].
var (
	ErrKeystoreExists   = errors.New("key store exists")
	ErrKeystoreModes    = errors.New("others can reach the key store")
	ErrKeystoreFormat   = errors.New("malformed key store")
	ErrWrongPassphrase  = errors.New("wrong passphrase or damaged key store")
	ErrPassphraseNeeded = errors.New("passphrase needed")
	ErrKeystoreInsecure = errors.New("key store is not encrypted")
)

// KeystoreOptions says how a key store is encrypted.
type KeystoreOptions struct {
	// Passphrase is used as it is, without normalization.
	Passphrase []byte
	// Insecure allows a key store without passphrase: whoever reads the file
	// has the keys. It does not weaken one that has a passphrase.
	Insecure bool
}

// The cost of a passphrase guess, and what a file may ask for: the bounds keep
// a planted file from taking all memory.
const (
	argonTime   = 3
	argonMemory = 64 * 1024 // KiB
	argonLanes  = 1

	maxArgonTime   = 16
	maxArgonMemory = 256 * 1024 // KiB
	maxArgonLanes  = 4

	saltLen = 16
	// maxKeystore is far more than a key store has.
	maxKeystore = 256 * 1024
)

// keystoreFile is the file: canonical JSON, and a line end that readers ignore.
type keystoreFile struct {
	V     int         `json:"v"` // 1
	KDF   keystoreKDF `json:"kdf"`
	Nonce string      `json:"nonce"` // base64url of 24 bytes
	CT    string      `json:"ct"`    // base64url of the sealed entries
}

type keystoreKDF struct {
	Name string `json:"name"` // "argon2id" or "none", which has no other member
	T    uint32 `json:"t,omitzero"`
	M    uint32 `json:"m,omitzero"` // KiB
	P    uint8  `json:"p,omitzero"`
	Salt string `json:"salt,omitzero"` // base64url of 16 bytes
}

// keystoreEntries is what is sealed: canonical JSON. The keys are base64url of
// 32 bytes each.
type keystoreEntries struct {
	V             int              `json:"v"` // 1
	Genesis       UserGenesis      `json:"genesis"`
	User          string           `json:"user"`
	Device        string           `json:"device"`
	DeviceBox     string           `json:"deviceBox"`
	DeviceCreated int64            `json:"deviceCreated"`
	Keys          []jsontext.Value `json:"keys,omitzero"` // key events, canonical
}

func encodeKeystore(id Identity, o KeystoreOptions) ([]byte, error) {
	var salt [saltLen]byte
	var nonce [24]byte
	_, _ = rand.Read(salt[:]) // never fails, see crypto/rand
	_, _ = rand.Read(nonce[:])
	return encodeKeystoreWith(id, o, salt, nonce)
}

func encodeKeystoreWith(id Identity, o KeystoreOptions, salt [saltLen]byte, nonce [24]byte) ([]byte, error) {
	if err := id.Validate(); err != nil {
		return nil, err
	}
	f := keystoreFile{V: 1, KDF: keystoreKDF{Name: "none"}}
	switch {
	case len(o.Passphrase) > 0:
		f.KDF = keystoreKDF{"argon2id", argonTime, argonMemory, argonLanes, EncodeB64u(salt[:])}
	case !o.Insecure:
		return nil, fmt.Errorf("%w: give one, or allow a key store that is not encrypted", ErrPassphraseNeeded)
	}
	key, err := f.KDF.key(o)
	if err != nil {
		return nil, err
	}
	header, err := f.header()
	if err != nil {
		return nil, err
	}
	var history []jsontext.Value
	for _, event := range id.History {
		history = append(history, event)
	}
	plain, err := MarshalCanonical(keystoreEntries{
		V: 1, Genesis: id.Genesis, User: EncodeB64u(id.User.ExportSeed()),
		Device: EncodeB64u(id.Device.ExportSeed()), DeviceBox: EncodeB64u(id.DeviceBox.ExportBytes()),
		DeviceCreated: id.DeviceCreated, Keys: history,
	})
	if err != nil {
		return nil, err
	}
	f.Nonce = EncodeB64u(nonce[:])
	f.CT = EncodeB64u(seal(key, nonce, header, plain)[len(nonce):])
	return MarshalCanonical(f)
}

func decodeKeystore(raw []byte, o KeystoreOptions) (Identity, error) {
	var f keystoreFile
	if err := UnmarshalStrict(raw, &f); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrKeystoreFormat, err)
	}
	if f.V != 1 {
		return Identity{}, fmt.Errorf("%w: unknown version: a newer release may read it", ErrKeystoreFormat)
	}
	nonce, nonceErr := DecodeB64u(f.Nonce)
	ct, ctErr := DecodeB64u(f.CT)
	if nonceErr != nil || ctErr != nil || len(nonce) != 24 {
		return Identity{}, fmt.Errorf("%w: nonce or ct", ErrKeystoreFormat)
	}
	key, err := f.KDF.key(o)
	if err != nil {
		return Identity{}, err
	}
	header, err := f.header()
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrKeystoreFormat, err)
	}
	plain, err := Open(key, header, append(nonce, ct...))
	if err != nil {
		if f.KDF.Name == "none" {
			return Identity{}, fmt.Errorf("%w: it is damaged", ErrKeystoreFormat)
		}
		return Identity{}, ErrWrongPassphrase
	}
	return decodeEntries(plain)
}

// header is the additional data: the file without nonce and ct.
func (f keystoreFile) header() ([]byte, error) {
	b, err := MarshalCanonical(f)
	if err != nil {
		return nil, err
	}
	return RemoveMember(b, "nonce", "ct")
}

// key derives the key of the file, or says why it must not.
func (k keystoreKDF) key(o KeystoreOptions) ([32]byte, error) {
	switch k.Name {
	case "none":
		if k != (keystoreKDF{Name: "none"}) {
			return [32]byte{}, fmt.Errorf("%w: kdf", ErrKeystoreFormat)
		}
		if !o.Insecure {
			return [32]byte{}, fmt.Errorf("%w: allow that explicitly, or make one with a passphrase", ErrKeystoreInsecure)
		}
		// A constant that everybody knows: it only makes the layout the same.
		return DeriveKey(nil, nil, "peers/keystore/none/1"), nil
	case "argon2id":
		salt, err := DecodeB64u(k.Salt)
		if err != nil || len(salt) != saltLen || k.T < 1 || k.T > maxArgonTime ||
			k.M < 8*uint32(k.P) || k.M > maxArgonMemory || k.P < 1 || k.P > maxArgonLanes {
			return [32]byte{}, fmt.Errorf("%w: kdf parameters", ErrKeystoreFormat)
		}
		if len(o.Passphrase) == 0 {
			return [32]byte{}, fmt.Errorf("%w: the key store is encrypted", ErrPassphraseNeeded)
		}
		if uint64(len(o.Passphrase)) > math.MaxUint16 {
			return [32]byte{}, fmt.Errorf("%w: it is longer than 65535 bytes", ErrWrongPassphrase)
		}
		return [32]byte(argon2.IDKey(o.Passphrase, salt, k.T, k.M, k.P, 32)), nil
	}
	return [32]byte{}, fmt.Errorf("%w: unknown kdf: a newer release may read it", ErrKeystoreFormat)
}

func decodeEntries(plain []byte) (Identity, error) {
	var e keystoreEntries
	if err := UnmarshalStrict(plain, &e); err != nil {
		return Identity{}, fmt.Errorf("%w: entries: %w", ErrKeystoreFormat, err)
	}
	if e.V != 1 {
		return Identity{}, fmt.Errorf("%w: unknown version of the entries", ErrKeystoreFormat)
	}
	user, userErr := signingEntry(e.User)
	device, deviceErr := signingEntry(e.Device)
	box, boxErr := boxEntry(e.DeviceBox)
	if err := firstError(userErr, deviceErr, boxErr); err != nil {
		return Identity{}, fmt.Errorf("%w: entries: %w", ErrKeystoreFormat, err)
	}
	id := Identity{Genesis: e.Genesis, User: user, Device: device, DeviceBox: box, DeviceCreated: e.DeviceCreated}
	for _, event := range e.Keys {
		id.History = append(id.History, event)
	}
	if err := id.Validate(); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrKeystoreFormat, err)
	}
	return id, nil
}

func signingEntry(text string) (SigningKey, error) {
	seed, err := DecodeB64u(text)
	if err != nil {
		return SigningKey{}, err
	}
	return SigningKeyFromSeed(seed)
}

func boxEntry(text string) (BoxSecretKey, error) {
	b, err := DecodeB64u(text)
	if err != nil {
		return BoxSecretKey{}, err
	}
	return BoxSecretKeyFromBytes(b)
}
