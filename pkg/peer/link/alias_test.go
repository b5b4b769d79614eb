package link

import "testing"

func TestAliasOf(t *testing.T) {
	const open, closed = "ws://localhost:80/v1/signal", "wss://a.example:443/v1/signal"
	for _, c := range []struct {
		name, from, told string
		insecure         bool
		url              string // "": refused
	}{
		{"TLS", closed, "b.example:444", false, "wss://b.example:444/v1/signal"},
		{"without TLS, as allowed", "ws://a.example:80/v1/signal", "b.example:80", true, "ws://b.example:80/v1/signal"},
		{"on this machine", open, "127.0.0.1:81", false, "ws://127.0.0.1:81/v1/signal"},
		{"from this machine to elsewhere", open, "b.example:80", false, ""},
		{"the server allows it itself", open, "b.example:80?insecure=1", false, ""},
		{"the server sends TLS elsewhere", closed, "b.example:80?insecure=1", false, "wss://b.example:80/v1/signal"},
		{"no name", closed, "user@b.example:80", true, ""},
		{"a path", closed, "b.example/x", true, ""},
	} {
		_, url, err := aliasOf(c.from, c.told, c.insecure)
		if url != c.url || (err == nil) != (c.url != "") {
			t.Errorf("%s: got %q, %v, want %q", c.name, url, err, c.url)
		}
	}
}
