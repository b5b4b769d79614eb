package turn

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of Credentials.
var (
	// ErrRevoked says that the session was revoked and gets no credentials.
	ErrRevoked = errors.New("the session was revoked; open a new one")
	// ErrClosed says that the server was closed.
	ErrClosed = errors.New("the turn server is closed")
)

// Why a username was refused; the values are metric labels.
const (
	authMalformed  = "malformed"
	authRealm      = "realm"
	authUnknownKey = "unknown_key"
	authRevoked    = "revoked"
	authExpired    = "expired"
	authWrongUser  = "wrong_user"
	authIntegrity  = "bad_integrity"
	authLifetime   = "lifetime"
	authNonce      = "nonce" // made up, of another server, or older than an hour
)

const (
	tagBytes    = 12
	tagChars    = tagBytes * 4 / 3
	maxUsername = 128
	maxRevoked  = 1 << 16
)

// Credentials are what one client presents to the relay until Expires.
type Credentials struct {
	Username, Password string
	Expires            time.Time
}

// LogValue keeps the password out of logs.
func (c Credentials) LogValue() slog.Value { return slog.StringValue("turn credentials") }

// String keeps the password out of formatted output.
func (c Credentials) String() string { return "turn credentials" }

// GoString keeps the password out of %#v.
func (c Credentials) GoString() string { return c.String() }

// claims are what a username says: "expiry:key:session:user", expiry in Unix
// seconds, session and user as tags. The tags are keyed, since usernames
// travel in the clear and must not show an observer who is calling.
type claims struct {
	expires       int64
	secret        *Secret
	session, user string
}

// minter derives and checks credentials. Its methods may be used from several
// goroutines.
type minter struct {
	secrets atomic.Pointer[[]Secret] // what it points to is immutable
	ttl     time.Duration

	mu      sync.Mutex
	revoked map[string]revocation // by the tag of a session or user: the last one
	order   []revocation          // oldest first
}

// revocation refuses the credentials of a tag that expire by a time, in Unix
// seconds. It is remembered until they all have.
type revocation struct {
	tag   string
	by    int64
	until time.Time
}

func newMinter(secrets []Secret, ttl time.Duration) *minter {
	m := &minter{ttl: ttl, revoked: make(map[string]revocation)}
	m.setSecrets(secrets)
	return m
}

func (m *minter) setSecrets(secrets []Secret) {
	own := make([]Secret, len(secrets))
	for i, s := range secrets {
		own[i] = Secret{ID: s.ID, Key: append([]byte(nil), s.Key...)}
	}
	m.secrets.Store(&own)
}

// mint returns the credentials of a session, and its tag in them.
func (m *minter) mint(session, user string, now time.Time) (c Credentials, tag string, err error) {
	if session == "" || user == "" {
		return Credentials{}, "", errors.New("minting turn credentials: session and user must not be empty")
	}
	secret := &(*m.secrets.Load())[0]
	tag = secret.tag("session", session)
	if m.isRevoked(tag, math.MaxInt64, now) {
		return Credentials{}, "", fmt.Errorf("minting turn credentials: %w", ErrRevoked)
	}
	expires := now.Add(m.ttl).Truncate(time.Second)
	username := strconv.FormatInt(expires.Unix(), 10) + ":" + secret.ID + ":" + tag + ":" + secret.tag("user", user)
	return Credentials{Username: username, Password: secret.password(username), Expires: expires}, tag, nil
}

// parse reads a username. The caller proves it, by the message integrity,
// before any claim means something; reason is a metric label.
func (m *minter) parse(username string) (c claims, reason string) {
	if len(username) > maxUsername {
		return claims{}, authMalformed
	}
	parts := strings.Split(username, ":")
	if len(parts) != 4 || len(parts[2]) != tagChars || len(parts[3]) != tagChars {
		return claims{}, authMalformed
	}
	expires, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil || expires <= 0 {
		return claims{}, authMalformed
	}
	secrets := *m.secrets.Load()
	for i := range secrets {
		if secrets[i].ID == parts[1] {
			return claims{expires: expires, secret: &secrets[i], session: parts[2], user: parts[3]}, ""
		}
	}
	return claims{}, authUnknownKey
}

// revoke refuses the session until every credential it may hold has expired,
// and returns the session's tags, one a secret.
func (m *minter) revoke(session string, now time.Time) []string {
	return m.refuse("session", session, math.MaxInt64, now)
}

// revokeUser refuses the credentials that the user has got so far, and returns
// the user's tags.
func (m *minter) revokeUser(user string, now time.Time) []string {
	return m.refuse("user", user, now.Add(m.ttl).Unix(), now)
}

// refuse refuses what is minted for an id and expires by a time.
func (m *minter) refuse(kind, id string, by int64, now time.Time) []string {
	secrets := *m.secrets.Load()
	tags := make([]string, len(secrets))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(now)
	for i := range secrets {
		tags[i] = secrets[i].tag(kind, id)
		r := revocation{tags[i], by, now.Add(m.ttl)}
		m.revoked[r.tag], m.order = r, append(m.order, r)
	}
	for len(m.order) > maxRevoked { // the oldest has the least time left
		m.dropLocked()
	}
	return tags
}

// isRevoked says whether a credential of a session or user that expires then is
// refused.
func (m *minter) isRevoked(tag string, expires int64, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(now)
	r, ok := m.revoked[tag]
	return ok && expires <= r.by
}

func (m *minter) forgetLocked(now time.Time) {
	for len(m.order) > 0 && now.After(m.order[0].until) {
		m.dropLocked()
	}
}

// dropLocked forgets the oldest revocation, unless there is a later one of the
// same tag.
func (m *minter) dropLocked() {
	r := m.order[0]
	m.order = m.order[1:]
	if m.revoked[r.tag] == r {
		delete(m.revoked, r.tag)
	}
}

// tag shortens an id for a username, keyed by the secret.
func (s *Secret) tag(kind, id string) string {
	mac := hmac.New(sha256.New, s.Key)
	mac.Write([]byte("peersignal turn " + kind + "\x00" + id))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:tagBytes])
}

func (s *Secret) password(username string) string {
	mac := hmac.New(sha1.New, s.Key)
	mac.Write([]byte(username))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
