package link_test

import (
	"errors"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
	"github.com/peersignal/peersignal/pkg/wire"
)

func certOf(t *testing.T, id peercrypto.Identity) peercrypto.DeviceCert {
	t.Helper()
	cert, err := id.Cert(time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// A notification reaches a device that is connected with the server, and one that comes back, once.
func TestNotify(t *testing.T) {
	url, _ := startServer(t, "")
	id, doc := testIdentity(t)
	a := startDevice(t, url, nil)
	b := startIdentity(t, url, id, doc, nil)
	a.sees(b)
	cert := certOf(t, id)
	got, err := a.link.Notify(testContext(t), cert, testTag, []byte("hello"), link.NotifyOptions{})
	if err != nil || got != link.Delivered {
		t.Fatalf("%s, %v", got, err)
	}
	n := await(b, "notification", func(link.Notification) bool { return true })
	if string(n.Body) != "hello" || n.Remote.DeviceID != a.deviceID() || len(n.Remote.Via) != 1 {
		t.Errorf("got %+v", n)
	}
	stranger, _ := testIdentity(t)
	_, err = a.link.Notify(testContext(t), certOf(t, stranger), testTag, nil, link.NotifyOptions{PushToken: "AAAA"})
	if r, ok := errors.AsType[*link.RefusedError](err); !ok || r.Code != wire.CodeUnavailable {
		t.Errorf("a server that does not push: %v", err)
	}
	for _, o := range []link.NotifyOptions{{Life: -1}, {Life: link.MaxNotificationLife + 1}} {
		if _, err := a.link.Notify(testContext(t), cert, testTag, nil, o); !errors.Is(err, link.ErrNotification) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := a.link.Notify(testContext(t), cert, testTag, make([]byte, link.MaxNotification+1), link.NotifyOptions{}); !errors.Is(err, link.ErrNotification) {
		t.Errorf("a long body: %v", err)
	}
	if _, err := a.link.PushKey(testContext(t)); err == nil {
		t.Error("a server that does not push has a key")
	}
}

// TestNotificationIsToldOnce: a server that repeats a notification, or passes one on as if it came from a device of the same user, is not believed.
func TestNotificationIsToldOnce(t *testing.T) {
	r := newRelay(t)
	b := startDevice(t, r.url(), nil)
	published(t, b)
	other, _ := testIdentity(t)
	own := b.id
	key, err := peercrypto.GenerateSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	own.Device, own.DeviceCreated = key, own.DeviceCreated+1
	forged, err := link.ForgeNote(other, victimCert(t, r, b))
	if err != nil {
		t.Fatal(err)
	}
	genuine, err := link.ForgeNote(own, victimCert(t, r, b))
	if err != nil {
		t.Fatal(err)
	}
	r.inject(b.deviceID(), forged)
	refusals(t, b, "notification")
	for range 3 {
		r.inject(b.deviceID(), genuine)
	}
	eventually(t, "all are refused but one", func() bool { return b.link.Status().Refused["notification"] == 3 })
	got := await(b, "notification", func(link.Notification) bool { return true })
	if got.Remote.UserID != b.id.UserID() || count(b, func(link.Notification) bool { return true }) != 1 {
		t.Errorf("got %+v", got)
	}
}
