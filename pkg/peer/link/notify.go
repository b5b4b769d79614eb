package link

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// Bounds of notifications.
const (
	// MaxNotification is the longest body, in bytes.
	MaxNotification = 4 << 10
	// MaxNotificationLife is how long one can be worth delivering.
	MaxNotificationLife = wire.MaxWake * time.Second

	maxNotesWaiting = 256   // events that nobody has taken
	maxNotesSeen    = 4_096 // remembered, so that none is told twice
	maxNotesOfUser  = 512   // of them those of one user
)

// ErrNotification means that the content of a notification breaks a rule.
var ErrNotification = errors.New("notification is invalid")

// Delivery says what became of a notification.
type Delivery string

// Outcomes of Notify.
const (
	// Delivered: the device's session has it.
	Delivered Delivery = "delivered"
	// Queued: it waits at the server or at a push service.
	Queued Delivery = "queued"
)

// NotifyOptions are the choices of Notify. The zero value is usable.
type NotifyOptions struct {
	// Life is how long the notification is worth delivering; default 1 h, at
	// most MaxNotificationLife.
	Life time.Duration
	// PushToken is what the device gave to have it woken; "": it is not.
	PushToken string
}

// note is the content of a sealed notification. Layout: docs/formats.md,
// "Notifications".
type note struct {
	V          int                     `json:"v"` // 1
	Kind       wire.Kind               `json:"kind"`
	Conn       peercrypto.ID           `json:"conn"` // names the notification
	FromDevice peercrypto.ID           `json:"fromDevice"`
	ToDevice   peercrypto.ID           `json:"toDevice"`
	FromUser   peercrypto.ID           `json:"fromUser"`
	ToUser     peercrypto.ID           `json:"toUser"`
	Time       int64                   `json:"time"`    // unix milliseconds
	Expires    int64                   `json:"expires"` // unix milliseconds
	Eph        peercrypto.BoxPublicKey `json:"eph"`
	Body       string                  `json:"body"` // b64u
	Cert       peercrypto.DeviceCert   `json:"cert"`
	Sig        peercrypto.Signature    `json:"sig"`
}

func (n note) signedBytes() ([]byte, error) {
	b, err := peercrypto.MarshalCanonical(n)
	if err != nil {
		return nil, err
	}
	return peercrypto.RemoveMember(b, "sig")
}

func (n note) sign(device peercrypto.SigningKey) ([]byte, error) {
	b, err := n.signedBytes()
	if err != nil {
		return nil, fmt.Errorf("signing notification: %w", err)
	}
	n.Sig = device.SignPurpose(peercrypto.PurposeNotify, b)
	b, err = peercrypto.MarshalCanonical(n)
	if err != nil {
		return nil, fmt.Errorf("signing notification: %w", err)
	}
	return b, nil
}

// seal makes the envelope of a notification over a tag, "" for none.
func (n note) seal(id peercrypto.Identity, to peercrypto.DeviceCert, via Topic) (wire.Envelope, error) {
	eph, err := peercrypto.GenerateBoxKey()
	if err != nil {
		return wire.Envelope{}, fmt.Errorf("sealing notification: %w", err)
	}
	shared, err := eph.SharedSecret(to.BoxKey)
	if err != nil {
		return wire.Envelope{}, fmt.Errorf("sealing notification: %w: %w", ErrCertificate, err)
	}
	n.Eph = eph.Public()
	plain, err := n.sign(id.Device)
	if err != nil {
		return wire.Envelope{}, err
	}
	sealed, err := newSealKeys(shared, via.EnvSalt).seal(n.context(via.Tag), plain)
	if err != nil {
		return wire.Envelope{}, err
	}
	return wire.NewEnvelope(&n.Eph, sealed), nil
}

func (n note) context(via peercrypto.Tag) envelopeContext {
	return envelopeContext{
		Conn: n.Conn, Dir: dirOfferer, From: n.FromDevice, Kind: wire.KindNotify, To: n.ToDevice, Via: viaText(via),
	}
}

// openNote opens and verifies an envelope that says it is from a device.
func openNote(id peercrypto.Identity, from, conn peercrypto.ID, via Topic, env wire.Envelope, now time.Time) (Notification, error) {
	eph, err := env.EphKey()
	if err != nil {
		return Notification{}, fmt.Errorf("opening notification: %w: %w", ErrEnvelope, err)
	}
	shared, err := id.DeviceBox.SharedSecret(eph)
	if err != nil {
		return Notification{}, fmt.Errorf("opening notification: %w: %w", ErrEnvelope, err)
	}
	want := note{Conn: conn, FromDevice: from, ToDevice: id.DeviceID(), ToUser: id.UserID(), Eph: eph}
	plain, err := newSealKeys(shared, via.EnvSalt).open(want.context(via.Tag), env)
	if err != nil {
		return Notification{}, err
	}
	var n note
	if err := decodeCanonical(plain, &n); err != nil {
		return Notification{}, fmt.Errorf("reading notification: %w: %w", ErrNotification, err)
	}
	return n.verify(want, now)
}

func (n note) verify(want note, now time.Time) (Notification, error) {
	made, expires := time.UnixMilli(n.Time), time.UnixMilli(n.Expires)
	switch {
	case n.V != 1 || n.Kind != wire.KindNotify || n.Conn != want.Conn || n.Eph != want.Eph:
		return Notification{}, fmt.Errorf("%w: version, kind, id or ephemeral key differ from the envelope", ErrNotification)
	case n.FromDevice != want.FromDevice || n.ToDevice != want.ToDevice || n.ToUser != want.ToUser:
		return Notification{}, fmt.Errorf("%w: not from this sender to this device and user", ErrNotification)
	case made.Sub(now) > OfferSkew:
		return Notification{}, ErrOfferTime
	case !now.Before(expires) || expires.Sub(made) > MaxNotificationLife:
		return Notification{}, fmt.Errorf("%w: its time is over, or too long", ErrNotification)
	}
	body, err := peercrypto.DecodeB64u(n.Body)
	if err != nil || len(body) > MaxNotification {
		return Notification{}, fmt.Errorf("%w: body", ErrNotification)
	}
	// It was valid when it was made; a certificate may end while a push waits.
	at := made
	if now.Before(made) {
		at = now
	}
	if err := n.Cert.Verify(at); err != nil {
		return Notification{}, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	if n.Cert.DeviceID != n.FromDevice || n.Cert.UserID != n.FromUser {
		return Notification{}, fmt.Errorf("%w: the certificate is another device's or user's", ErrCertificate)
	}
	b, err := n.signedBytes()
	if err != nil {
		return Notification{}, fmt.Errorf("%w: %w", ErrNotification, err)
	}
	if !n.Cert.DeviceKey.VerifyPurpose(peercrypto.PurposeNotify, b, n.Sig) {
		return Notification{}, fmt.Errorf("%w: signature", ErrNotification)
	}
	return Notification{Remote: remoteOf(n.Cert), ID: n.Conn, Time: made, Expires: expires, Body: body}, nil
}

// Notify sends a sealed message to a device that need not be connected with this
// one, and need not be there now. via is a tag that both hold, the zero Tag for a
// device of the same user. It returns when the server has answered, which can
// take up to a minute for a device that is between two connections.
//
// The error is a *RefusedError when the server did not take it: CodeNotAllowed
// for a device that is unknown or shares nothing, CodeOffline, CodeExpired,
// CodeGone for a push token that is not valid any more, CodeRateLimited.
func (l *Link) Notify(ctx context.Context, to peercrypto.DeviceCert, via peercrypto.Tag, body []byte, o NotifyOptions) (Delivery, error) {
	now := l.cfg.Now()
	if o.Life == 0 {
		o.Life = time.Hour
	}
	if len(body) > MaxNotification || o.Life < 0 || o.Life > MaxNotificationLife {
		return "", fmt.Errorf("notifying %s: %w: at most %d bytes and %v", to.DeviceID.Short(), ErrNotification, MaxNotification, MaxNotificationLife)
	}
	cert, err := l.currentCert()
	if err != nil {
		return "", err
	}
	n := note{
		V: 1, Kind: wire.KindNotify, Conn: peercrypto.NewID(now), FromDevice: l.device, ToDevice: to.DeviceID,
		FromUser: l.user, ToUser: to.UserID, Time: now.UnixMilli(), Expires: now.Add(o.Life).UnixMilli(),
		Body: peercrypto.EncodeB64u(body), Cert: cert,
	}
	d, err := l.relayNote(ctx, n, to, via)
	if err != nil && o.PushToken != "" && absent(err) {
		d, err = l.wakeNote(ctx, n, to, o)
	}
	if err != nil {
		return "", fmt.Errorf("notifying %s: %w", to.DeviceID.Short(), err)
	}
	return d, nil
}

// absent tells refusals after which a device may still be woken.
func absent(err error) bool {
	r, ok := errors.AsType[*RefusedError](err)
	return ok && (r.Code == wire.CodeNotAllowed || r.Code == wire.CodeOffline || r.Code == wire.CodeExpired)
}

func (l *Link) relayNote(ctx context.Context, n note, to peercrypto.DeviceCert, via peercrypto.Tag) (Delivery, error) {
	topic, err := l.topicOf(via)
	if err != nil {
		return "", err
	}
	topic.Tag = via
	env, err := n.seal(l.cfg.Identity, to, topic)
	if err != nil {
		return "", err
	}
	err = l.deliver(ctx, heldTimeout, func(id uint64) wire.Message {
		return &wire.Signal{Kind: wire.KindNotify, ID: id, To: to.DeviceID, Via: via, Conn: n.Conn, Env: env}
	})
	return deliveryOf(err)
}

// wakeNote has the notification pushed. It is sealed anew, over no tag.
func (l *Link) wakeNote(ctx context.Context, n note, to peercrypto.DeviceCert, o NotifyOptions) (Delivery, error) {
	env, err := n.seal(l.cfg.Identity, to, Topic{})
	if err != nil {
		return "", err
	}
	err = l.deliver(ctx, heldTimeout, func(id uint64) wire.Message {
		return &wire.Wake{
			ID: id, To: to.DeviceID, Token: o.PushToken, TTL: int64(o.Life / time.Second), Conn: n.Conn, Eph: env.Eph, CT: env.CT,
		}
	})
	return deliveryOf(err)
}

func deliveryOf(err error) (Delivery, error) {
	if err == nil {
		return Delivered, nil
	}
	if r, ok := errors.AsType[*RefusedError](err); ok && r.Code == wire.CodeQueued {
		return Queued, nil
	}
	return "", err
}

// onNotify takes a notification from the server, as onOffer does an offer.
func (l *Link) onNotify(m *wire.Signal) {
	if err := l.notes.allow(m.From, l.cfg.OffersPerMinute, l.cfg.Now()); err != nil {
		l.refused.add("notifications over the rate")
		return
	}
	l.consider("notifications over the limit", func() {
		if err := l.considerNote(m); err != nil {
			l.refused.add("notification")
			l.log(m.From).Info("notification refused", "err", err)
		}
	})
}

func (l *Link) considerNote(m *wire.Signal) error {
	topic, err := l.topicOf(m.Via)
	if err != nil {
		return err
	}
	topic.Tag = m.Via
	now := l.cfg.Now()
	n, err := openNote(l.cfg.Identity, m.From, m.Conn, topic, m.Env, now)
	if err != nil {
		return err
	}
	if m.SameUser() && n.Remote.UserKey != l.userKey {
		return fmt.Errorf("%w: sent as a device of the same user, which it is not", ErrNotification)
	}
	if !m.SameUser() {
		n.Remote.Via = []peercrypto.Tag{m.Via}
	}
	if err := l.admit(l.runContext(), n.Remote); err != nil {
		return err
	}
	if !l.notesSeen.add(replayKey{m.From, m.Conn}, n.Remote.UserID, n.Expires, now) {
		return ErrOfferReplayed
	}
	if !l.queue.pushNote(n) {
		l.refused.add("notifications that nobody took")
	}
	return nil
}

// seenNotes remembers notifications until they could not be told any more.
type seenNotes struct {
	mu    sync.Mutex
	notes map[replayKey]seenNote
	users map[peercrypto.ID]int // notes of each user
}

type seenNote struct {
	user  peercrypto.ID
	until time.Time
}

// add refuses what it knows, and everything while it is full; of a user while
// that user has filled the part for one.
func (s *seenNotes) add(key replayKey, user peercrypto.ID, until, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.notes[key]; known {
		return false
	}
	if s.fullLocked(user) {
		for k, n := range s.notes {
			if !now.Before(n.until) {
				s.forgetLocked(k, n)
			}
		}
		if s.fullLocked(user) {
			return false
		}
	}
	if s.notes == nil {
		s.notes, s.users = make(map[replayKey]seenNote), make(map[peercrypto.ID]int)
	}
	s.notes[key] = seenNote{user, until}
	s.users[user]++
	return true
}

func (s *seenNotes) fullLocked(user peercrypto.ID) bool {
	return len(s.notes) >= maxNotesSeen || s.users[user] >= maxNotesOfUser
}

func (s *seenNotes) forgetLocked(key replayKey, n seenNote) {
	delete(s.notes, key)
	if s.users[n.user]--; s.users[n.user] == 0 {
		delete(s.users, n.user)
	}
}
