package load

import (
	"maps"
	"slices"
)

// advice says what an operator can do about a code.
var advice = map[string]string{
	"rate-limited":      "the server limits messages: raise --messages-per-10s and --offers-per-minute there, or send less with --rate here",
	"too-many-sessions": "the server limits sessions of one address: raise --max-sessions-per-address there, or send from more addresses with --from here",
	"server-full":       "the server has no room: raise --max-sessions there, or use fewer --devices here",
	"unknown-name":      "the server does not know the name that was dialled: start it with --name and this host:port",
	"use-name":          "this is an alias of the server: dial its canonical name",
	"too-large":         "the server refuses messages of this size, or so many topics: use a smaller --size or fewer --topics",
	"bad-time":          "the clocks of the two machines differ by more than 5 minutes",
	"http-429":          "the server limits connections that are not authenticated of one address: connect more slowly with --connections-per-second",
	"http-503":          "the server is full or stops: connect more slowly with --connections-per-second, or raise --max-sessions there",
	"http-400":          "this is not a peersignal server, or a proxy in front of it does not pass WebSocket upgrades",
	"http-404":          "this is not a peersignal server, or a proxy in front of it does not pass " + "its path",
	"not-allowed":       "the other device had left, or the two did not share the topic any more",
	"no-port":           "this machine has no free port towards the server: send from more addresses with --from, or use fewer --devices",
	"no-file":           "this process may not open more files: raise ulimit -n",
	"close-4003":        "this load read too slowly: use fewer --devices, a lower --rate, or another machine for it",
	"close-4005":        "the server ended sessions that went on sending: raise --messages-per-10s there, or send less with --rate here",
	"close-4007":        "devices were not authenticated in time: connect more slowly with --connections-per-second",
	"timeout":           "an answer did not arrive in time: the server or this machine is overloaded",
}

// advise explains the codes that came up, in a stable order.
func advise(counts ...map[string]uint64) []string {
	seen := map[string]bool{}
	for _, c := range counts {
		for code := range c {
			if text, ok := advice[code]; ok {
				seen[code+": "+text] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}
