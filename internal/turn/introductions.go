package turn

import (
	"net/netip"
	"sync"
)

// Introductions is what signaling knows about who was introduced to whom. Its
// methods are called for permissions, for channels and for the first packet to
// or from a peer, by the goroutines that relay: they must not block. They may
// be called from several goroutines.
type Introductions interface {
	// Introduced says whether the two sessions may meet. The sessions are
	// those that Server.Credentials was called with; it is symmetric.
	Introduced(a, b string) bool
	// IntroducedAddr says whether the session may meet one whose signaling
	// connection comes from the address, which is never IPv4-mapped.
	IntroducedAddr(session string, peer netip.Addr) bool
}

// maxNames bounds the sessions whose tags are known by name.
const maxNames = 1 << 16

// names finds the session of a tag, for Introductions: usernames hold keyed
// hashes. It has two generations, as sources has: sessions that are forgotten,
// after at least maxNames/2 newer ones, meet nobody until they ask for
// credentials again.
type names struct {
	mu         sync.Mutex
	young, old map[string]string
}

func newNames() *names { return &names{young: make(map[string]string)} }

func (n *names) add(tag, session string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.young[tag]; !ok && len(n.young) >= maxNames/2 {
		n.young, n.old = make(map[string]string), n.young
	}
	n.young[tag] = session
}

// of returns "" for an unknown tag.
func (n *names) of(tag string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s, ok := n.young[tag]; ok {
		return s
	}
	return n.old[tag]
}

// mayMeet says whether signaling introduced the relay's session to a peer:
// the session of the other relay, or without one whoever comes from the address.
func (r *relay) mayMeet(other *relay, peer netip.Addr) bool {
	by := r.server.cfg.Introductions
	switch {
	case by == nil:
		return true
	case r.session == "":
		return false
	case other == nil:
		return by.IntroducedAddr(r.session, peer)
	default:
		return other.session != "" && (other.session == r.session || by.Introduced(r.session, other.session))
	}
}

// mayPermit is mayMeet for a permission, which names no port: at an address of
// this relay it depends on the port, that is on each packet.
func (r *relay) mayPermit(peer netip.Addr) bool {
	return r.family.has(peer) || r.mayMeet(nil, peer)
}
