package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// The frames of own devices to each other, on the control lane. Other users' are ignored.
const (
	frameNeed  = optional | 0x01 // asks for the key of the history that the receiver showed
	frameGive  = optional | 0x02 // that key, sealed
	frameChain = optional | 0x03 // the user's history of keys, and events that devices are to sign

	maxOwnFrame = 60 << 10
	// maxNeeds is how often a session answers NEED.
	maxNeeds = 16
)

// An ownFrame is one of the frames above: canonical JSON.
type ownFrame []byte

func decodeOwn(c *cursor) ownFrame { return c.bytes(maxOwnFrame) }

func (f ownFrame) encode(t frameType) []byte { return appendBytes([]byte{byte(t)}, f) }

// keyNeed asks for a key: the device that signs it holds the secret of Eph.
type keyNeed struct {
	V    int                     `json:"v"` // 1
	User peercrypto.ID           `json:"user"`
	From peercrypto.ID           `json:"from"` // devices
	To   peercrypto.ID           `json:"to"`
	Eph  peercrypto.BoxPublicKey `json:"eph"`
	Sig  peercrypto.Signature    `json:"sig"` // by the device key, purpose "key-request", over all but sig
}

// keyGift answers it. What is sealed has the hash of the keyNeed without sig as additional data.
type keyGift struct {
	V   int                     `json:"v"` // 1
	Eph peercrypto.BoxPublicKey `json:"eph"`
	Box string                  `json:"box"` // base64url
}

// keySecret is what is sealed, to another own device or to one that becomes one.
type keySecret struct {
	V      int          `json:"v"` // 1
	Seed   string       `json:"seed"`
	Events []keys.Event `json:"events"`
	Topics []oldTopic   `json:"topics,omitzero"` // of the earlier keys
}

func (n keyNeed) unsigned() []byte { return withoutSig(n) }

// withoutSig is what is signed of an object: canonical, without its member "sig"; nil for what can't be written, which nobody signs.
func withoutSig(v any) []byte {
	raw, err := peercrypto.MarshalCanonical(v)
	if err != nil {
		return nil
	}
	raw, err = peercrypto.RemoveMember(raw, "sig")
	if err != nil {
		return nil
	}
	return raw
}

func giftKey(secret peercrypto.BoxSecretKey, public peercrypto.BoxPublicKey) ([32]byte, error) {
	shared, err := secret.SharedSecret(public)
	if err != nil {
		return [32]byte{}, err
	}
	return peercrypto.DeriveKey(shared[:], nil, "peers/key-gift/1"), nil
}

// sealGift seals a secret to who holds the secret of eph.
func sealGift(to peercrypto.BoxPublicKey, about []byte, what keySecret) (keyGift, error) {
	plain, err := peercrypto.MarshalCanonical(what)
	if err != nil {
		return keyGift{}, err
	}
	defer clear(plain)
	mine, err := peercrypto.GenerateBoxKey()
	if err != nil {
		return keyGift{}, err
	}
	k, err := giftKey(mine, to)
	if err != nil {
		return keyGift{}, err
	}
	sum := peercrypto.Sum(about)
	return keyGift{1, mine.Public(), peercrypto.EncodeB64u(peercrypto.Seal(k, sum[:], plain))}, nil
}

func (g keyGift) open(secret peercrypto.BoxSecretKey, about []byte) (what keySecret, key peercrypto.SigningKey, err error) {
	sealed, err := peercrypto.DecodeB64u(g.Box)
	if err != nil || g.V != 1 {
		return what, key, fmt.Errorf("opening a key: %w", peercrypto.ErrOpen)
	}
	k, err := giftKey(secret, g.Eph)
	if err != nil {
		return what, key, err
	}
	sum := peercrypto.Sum(about)
	plain, err := peercrypto.Open(k, sum[:], sealed)
	if err != nil {
		return what, key, fmt.Errorf("opening a key: %w", err)
	}
	defer clear(plain)
	if err := peercrypto.UnmarshalStrict(plain, &what); err != nil {
		return what, key, fmt.Errorf("opening a key: %w", err)
	}
	seed, err := peercrypto.DecodeB64u(what.Seed)
	if err == nil {
		key, err = peercrypto.SigningKeyFromSeed(seed)
	}
	if err == nil && (what.V != 1 || len(what.Topics) > maxOldTopics) {
		err = errors.New("it has an unknown form")
	}
	if err != nil {
		return what, key, fmt.Errorf("opening a key: %w", err)
	}
	return what, key, nil
}

// secretNow is what another own device needs to have the key in use. The history has to say that it is the user's.
func (e *Engine) secretNow(k UserKeys) (keySecret, error) {
	id := e.cfg.Identity
	if !k.Pin.Usable() || k.History.State.Key() != id.User.Public() {
		return keySecret{}, ErrKeyPending
	}
	e.selfMu.Lock()
	defer e.selfMu.Unlock()
	topics := append([]oldTopic{{e.self.Topic, e.now() + oldTopicFor.Milliseconds()}}, e.self.Old...)
	return keySecret{1, peercrypto.EncodeB64u(id.User.ExportSeed()), k.History.Line, topics[:min(len(topics), maxOldTopics)]}, nil
}

// revoked tells whether a history took a device off the list.
func revoked(k UserKeys, device peercrypto.ID) bool {
	out := false
	for _, ev := range k.History.Line {
		if ev.Device != nil && ev.Device.ID == device {
			out = ev.Op == keys.RevokeDevice
		}
	}
	return out
}

// meetOwn decides about a session with another device of this user: whole when both have the key that stands; about keys alone while
// one of them lacks it and the device is on the list of this device or of the history that stands.
func (e *Engine) meetOwn(ctx context.Context, p Peer, k UserKeys) (keysOnly bool, err error) {
	d := keys.Device{ID: p.DeviceID, Key: p.DeviceKey}
	line := e.lineState()
	listed := k.History.State.Listed(d) || line.Listed(d)
	switch {
	case k.Pin.Genesis != p.Genesis.Hash(), revoked(k, p.DeviceID) && !line.Listed(d):
		return false, ErrKeyRefused
	case k.Pin.Key == p.UserKey && !k.Pin.Ended:
		if revoked(k, p.DeviceID) {
			return false, ErrKeyRefused
		}
		if listed && k.Pin.Key == e.cfg.Identity.User.Public() {
			e.met(ctx, p.DeviceID)
		}
		return false, nil
	case listed:
		return true, nil
	}
	return false, ErrKeyRefused
}

// AdmitsDevice tells whether a device that proved its key may be connected with, beyond what Admits says of its user: one of this user's
// under a key that was replaced must be on the list of devices.
func (e *Engine) AdmitsDevice(user peercrypto.ID, key peercrypto.PublicKey, device keys.Device) bool {
	return !e.Superseded(user, key) || e.lineState().Listed(device)
}

// Superseded tells whether a key is one of this user's that was replaced. Devices under it are not to be sought: who has the key can
// pretend to be any of them until asked for a proof. A device that is to get the new key comes by itself.
func (e *Engine) Superseded(user peercrypto.ID, key peercrypto.PublicKey) bool {
	if user != e.userID || key == e.cfg.Identity.User.Public() {
		return false
	}
	return key == e.cfg.Identity.Genesis.Key || slices.ContainsFunc(e.line, func(ev keys.Event) bool { return ev.Key != nil && *ev.Key == key })
}

// tellOwn tells another own device what it may have to know of keys: that this one lacks the key that the other one showed, and what is
// to be signed.
func (s *Session) tellOwn() {
	generation := s.e.ownGeneration.Load()
	if s.peer.UserID != s.e.userID || generation == s.loop.ownGeneration {
		return
	}
	told := s.slowly(func(ctx context.Context) {
		k, err := s.e.observe(ctx, s.e.userID, nil, nil)
		if err != nil {
			s.e.log.Warn("the own keys could not be read", "err", err)
			return
		}
		if chain := s.e.chain(k); chain != nil {
			s.tell(chain.encode(frameChain))
		}
		s.note(ctx, noteOwn{k.Pin.Usable() && k.Pin.Key == s.peer.UserKey && k.Pin.Key != s.e.cfg.Identity.User.Public()})
	})
	if told {
		s.loop.ownGeneration = generation
	}
}

type noteOwn struct{ needed bool }

// ownNoted asks for the key, once.
func (s *Session) ownNoted(n noteOwn) {
	if !n.needed || !s.loop.need.Eph.IsZero() {
		return
	}
	secret, err := peercrypto.GenerateBoxKey()
	if err != nil {
		s.fail(err)
		return
	}
	need := keyNeed{V: 1, User: s.e.userID, From: s.e.deviceID, To: s.peer.DeviceID, Eph: secret.Public()}
	need.Sig = s.e.cfg.Identity.Device.SignPurpose(peercrypto.PurposeKeyRequest, need.unsigned())
	s.loop.need, s.loop.needSecret = need, secret
	if raw, err := peercrypto.MarshalCanonical(need); err == nil {
		s.tell(ownFrame(raw).encode(frameNeed))
	}
}

// handleOwn takes the frames of another own device.
func (s *Session) handleOwn(t frameType, raw ownFrame) {
	if s.peer.UserID != s.e.userID {
		return
	}
	var do func(context.Context) error
	switch t {
	case frameNeed:
		if s.loop.needs++; s.loop.needs > maxNeeds {
			return
		}
		do = func(ctx context.Context) error { return s.give(ctx, raw) }
	case frameGive:
		need, secret := s.loop.need, s.loop.needSecret
		if need.Eph.IsZero() {
			return
		}
		s.loop.need = keyNeed{}
		do = func(ctx context.Context) error { return s.e.takeKey(ctx, need, secret, raw) }
	case frameChain:
		do = func(ctx context.Context) error { return s.e.takeChain(ctx, raw) }
	}
	s.slowly(func(ctx context.Context) {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			s.e.log.Warn("another of your devices and this one could not agree on keys", "device", s.peer.DeviceID.Short(), "err", err)
		}
	})
}

// give sends the key to a device on the list that asks for it, and to nobody else.
func (s *Session) give(ctx context.Context, raw ownFrame) error {
	var need keyNeed
	if err := peercrypto.UnmarshalStrict(raw, &need); err != nil {
		return fmt.Errorf("reading a request for the key: %w", err)
	}
	k, err := s.e.observe(ctx, s.e.userID, nil, nil)
	if err != nil {
		return err
	}
	d := keys.Device{ID: s.peer.DeviceID, Key: s.peer.DeviceKey}
	if !k.History.State.Listed(d) || need.V != 1 || need.User != s.e.userID || need.From != d.ID || need.To != s.e.deviceID ||
		!d.Key.VerifyPurpose(peercrypto.PurposeKeyRequest, need.unsigned(), need.Sig) {
		return fmt.Errorf("giving the key to device %s: it is not on your list of devices: %w", d.ID.Short(), ErrKeyRefused)
	}
	what, err := s.e.secretNow(k)
	if err != nil {
		return err
	}
	gift, err := sealGift(need.Eph, need.unsigned(), what)
	if err != nil {
		return err
	}
	out, err := peercrypto.MarshalCanonical(gift)
	if err != nil {
		return err
	}
	s.tell(ownFrame(out).encode(frameGive))
	s.e.log.Info("the user's key was given to another of its devices", "device", d.ID.Short())
	return nil
}

// takeKey stores a key that another own device gave, if it is the one that the history says is the user's.
func (e *Engine) takeKey(ctx context.Context, need keyNeed, secret peercrypto.BoxSecretKey, raw ownFrame) error {
	var gift keyGift
	if err := peercrypto.UnmarshalStrict(raw, &gift); err != nil {
		return fmt.Errorf("reading a key: %w", err)
	}
	what, key, err := gift.open(secret, need.unsigned())
	if err != nil {
		return err
	}
	k, err := e.observe(ctx, e.userID, nil, what.Events)
	if err != nil {
		return err
	}
	switch {
	case !k.Pin.Usable() || k.History.State.Key() != key.Public():
		return errors.New("the key that came is not the one of the history")
	case key.Public() == e.cfg.Identity.User.Public():
		return nil
	}
	if err := e.keepKey(ctx, key, k.History.Line, e.soundTopics(what.Topics), true); err != nil {
		return fmt.Errorf("storing a key that came: %w", err)
	}
	e.log.Info("the user's new key came from another of its devices")
	return nil
}

// soundTopics are those that another device gave, and none for longer than this device would have them: they show that it is there.
func (e *Engine) soundTopics(topics []oldTopic) (out []oldTopic) {
	for _, t := range topics {
		if raw, err := peercrypto.DecodeB64u(t.Key); err == nil && len(raw) == 32 {
			out = append(out, oldTopic{t.Key, min(t.Until, e.now()+oldTopicFor.Milliseconds())})
		}
	}
	return out
}
