package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// MaxToken is the longest text of a token, in bytes.
const MaxToken = 2048

// ErrToken is returned for a token that this server did not make, or not for this key, or whose time is over.
var ErrToken = errors.New("the push token is not valid (any more): its device has to make a new one")

// tokenAAD separates tokens from everything else that is sealed.
var tokenAAD = []byte("peersignal/push-token/1")

// sealed is what a token holds.
type sealed struct {
	Device  peercrypto.ID `json:"d"`
	Expires int64         `json:"x"` // unix ms
	Sub     Subscription  `json:"s"`
}

// Token makes the token of a subscription that a device registers for itself. The error matches ErrSubscription.
func (s *Sender) Token(device peercrypto.ID, sub Subscription) (token string, expires time.Time, err error) {
	if err := sub.check(s.cfg.AllowHosts); err != nil {
		return "", time.Time{}, err
	}
	expires = s.cfg.Now().Add(s.cfg.TokenLife).Truncate(time.Millisecond)
	text, err := json.Marshal(sealed{device, expires.UnixMilli(), sub})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("making a push token: %w", err)
	}
	s.gone.forget(endpointKey(sub.Endpoint))
	return peercrypto.EncodeB64u(peercrypto.Seal(s.keys.token, tokenAAD, text)), expires, nil
}

func (s *Sender) open(token string) (sealed, error) {
	var t sealed
	if len(token) > MaxToken {
		return t, ErrToken
	}
	raw, err := peercrypto.DecodeB64u(token)
	if err != nil {
		return t, ErrToken
	}
	text, err := peercrypto.Open(s.keys.token, tokenAAD, raw)
	if err != nil {
		return t, ErrToken
	}
	if err := json.Unmarshal(text, &t); err != nil || s.cfg.Now().UnixMilli() > t.Expires {
		return t, ErrToken
	}
	// The list may have become shorter since.
	if err := t.Sub.check(s.cfg.AllowHosts); err != nil {
		return t, ErrToken
	}
	return t, nil
}
