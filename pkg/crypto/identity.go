package crypto

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/tyler-smith/go-bip39"
)

// ErrRecovery is matched by every refusal of recovery words.
var ErrRecovery = errors.New("invalid recovery words")

// Identity is everything that one device of a user knows of itself. User signs
// documents and certificates, Device speaks on channels and never leaves the
// device. It prints as "[redacted]".
type Identity struct {
	Genesis       UserGenesis
	User          SigningKey
	Device        SigningKey
	DeviceBox     BoxSecretKey
	DeviceCreated int64 // unix milliseconds, the time of the device's id
	// History are the key events that lead from the key in Genesis to User, in
	// canonical form; none while User is that key. Package sync/keys reads them.
	History [][]byte
}

// NewIdentity makes a user with one device, and the recovery key whose hash is
// in the genesis. The recovery words are to be shown once and not stored.
func NewIdentity(now time.Time) (Identity, Recovery, error) {
	var entropy [32]byte
	_, _ = rand.Read(entropy[:]) // never fails, see crypto/rand
	recovery := recoveryOf(entropy)
	user, userErr := GenerateSigningKey()
	device, deviceErr := GenerateSigningKey()
	box, boxErr := GenerateBoxKey()
	if err := firstError(userErr, deviceErr, boxErr); err != nil {
		return Identity{}, Recovery{}, fmt.Errorf("making an identity: %w", err)
	}
	pin := recovery.Pin()
	id := Identity{
		Genesis: UserGenesis{V: 1, Created: now.UnixMilli(), Key: user.Public(), Recovery: &pin},
		User:    user, Device: device, DeviceBox: box, DeviceCreated: now.UnixMilli(),
	}
	if err := id.Validate(); err != nil {
		return Identity{}, Recovery{}, fmt.Errorf("making an identity: %w", err)
	}
	return id, recovery, nil
}

// UserID returns the user's id; see [UserGenesis.ID] for what it costs.
func (id Identity) UserID() ID { return id.Genesis.ID() }

// DeviceID returns the device's id.
func (id Identity) DeviceID() ID { return DeviceBody{id.DeviceCreated, id.Device.Public()}.ID() }

// Cert makes a certificate for the device that is in force from now on for
// validFor, which is more than 0 and at most [MaxCertAge].
func (id Identity) Cert(now time.Time, validFor time.Duration) (DeviceCert, error) {
	return SignDeviceCert(id.User, DeviceCert{
		DeviceID: id.DeviceID(), DeviceKey: id.Device.Public(), BoxKey: id.DeviceBox.Public(),
		UserID: id.UserID(), Issued: now.UnixMilli(), Expires: now.Add(validFor).UnixMilli(),
	})
}

// Validate checks that nothing is missing. The user's key need not be the first
// one.
func (id Identity) Validate() error {
	if err := id.Genesis.Validate(); err != nil {
		return fmt.Errorf("checking an identity: %w", err)
	}
	if id.User.IsZero() || id.Device.IsZero() || id.DeviceBox.IsZero() {
		return fmt.Errorf("checking an identity: %w: a key is missing", ErrKey)
	}
	if id.DeviceCreated <= 0 || id.DeviceCreated >= maxIDTime {
		return fmt.Errorf("checking an identity: %w: the device's time is out of range", ErrGenesis)
	}
	return nil
}

// String returns "[redacted]".
func (id Identity) String() string { return redacted }

// GoString returns "[redacted]".
func (id Identity) GoString() string { return redacted }

// Format prints "[redacted]" under every verb.
func (id Identity) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns "[redacted]".
func (id Identity) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns [ErrSecret]: a key store is written by [SaveKeystore].
func (id Identity) MarshalJSON() ([]byte, error) { return nil, ErrSecret }

// Recovery is the secret that can replace a user's lost or stolen key: 32
// random bytes, shown as 24 English words with a checksum (BIP 39).
type Recovery struct{ s *recoverySecret }

// recoverySecret hides the secret as signingSecret does.
type recoverySecret struct{ entropy *[32]byte }

func recoveryOf(entropy [32]byte) Recovery { return Recovery{&recoverySecret{&entropy}} }

// ParseRecovery reads 24 words in any case.
func ParseRecovery(words []string) (Recovery, error) {
	if len(words) != 24 {
		return Recovery{}, fmt.Errorf("reading recovery words: %w: want 24 words", ErrRecovery)
	}
	entropy, err := bip39.EntropyFromMnemonic(strings.ToLower(strings.Join(words, " ")))
	if err != nil || len(entropy) != 32 {
		// The cause may quote a word.
		return Recovery{}, fmt.Errorf("reading recovery words: %w: a word is misspelled, missing or misplaced", ErrRecovery)
	}
	return recoveryOf([32]byte(entropy)), nil
}

// Words returns the 24 words, or nil for the zero value. It is the only way to
// get at the secret.
func (r Recovery) Words() []string {
	if r.s == nil {
		return nil
	}
	text, err := bip39.NewMnemonic(r.s.entropy[:])
	if err != nil {
		return nil // 32 bytes are always accepted
	}
	return strings.Fields(text)
}

// Key returns the recovery key, whose seed is
// DeriveKey(entropy, nil, "peers/recovery/1"), or the zero key.
func (r Recovery) Key() SigningKey {
	if r.s == nil {
		return SigningKey{}
	}
	seed := DeriveKey(r.s.entropy[:], nil, "peers/recovery/1")
	return signingKeyOf(seed[:])
}

// Pin returns the hash of the 32 bytes of the recovery public key, which is in
// the genesis.
func (r Recovery) Pin() Hash {
	public := r.Key().Public()
	return Sum(public[:])
}

// String returns "[redacted]".
func (r Recovery) String() string { return redacted }

// GoString returns "[redacted]".
func (r Recovery) GoString() string { return redacted }

// Format prints "[redacted]" under every verb.
func (r Recovery) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns "[redacted]".
func (r Recovery) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns [ErrSecret].
func (r Recovery) MarshalJSON() ([]byte, error) { return nil, ErrSecret }

// MarshalText returns [ErrSecret].
func (r Recovery) MarshalText() ([]byte, error) { return nil, ErrSecret }

// GobEncode returns [ErrSecret].
func (r Recovery) GobEncode() ([]byte, error) { return nil, ErrSecret }
