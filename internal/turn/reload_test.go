package turn_test

import (
	"net"
	"strings"
	"testing"

	"github.com/peersignal/peersignal/internal/turn"
)

// A running server takes other secrets and peers; what is wrong changes nothing.
func TestReload(t *testing.T) {
	older := turn.Secret{ID: "old", Key: []byte(strings.Repeat("o", 32))}
	newer := turn.Secret{ID: "new", Key: []byte(strings.Repeat("n", 32))}
	r := start(t, func(c *turn.Config) {
		c.Secrets, c.AllowPeers = []turn.Secret{older}, []string{"127.0.0.2/32"}
	})
	c := r.credentials("s1", "alice")
	_, a := r.allocate("udp", "s2", "bob")
	peer, err := net.ListenPacket("udp", "127.0.0.2:0")
	if err != nil {
		t.Skip("this system has no 127.0.0.2")
	}
	defer peer.Close()
	meet(t, a, peer)

	for _, wrong := range []turn.Live{
		{Secrets: []turn.Secret{{ID: "new", Key: []byte("short")}}, DenyPeers: []string{"127.0.0.2/32"}},
		{Secrets: []turn.Secret{newer}, DenyPeers: []string{"127.0.0.2"}},
	} {
		if err := r.Reload(wrong); err == nil {
			t.Errorf("%v is accepted", wrong)
		}
	}
	meet(t, a, peer)
	if name := r.credentials("s1", "alice").Username; !strings.Contains(name, ":old:") {
		t.Errorf("%q is not of the old secret", name)
	}

	if err := r.Reload(turn.Live{Secrets: []turn.Secret{newer}, DenyPeers: []string{"127.0.0.2/32"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.WriteTo([]byte("after the reload"), peer.LocalAddr()); err == nil {
		silent(t, peer)
	}
	r.refused(c)
	if name := r.credentials("s1", "alice").Username; !strings.Contains(name, ":new:") {
		t.Errorf("%q is not of the new secret", name)
	}

	if err := r.Reload(turn.Live{}); err != nil {
		t.Fatal(err)
	}
	if name := r.credentials("s1", "alice").Username; !strings.Contains(name, ":new:") {
		t.Errorf("%q: without secrets those that there are stay", name)
	}
}
