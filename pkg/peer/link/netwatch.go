package link

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"time"
)

// errNetworkChanged ends a session whose local address is gone.
var errNetworkChanged = errors.New("network changed: the address of the session is gone")

// NetworkChanged says that the network may have changed: the system told so, or
// it woke from sleep. Addresses are looked at once instead of within three
// seconds: the session with the server and the connections whose local address
// is gone are made anew, and what was lost is tried again now. Calling it too
// often does no harm.
func (l *Link) NetworkChanged() { signal(l.network) }

// watchNetwork looks for changes of this machine's addresses until ctx ends.
func (l *Link) watchNetwork(ctx context.Context) {
	have := l.addresses(nil)
	ticker := time.NewTicker(l.cfg.timing.poll)
	defer ticker.Stop()
	for {
		told := false
		select {
		case <-ticker.C:
		case <-l.network:
			told = true
		case <-ctx.Done():
			return
		}
		now := l.addresses(have)
		if told || !maps.Equal(have, now) {
			have = now
			l.onNetwork(now)
		}
	}
}

// addresses returns the set of this machine's addresses, or the last one when
// they can't be read.
func (l *Link) addresses(last map[netip.Addr]struct{}) map[netip.Addr]struct{} {
	list, err := l.cfg.Addresses()
	if err != nil {
		l.cfg.Logger.Warn("listing the addresses of this machine", "err", err)
		return last
	}
	set := make(map[netip.Addr]struct{}, len(list))
	for _, a := range list {
		set[plainAddr(a)] = struct{}{}
	}
	return set
}

// onNetwork renews what depends on addresses that are gone.
func (l *Link) onNetwork(have map[netip.Addr]struct{}) {
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s != nil && (anchor{addr: s.local}).gone(have) {
		s.cancel(errNetworkChanged)
	} else {
		l.urge()
	}
	for _, c := range l.Conns() {
		c.keeper.onNetwork(have)
	}
}

// urge makes sure that there is a session: one that stands has to answer a ping
// soon, and a pause between two attempts ends, if the server did not ask for it.
func (l *Link) urge() {
	if s := l.currentSession(); s != nil {
		signal(s.probe)
		return
	}
	signal(l.urgent)
}
