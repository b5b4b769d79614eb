package peer

import (
	"cmp"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// Status is a snapshot of a peer's connections.
type Status struct {
	User, Device peercrypto.ID
	Name         string
	// Offline is set when no server is configured; Server is empty then.
	Offline bool
	Server  link.Status
	// Devices are those present or connected, in the order of their ids.
	Devices []DeviceStatus
}

// DeviceStatus is one other device.
type DeviceStatus struct {
	Device, User peercrypto.ID
	Present      bool // on a topic of ours at the signaling server
	Connected    bool
	Pursued      bool      // being dialled, or to be dialled when a delay is over
	Since        time.Time // of the connection
	Outgoing     bool
	Syncing      bool // a session runs
	Stats        link.Stats
	Failures     int   // attempts and short connections in a row
	LastError    error // of the last attempt or connection; nil when connected
	// Groups are those of the session: whether both devices hold the same, and
	// how many entries are held here and there.
	Groups []groupsync.SessionGroup
}

// Relayed tells whether the connection goes through a TURN relay.
func (d DeviceStatus) Relayed() bool {
	return d.Stats.LocalCandidateType == "relay" || d.Stats.RemoteCandidateType == "relay"
}

// Status returns a snapshot.
func (p *Peer) Status() Status {
	s := Status{User: p.User(), Device: p.self, Name: p.cfg.Name, Offline: p.link == nil}
	if p.link != nil {
		s.Server = p.link.Status()
	}
	conns := map[peercrypto.ID]*link.Conn{}
	p.mu.Lock()
	for _, d := range p.devices {
		ds := DeviceStatus{
			Device: d.id, User: d.user, Present: d.present(), Connected: d.conn != nil,
			Pursued: d.pursuit != nil, Failures: d.failures, LastError: d.lastErr,
		}
		if c := d.conn; c != nil {
			ds.Since, ds.Outgoing, ds.Syncing = c.since, c.conn.Outgoing(), c.running
			conns[d.id] = c.conn
		}
		s.Devices = append(s.Devices, ds)
	}
	p.mu.Unlock()
	groups := map[peercrypto.ID][]groupsync.SessionGroup{}
	for _, s := range p.engine.Sessions() {
		groups[s.Peer.DeviceID] = s.Groups
	}
	for i := range s.Devices {
		if c := conns[s.Devices[i].Device]; c != nil {
			s.Devices[i].Stats = c.Stats()
			s.Devices[i].Groups = groups[s.Devices[i].Device]
		}
	}
	slices.SortFunc(s.Devices, func(a, b DeviceStatus) int { return cmp.Compare(a.Device, b.Device) })
	return s
}
