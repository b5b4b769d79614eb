package doctor

import (
	"net/netip"
	"testing"
)

func TestUnbelievedProxy(t *testing.T) {
	public, inner := netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("10.1.2.3")
	for _, tt := range []struct {
		seen    string
		dialled []netip.Addr
		want    bool
	}{
		{"127.0.0.1:1", []netip.Addr{public}, true},
		{"[::ffff:10.0.0.1]:1", []netip.Addr{public}, true},
		{"198.51.100.4:1", []netip.Addr{public}, false},
		{"10.0.0.1:1", []netip.Addr{inner}, false},
		{"127.0.0.1:1", []netip.Addr{public, inner}, false},
		{"127.0.0.1:1", nil, false},
		{"nonsense", []netip.Addr{public}, false},
	} {
		if got := unbelieved(tt.seen, tt.dialled); got != tt.want {
			t.Errorf("%s by %v: %v", tt.seen, tt.dialled, got)
		}
	}
}
