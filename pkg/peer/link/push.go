package link

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// PushToken registers a Web Push subscription of this device and returns the
// token that others pass to Notify, and until when it is valid.
func (l *Link) PushToken(ctx context.Context, sub wire.PushSubscription) (token string, expires time.Time, err error) {
	g, err := l.pushGrant(ctx, &sub)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("registering a push subscription: %w", err)
	}
	return g.Token, time.UnixMilli(g.Expires), nil
}

// PushKey returns the application server key (RFC 8292, base64url) with which
// subscriptions for this server are made.
func (l *Link) PushKey(ctx context.Context) (string, error) {
	g, err := l.pushGrant(ctx, nil)
	if err != nil {
		return "", fmt.Errorf("asking for the push key: %w", err)
	}
	return g.Key, nil
}

func (l *Link) pushGrant(ctx context.Context, sub *wire.PushSubscription) (*wire.PushGrant, error) {
	s := l.currentSession()
	if s == nil {
		return nil, ErrServerDown
	}
	m, err := s.call(ctx, resultTimeout, func(id uint64) wire.Message { return &wire.PushRequest{ID: id, Subscription: sub} })
	if err != nil {
		return nil, err
	}
	g, ok := m.(*wire.PushGrant)
	if !ok {
		return nil, fmt.Errorf("%w: another answer", ErrRefused)
	}
	return g, nil
}

// pushPart is the payload of one push, see pkg/wire.
type pushPart struct {
	V     int           `json:"v"`
	ID    peercrypto.ID `json:"id"`
	From  peercrypto.ID `json:"from"`
	Part  int           `json:"part"`
	Parts int           `json:"parts"`
	Eph   string        `json:"eph"`
	CT    string        `json:"ct"`
}

// maxPushParts is what MaxNotify can be cut into.
const maxPushParts = 8

// OpenPush joins the decrypted payloads of one pushed notification, in any
// order, and opens it. Whether its sender is welcome is for the caller to say,
// and so is whether it was told before: its ID names it.
func OpenPush(id peercrypto.Identity, payloads [][]byte, now time.Time) (Notification, error) {
	bad := func(what string) (Notification, error) {
		return Notification{}, fmt.Errorf("opening a push: %w: %s", ErrNotification, what)
	}
	if len(payloads) == 0 || len(payloads) > maxPushParts {
		return bad("parts are missing, or there are too many")
	}
	parts := make([]pushPart, len(payloads))
	for i, p := range payloads {
		if len(p) > 4<<10 || json.Unmarshal(p, &parts[i]) != nil || parts[i].V != 1 {
			return bad("a part is malformed")
		}
	}
	slices.SortFunc(parts, func(a, b pushPart) int { return a.Part - b.Part })
	var ct strings.Builder
	for i, p := range parts {
		first := parts[0]
		if p.Part != i || p.Parts != len(parts) || p.ID != first.ID || p.From != first.From || p.Eph != first.Eph {
			return bad("the parts do not belong together")
		}
		ct.WriteString(p.CT)
	}
	return openNote(id, parts[0].From, parts[0].ID, Topic{}, wire.Envelope{Eph: parts[0].Eph, CT: ct.String()}, now)
}
