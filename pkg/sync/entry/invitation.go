package entry

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// ErrInvitation is matched by every refusal of an invitation link.
var ErrInvitation = errors.New("not a usable invitation link")

// Limits of an invitation link.
const (
	MaxServers   = 3    // server URLs in a link
	MaxServerURL = 255  // bytes of each
	MaxLink      = 4096 // bytes of a link
)

const (
	linkPrefix = "peers:join#"
	linkSum    = 4 // bytes of SHA-256 behind the object, against cut or mistyped links
)

// Invitation is what a link holds. Whoever has the link can join, so it prints
// as "[redacted]" but for the group's id.
type Invitation struct {
	Group        peercrypto.ID
	Create       peercrypto.Hash // the group's create operation
	OwnerGenesis peercrypto.Hash
	Secret       [32]byte
	Servers      []string // signaling servers, at most 3
	Expires      int64    // unix ms; the caller compares it with its clock
	Role         Role
	Name         string // of the group, "" if the link does not tell
}

// link is the JSON of an invitation.
type link struct {
	V       int             `json:"v"`
	Group   peercrypto.ID   `json:"g"`
	Create  peercrypto.Hash `json:"c"`
	Owner   peercrypto.Hash `json:"o"`
	Secret  TopicKey        `json:"k"`
	Servers []string        `json:"s"`
	Expires int64           `json:"e"`
	Role    Role            `json:"r"`
	Name    string          `json:"n,omitzero"`
}

// Link returns "peers:join#…". An invitation that ParseInvitation would refuse
// gives "".
func (i Invitation) Link() string {
	if i.fault() != "" {
		return ""
	}
	raw, err := peercrypto.MarshalCanonical(link{
		1, i.Group, i.Create, i.OwnerGenesis, i.Secret, i.Servers, i.Expires, i.Role, i.Name,
	})
	if err != nil {
		return ""
	}
	sum := peercrypto.Sum(raw)
	return linkPrefix + peercrypto.EncodeB64u(append(raw, sum[:linkSum]...))
}

// ParseInvitation reads "peers:join#…" or "https://host/join#…", with white
// space around or, as messengers break lines, inside of it. Errors match
// [ErrInvitation] and do not contain the link.
func ParseInvitation(text string) (Invitation, error) {
	i, reason := parseLink(text)
	if reason != "" {
		return Invitation{}, fmt.Errorf("reading an invitation: %w: %s", ErrInvitation, reason)
	}
	return i, nil
}

func parseLink(text string) (Invitation, string) {
	if len(text) > MaxLink {
		return Invitation{}, "it is too long"
	}
	text = strings.Join(strings.Fields(text), "")
	before, payload, ok := strings.Cut(text, "#")
	web := strings.HasPrefix(before, "https://") && strings.HasSuffix(before, "/join")
	if !ok || !web && before+"#" != linkPrefix {
		return Invitation{}, "it does not begin with " + linkPrefix + " or https://…/join#"
	}
	const damaged = "it is incomplete or was changed; copy the whole link again"
	raw, err := base64.RawURLEncoding.Strict().DecodeString(payload)
	if err != nil || len(raw) <= linkSum {
		return Invitation{}, damaged
	}
	raw, check := raw[:len(raw)-linkSum], raw[len(raw)-linkSum:]
	if sum := peercrypto.Sum(raw); string(sum[:linkSum]) != string(check) {
		return Invitation{}, damaged
	}
	var version struct {
		V int `json:"v"`
	}
	if peercrypto.UnmarshalLenientFields(raw, &version) == nil && version.V > 1 {
		return Invitation{}, "it needs a newer release"
	}
	var l link
	if peercrypto.UnmarshalStrict(raw, &l) != nil {
		return Invitation{}, "it has an unknown form"
	}
	again, err := peercrypto.MarshalCanonical(l)
	if err != nil || string(again) != string(raw) || l.V != 1 {
		return Invitation{}, "it has an unknown form"
	}
	i := Invitation{l.Group, l.Create, l.Owner, l.Secret, l.Servers, l.Expires, l.Role, l.Name}
	return i, i.fault()
}

func (i Invitation) fault() string {
	switch {
	case !isID(i.Group) || i.Create.IsZero() || i.OwnerGenesis.IsZero():
		return "it names no group"
	case i.Secret == [32]byte{}:
		return "it has no secret"
	case !i.Role.Valid():
		return "its role is unknown"
	case i.Expires < MinModified || i.Expires > MaxModified:
		return "its expiry is out of range"
	case len(i.Servers) > MaxServers:
		return "it names too many servers"
	case i.Name != "" && nameFault(i.Name) != "":
		return nameFault(i.Name)
	}
	for _, s := range i.Servers {
		if !isServer(s) {
			return "it names a server that is not a ws://, wss://, http:// or https:// URL"
		}
	}
	return ""
}

func isServer(s string) bool {
	if len(s) > MaxServerURL || !printable(s) {
		return false
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	switch u.Scheme {
	case "ws", "wss", "http", "https":
		return true
	}
	return false
}

// SigningKey returns the key that proves the secret.
func (i Invitation) SigningKey() peercrypto.SigningKey {
	return peercrypto.InviteSigningKey(i.Secret)
}

// IPK returns the invitation's public key, which the group's log holds.
func (i Invitation) IPK() peercrypto.PublicKey { return i.SigningKey().Public() }

// String returns the group's short id and no secret.
func (i Invitation) String() string { return "invitation to " + i.Group.Short() + " " + redacted }

// GoString returns what String does.
func (i Invitation) GoString() string { return i.String() }

// Format prints what String returns under every verb.
func (i Invitation) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(i.String())) }

// LogValue returns what String does.
func (i Invitation) LogValue() slog.Value { return slog.StringValue(i.String()) }

// MarshalJSON returns [peercrypto.ErrSecret]: a link is stored as its text.
func (i Invitation) MarshalJSON() ([]byte, error) { return nil, peercrypto.ErrSecret }
