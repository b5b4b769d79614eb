package link_test

import (
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
)

// hurried gives a dial up that nobody answers.
func hurried(c *link.Config) { c.DialTimeout = time.Second }

// TestOneUserIsBounded: a user who makes many devices has a part of the
// connections.
func TestOneUserIsBounded(t *testing.T) {
	r := newRelay(t)
	b := startDevice(t, r.url(), func(c *link.Config) { c.MaxConns = 8 }) // 1 of a user
	id, doc := testIdentity(t)
	again := id // another device of the same user
	fresh, _ := testIdentity(t)
	again.Device, again.DeviceBox, again.DeviceCreated = fresh.Device, fresh.DeviceBox, fresh.DeviceCreated
	first, second := startIdentity(t, r.url(), id, doc, nil), startIdentity(t, r.url(), again, doc, hurried)
	connect(t, first, b)
	second.sees(b)
	_, err := second.link.Dial(testContext(t), b.deviceID())
	if err == nil {
		t.Error("a user has two connections")
	}
	refusals(t, b, "offers over the limit")
	b.sees(second)
	_, err = b.link.Dial(testContext(t), second.deviceID())
	wantErr(t, err, link.ErrBusy)
	connect(t, startDevice(t, r.url(), nil), b)
	// The same device may come again.
	_ = first.link.Conns()[0].Close("again")
	eventually(t, "end", func() bool { return len(first.link.Conns()) == 0 })
	connect(t, first, b)
}

// TestInvitedAreBounded: strangers who come over the topic of an invitation
// have a part of the connections.
func TestInvitedAreBounded(t *testing.T) {
	r := newRelay(t)
	invited := []link.Topic{{Tag: peercrypto.Tag{9}, EnvSalt: [32]byte{9}}}
	b := startDevice(t, r.url(), func(c *link.Config) { c.MaxConns = 8 }) // 2 of invitations
	b.link.SetTopics(append([]link.Topic{{Tag: testTag}}, invited...))
	for i := range 3 {
		mod := hurried
		if i < 2 {
			mod = nil
		}
		stranger := startDevice(t, r.url(), mod)
		stranger.link.SetTopics(invited)
		if i < 2 {
			connect(t, stranger, b)
			continue
		}
		stranger.sees(b)
		if _, err := stranger.link.Dial(testContext(t), b.deviceID()); err == nil {
			t.Error("strangers have three connections")
		}
	}
	refusals(t, b, "offers over the limit")
	connect(t, startDevice(t, r.url(), nil), b)
}
