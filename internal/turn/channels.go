package turn

import "net/netip"

// fewChannels is up to how many channels a scan is as fast as a map.
const fewChannels = 8

// routes is what one relay forwards without pion: its channels, as they are
// now. It is immutable, and replaced when pion reports a change; so what has
// expired is gone from it.
type routes struct {
	list     []*channel
	byNumber map[uint16]*channel // nil for a few
	byPeer   map[netip.AddrPort]*channel
}

// channel is one channel binding.
type channel struct {
	number    uint16
	peer      netip.AddrPort
	permitted bool // the peer's address has a permission

	// Owned by the goroutine that forwards.
	out, in judgement
	wire    channelWire
}

var noRoutes = &routes{}

func newRoutes(f *family, channels map[uint16]netip.AddrPort, permitted map[netip.Addr]struct{}) *routes {
	if len(channels) == 0 {
		return noRoutes
	}
	t := &routes{list: make([]*channel, 0, len(channels))}
	if len(channels) > fewChannels {
		t.byNumber = make(map[uint16]*channel, len(channels))
		t.byPeer = make(map[netip.AddrPort]*channel, len(channels))
	}
	for number, peer := range channels {
		_, ok := permitted[peer.Addr()]
		c := &channel{number: number, peer: peer, permitted: ok}
		c.wire.set(f, peer)
		t.list = append(t.list, c)
		if t.byNumber != nil {
			t.byNumber[number], t.byPeer[peer] = c, c
		}
	}
	return t
}

// numbered returns the channel with the number, or nil.
func (t *routes) numbered(number uint16) *channel {
	if t.byNumber != nil {
		return t.byNumber[number]
	}
	for _, c := range t.list {
		if c.number == number {
			return c
		}
	}
	return nil
}
