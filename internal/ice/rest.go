package ice

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

const (
	minSharedSecret = 16
	tagBytes        = 12
)

var userPrefix = regexp.MustCompile(`^[0-9A-Za-z_.-]{0,32}$`)

// RESTConfig configures relays that share a secret with this server, as coturn
// (use-auth-secret) and eturnal do.
type RESTConfig struct {
	// Secret is the relays' shared secret, at least 16 bytes: whoever holds one
	// credential can search for a short one.
	Secret Secret
	// URLs are where clients reach the relays, 1 to 16, at least one of them
	// turn or turns.
	URLs []string
	TTL  time.Duration // 10 minutes to 48 hours; default 12 hours
	// UserPrefix begins the name that relays log, and may count quotas on: letters,
	// digits, "_", "." and "-", at most 32.
	UserPrefix string
}

// REST mints credentials by draft-uberti-behave-turn-rest-00, each bound to a
// session. It needs no network.
//
// The username is "<expiry>:<prefix><user tag>.<session tag>", where the tags
// are keyed hashes: usernames travel in the clear and must not show an observer
// who is calling.
type REST struct {
	cfg        RESTConfig
	stun, turn []string
}

// NewREST validates the configuration.
func NewREST(cfg RESTConfig) (*REST, error) {
	r, err := newREST(cfg)
	if err != nil {
		return nil, fmt.Errorf("configuring relays with a shared secret: %w", err)
	}
	return r, nil
}

func newREST(cfg RESTConfig) (_ *REST, err error) {
	r := &REST{cfg: cfg}
	switch secretLen := len(cfg.Secret.Reveal()); {
	case secretLen < minSharedSecret || secretLen > maxCredential:
		return nil, fmt.Errorf("the secret has %d bytes, must have %d to %d", secretLen, minSharedSecret, maxCredential)
	case !userPrefix.MatchString(cfg.UserPrefix):
		return nil, errors.New("the user prefix can have at most 32 letters, digits, underscores, dots and hyphens")
	case len(cfg.URLs) > maxURLsPerServer:
		return nil, fmt.Errorf("it has %d URLs, the most is %d", len(cfg.URLs), maxURLsPerServer)
	}
	if r.cfg.TTL, err = checkTTL(cfg.TTL, maxTTL); err != nil {
		return nil, err
	}
	for _, text := range cfg.URLs {
		u, err := ParseURL(text)
		switch {
		case err != nil:
			return nil, err
		case u.IsTURN():
			r.turn = append(r.turn, u.String())
		default:
			r.stun = append(r.stun, u.String())
		}
	}
	if len(r.turn) == 0 {
		return nil, errors.New("it needs at least one turn or turns URL")
	}
	return r, nil
}

// Name implements Source.
func (*REST) Name() string { return "rest" }

// String keeps the secret out of formatted output.
func (*REST) String() string { return "rest" }

// GoString keeps the secret out of %#v.
func (*REST) GoString() string { return "rest" }

// ICEServers implements Source. A request without session or user is an error:
// nobody could be held to such a credential.
func (r *REST) ICEServers(_ context.Context, q Request) (Result, error) {
	if q.Session == "" || q.User == "" {
		return Result{}, errors.New("minting relay credentials: session and user must not be empty")
	}
	expires := time.Now().Round(0).Add(r.cfg.TTL).Truncate(time.Second)
	username := strconv.FormatInt(expires.Unix(), 10) + ":" + r.cfg.UserPrefix +
		r.tag("user", q.User) + "." + r.tag("session", q.Session)
	mac := hmac.New(sha1.New, []byte(r.cfg.Secret.Reveal()))
	mac.Write([]byte(username))
	var servers []Server
	if len(r.stun) > 0 {
		servers = append(servers, Server{URLs: r.stun})
	}
	servers = append(servers, Server{
		URLs: r.turn, Username: username, Credential: base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	})
	return Result{Servers: cloneServers(servers), Expires: expires}, nil
}

func (r *REST) tag(kind, id string) string {
	mac := hmac.New(sha256.New, []byte(r.cfg.Secret.Reveal()))
	mac.Write([]byte("peersignal rest " + kind + "\x00" + id))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:tagBytes])
}
