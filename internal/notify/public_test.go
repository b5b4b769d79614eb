package notify

import (
	"errors"
	"net/http"
	"net/netip"
	"testing"
)

func TestPublicAddresses(t *testing.T) {
	for text, want := range map[string]bool{
		"8.8.8.8": true, "142.250.185.74": true, "2a00:1450:4001::200a": true, "::ffff:8.8.8.8": true,
		"127.0.0.1": false, "10.1.2.3": false, "169.254.169.254": false, "100.64.0.1": false, "0.0.0.0": false, "255.255.255.255": false,
		"168.63.129.16": false, "224.0.0.1": false, "::": false, "::1": false, "fe80::1%eth0": false, "fd00:ec2::254": false, "ff02::1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.1.2.3": false, // mapped
		"::127.0.0.1": false, "::a9fe:a9fe": false, // compatible
		"::ffff:0:10.1.2.3": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b:1::1": false, "2002:7f00:1::": false, // translated
		"fec0::1": false, "2001::1": false, "2001:db8::1": false, "3fff::1": false, "5f00::1": false, "4000::1": false,
	} {
		if got := public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestRedirectsAreNotFollowed: a push service does not choose what the server fetches.
func TestRedirectsAreNotFollowed(t *testing.T) {
	c := publicClient()
	if c.CheckRedirect == nil || !errors.Is(c.CheckRedirect(nil, nil), http.ErrUseLastResponse) {
		t.Error("the client of push services follows redirects")
	}
}
