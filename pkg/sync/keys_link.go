package sync

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// ErrDeviceText is matched by every refusal of a request or a welcome of a new device.
var ErrDeviceText = errors.New("invalid text of a new device")

// ErrOldRequest is returned for a request of a new device that was made from an older card.
var ErrOldRequest = errors.New("the history of your keys has grown since the card was made from which the new device made its request: make a new request from a new card")

const (
	requestPrefix = "peers:device#"
	welcomePrefix = "peers:welcome#"
	maxDeviceText = 128 << 10
)

// A DeviceRequest is what a new device of a user shows to one that has the key. Nothing in it is secret; whether it is the new
// device's and nobody else's is seen by its Code alone.
type DeviceRequest struct {
	v requestText
}

type requestText struct {
	V       int                     `json:"v"`       // 1
	Event   keys.Event              `json:"event"`   // addDevice, signed by the device
	Created int64                   `json:"created"` // of the device's id
	Box     peercrypto.BoxPublicKey `json:"box"`     // to which the key is sealed
	Sig     peercrypto.Signature    `json:"sig"`     // by the device key, purpose "key-request", over all but sig
}

func (t requestText) unsigned() []byte { return withoutSig(t) }

// NewDeviceRequest asks to become a device of the user of a card: with the device keys of id, whose user key does not matter.
func NewDeviceRequest(id peercrypto.Identity, card Card, now time.Time) (DeviceRequest, error) {
	h := keys.Evaluate(keys.Genesis(card.Genesis), card.Keys)
	if h.Frozen() || h.State.Ended() {
		return DeviceRequest{}, fmt.Errorf("asking to become a device of user %s: %w", h.State.User().Short(), ErrKeyFrozen)
	}
	d := keys.Device{ID: id.DeviceID(), Key: id.Device.Public()}
	ev := h.State.Draft(keys.Event{Op: keys.AddDevice, By: keys.ByKey, Device: &d, Modified: now.UnixMilli()}).SignNew(id.Device)
	t := requestText{V: 1, Event: ev, Created: id.DeviceCreated, Box: id.DeviceBox.Public()}
	t.Sig = id.Device.SignPurpose(peercrypto.PurposeKeyRequest, t.unsigned())
	return DeviceRequest{t}, nil
}

// Text returns "peers:device#…".
func (r DeviceRequest) Text() string { return deviceText(requestPrefix, r.v) }

// Device returns the id of the new device.
func (r DeviceRequest) Device() peercrypto.ID { return r.v.Event.Device.ID }

// Code returns 20 digits that people compare on both devices.
func (r DeviceRequest) Code() string { return digits(peercrypto.Sum(r.v.unsigned())) }

// digits makes four groups of five digits out of a hash.
func digits(h peercrypto.Hash) string {
	var groups []string
	for i := range 4 {
		var n uint64
		for _, b := range h[i*5 : i*5+5] {
			n = n<<8 | uint64(b)
		}
		groups = append(groups, fmt.Sprintf("%05d", n%100_000))
	}
	return strings.Join(groups, " ")
}

func deviceText(prefix string, v any) string {
	raw, err := peercrypto.MarshalCanonical(v)
	if err != nil {
		return ""
	}
	return toText(prefix, raw)
}

func parseDeviceText(prefix, text string, v any) error {
	raw, err := fromText(prefix, text, maxDeviceText)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDeviceText, err)
	}
	if err := peercrypto.UnmarshalStrict(raw, v); err != nil {
		return fmt.Errorf("%w: it has an unknown form: a newer release may read it", ErrDeviceText)
	}
	return nil
}

// ParseDeviceRequest reads the text of a request and checks what can be checked without the user's key.
func ParseDeviceRequest(text string) (DeviceRequest, error) {
	var t requestText
	if err := parseDeviceText(requestPrefix, text, &t); err != nil {
		return DeviceRequest{}, fmt.Errorf("reading the request of a new device: %w", err)
	}
	d := t.Event.Device
	if t.V != 1 || t.Event.Op != keys.AddDevice || t.Event.By != keys.ByKey || d == nil || d.Key.Check() != nil || t.Box.Check() != nil ||
		(peercrypto.DeviceBody{Created: t.Created, Key: d.Key}).ID() != d.ID ||
		!d.Key.VerifyPurpose(peercrypto.PurposeKeyRequest, t.unsigned(), t.Sig) {
		return DeviceRequest{}, fmt.Errorf("reading the request of a new device: %w: it does not hold together", ErrDeviceText)
	}
	return DeviceRequest{t}, nil
}

// A Welcome gives a new device the user's key, sealed: only that device can open it.
type Welcome struct {
	v welcomeText
}

type welcomeText struct {
	V       int                    `json:"v"` // 1
	Genesis peercrypto.UserGenesis `json:"genesis"`
	Gift    keyGift                `json:"gift"`
	Server  string                 `json:"server,omitzero"` // signaling server of the device that gave it
}

// Text returns "peers:welcome#…".
func (w Welcome) Text() string { return deviceText(welcomePrefix, w.v) }

// Server returns the URL of the signaling server that the welcome names; "" for none.
func (w Welcome) Server() string { return w.v.Server }

// WithServer returns the welcome with a signaling server.
func (w Welcome) WithServer(url string) Welcome {
	w.v.Server = url
	return w
}

// ParseWelcome reads the text of a welcome.
func ParseWelcome(text string) (Welcome, error) {
	var t welcomeText
	if err := parseDeviceText(welcomePrefix, text, &t); err != nil {
		return Welcome{}, fmt.Errorf("reading a welcome: %w", err)
	}
	if t.V != 1 || t.Genesis.Validate() != nil {
		return Welcome{}, fmt.Errorf("reading a welcome: %w: it has an unknown form", ErrDeviceText)
	}
	return Welcome{t}, nil
}

// about binds a welcome to the device that may open it.
func about(user, device peercrypto.ID, box peercrypto.BoxPublicKey) []byte {
	return fmt.Appendf(nil, "peers/welcome/1\n%s\n%s\n%s", user, device, box)
}

// Accept returns the identity of the new device that made the request with the device keys of id.
func (w Welcome) Accept(id peercrypto.Identity) (peercrypto.Identity, error) {
	fail := func(err error) (peercrypto.Identity, error) { return id, fmt.Errorf("taking a welcome: %w", err) }
	what, key, err := w.v.Gift.open(id.DeviceBox, about(w.v.Genesis.ID(), id.DeviceID(), id.DeviceBox.Public()))
	if err != nil {
		return fail(err)
	}
	h := keys.Evaluate(keys.Genesis(w.v.Genesis), what.Events)
	if len(h.Path) != len(what.Events) || !h.State.Listed(keys.Device{ID: id.DeviceID(), Key: id.Device.Public()}) {
		return fail(ErrNoDevice)
	}
	id.Genesis = w.v.Genesis
	id, err = withLine(id, key, what.Events)
	if err != nil {
		return fail(err)
	}
	return id, nil
}

// AddDevice puts a new device on the list of this user's devices, this one too unless it is there, and seals the key to it. The caller
// has made sure that the code of the request is the one that the new device shows. Two devices must not do this while they do not
// know of each other's: two such events after the same one freeze the history.
func (e *Engine) AddDevice(ctx context.Context, r DeviceRequest) (Welcome, error) {
	if err := e.enter(); err != nil {
		return Welcome{}, err
	}
	defer e.active.Done()
	w, err := e.addDevice(ctx, r.v)
	if err != nil {
		return w, fmt.Errorf("adding a device: %w", err)
	}
	e.ownChanged()
	return w, nil
}

func (e *Engine) addDevice(ctx context.Context, r requestText) (Welcome, error) {
	k, err := e.inForce(ctx)
	if err != nil {
		return Welcome{}, err
	}
	user, s := e.cfg.Identity.User, k.History.State
	switch {
	case r.Event.UserID != e.userID:
		return Welcome{}, fmt.Errorf("%w: it is for another user", ErrDeviceText)
	case r.Event.Prev != s.Head():
		return Welcome{}, ErrOldRequest
	}
	line := k.History.Line
	if !s.Listed(*r.Event.Device) { // else the welcome was lost
		event := r.Event.SignKey(user)
		if s, err = s.Apply(event); err != nil {
			return Welcome{}, err
		}
		line = append(line, event)
	}
	if me := (keys.Device{ID: e.deviceID, Key: e.cfg.Identity.Device.Public()}); !s.Listed(me) {
		own, err := keys.NewAddDevice(s, keys.Signers{Key: user, New: e.cfg.Identity.Device}, e.deviceID, e.now())
		if err != nil {
			return Welcome{}, err
		}
		line = append(line, own)
	}
	if err := e.keepLine(ctx, user, line, nil); err != nil {
		return Welcome{}, err
	}
	gift, err := sealGift(r.Box, about(e.userID, r.Event.Device.ID, r.Box),
		keySecret{V: 1, Seed: peercrypto.EncodeB64u(user.ExportSeed()), Events: line})
	if err != nil {
		return Welcome{}, err
	}
	return Welcome{welcomeText{V: 1, Genesis: e.cfg.Identity.Genesis, Gift: gift}}, nil
}
