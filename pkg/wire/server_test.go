package wire_test

import (
	"testing"

	"github.com/peersignal/peersignal/pkg/wire"
)

func TestCanonicalServer(t *testing.T) {
	for _, tt := range []struct{ url, name, ws string }{
		{"https://Example.ORG", "example.org:443", "wss://example.org:443/v1/signal"},
		{"wss://example.org:8443/", "example.org:8443", "wss://example.org:8443/v1/signal"},
		{"https://example.org./v1/signal", "example.org:443", "wss://example.org:443/v1/signal"},
		{"https://example.org:0443", "example.org:443", "wss://example.org:443/v1/signal"},
		{"https://xn--mnchen-3ya.example", "xn--mnchen-3ya.example:443", "wss://xn--mnchen-3ya.example:443/v1/signal"},
		{"http://localhost:8080", "localhost:8080", "ws://localhost:8080/v1/signal"},
		{"ws://127.0.0.1", "127.0.0.1:80", "ws://127.0.0.1:80/v1/signal"},
		{"http://[::1]:8080", "[::1]:8080", "ws://[::1]:8080/v1/signal"},
		{"https://[2001:DB8:0::1]", "[2001:db8::1]:443", "wss://[2001:db8::1]:443/v1/signal"},
		{"https://[::ffff:192.0.2.1]", "192.0.2.1:443", "wss://192.0.2.1:443/v1/signal"},
		{"http://10.0.0.1:8080?insecure=1", "10.0.0.1:8080", "ws://10.0.0.1:8080/v1/signal"},
		{"http://my_host:1?insecure=1", "my_host:1", "ws://my_host:1/v1/signal"},
	} {
		name, ws, err := wire.CanonicalServer(tt.url)
		if err != nil || name != tt.name || ws != tt.ws {
			t.Errorf("%s: got %q, %q, %v", tt.url, name, ws, err)
		}
	}
	for _, url := range []string{
		"", "example.org", "example.org:443", "ftp://example.org", "https://", "https://:443", "http://example.org",
		"ws://10.0.0.1", "https://user@example.org", "https://example.org/path", "https://example.org#x",
		"https://example.org?x=1", "https://example.org:0", "https://example.org:65536", "https://example.org:x",
		"https://example.org:", "https://münchen.example", "https://a..b", "https://a b", "https://127.1", "https://0x7f.0.0.0x1",
		"https://[fe80::1%25eth0]", "https://2130706433", "https://%65xample.org\x00", "https://example.org?insecure=0",
	} {
		if name, _, err := wire.CanonicalServer(url); err == nil {
			t.Errorf("%q was accepted as %q", url, name)
		}
	}
}
