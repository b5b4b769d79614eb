package link

import (
	"slices"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// presence is what the server says about who holds our topics. The link's mutex
// guards it.
type presence struct {
	devices map[peercrypto.ID]*presentDevice
	topics  map[peercrypto.Tag]map[peercrypto.ID]struct{}
}

type presentDevice struct {
	cert peercrypto.DeviceCert
	tags []peercrypto.Tag // in the order in which the device was seen there
}

func newPresence() presence {
	return presence{
		devices: make(map[peercrypto.ID]*presentDevice),
		topics:  make(map[peercrypto.Tag]map[peercrypto.ID]struct{}),
	}
}

// join adds a device to a topic. It reports false when there is no room.
func (p *presence) join(tag peercrypto.Tag, cert peercrypto.DeviceCert) bool {
	id := cert.DeviceID
	members := p.topics[tag]
	d := p.devices[id]
	if _, in := members[id]; !in {
		if len(members) >= MaxPeersPerTopic || d == nil && len(p.devices) >= MaxPeers {
			return false
		}
		if members == nil {
			members = make(map[peercrypto.ID]struct{})
			p.topics[tag] = members
		}
		members[id] = struct{}{}
		if d == nil {
			d = &presentDevice{cert: cert}
			p.devices[id] = d
		}
		d.tags = append(d.tags, tag)
	}
	if cert.Issued > d.cert.Issued || cert.UserKey != d.cert.UserKey {
		d.cert = cert
	}
	return true
}

// leave removes a device from a topic and reports whether it was there.
func (p *presence) leave(tag peercrypto.Tag, id peercrypto.ID) bool {
	members := p.topics[tag]
	if _, in := members[id]; !in {
		return false
	}
	delete(members, id)
	if len(members) == 0 {
		delete(p.topics, tag)
	}
	d := p.devices[id]
	d.tags = slices.DeleteFunc(d.tags, func(t peercrypto.Tag) bool { return t == tag })
	if len(d.tags) == 0 {
		delete(p.devices, id)
	}
	return true
}

// onPresent applies a present message. Certificates are verified outside of the
// lock; those that are known are not verified again.
func (l *Link) onPresent(m *wire.Present) {
	certs := make([]peercrypto.DeviceCert, 0, len(m.Join))
	for _, j := range m.Join {
		if j.Cert.DeviceID == l.device {
			continue
		}
		if !l.knownCert(j.Cert) {
			if err := j.Cert.Verify(l.cfg.Now()); err != nil {
				l.refused.add("presence with a bad certificate")
				continue
			}
		}
		certs = append(certs, j.Cert)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ours := l.topics[m.Tag]; !ours {
		return // dropped meanwhile
	}
	if m.Full {
		l.replaceTopicLocked(m.Tag, certs)
	}
	for _, c := range certs {
		if _, known := l.peers.topics[m.Tag][c.DeviceID]; known && !m.Full {
			l.restartedLocked(c.DeviceID)
		}
		if !l.peers.join(m.Tag, c) {
			l.refused.add("presence over the limit")
			continue
		}
		if conn := l.conns[c.DeviceID]; conn != nil {
			conn.keeper.retry()
		}
		r := remoteOf(c)
		r.Via = []peercrypto.Tag{m.Tag}
		l.queue.push(Discovered{Remote: r, Tag: m.Tag})
	}
	for _, id := range m.Leave {
		if l.peers.leave(m.Tag, id) {
			l.queue.push(Gone{DeviceID: id, Tag: m.Tag})
			l.wakeLocked(id)
		}
		if l.peers.devices[id] == nil {
			l.restartedLocked(id)
		}
	}
}

// restartedLocked ends a negotiation with a device whose session at the server ended: what it was sent may be lost, and
// as long as the attempt waits for it no other one is made. A negotiation that had everything is made again at once.
func (l *Link) restartedLocked(id peercrypto.ID) {
	if a := l.attempts[id]; a != nil {
		a.cancel(ErrDeviceGone)
	}
}

func (l *Link) knownCert(c peercrypto.DeviceCert) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.peers.devices[c.DeviceID]
	return d != nil && d.cert == c
}

// replaceTopicLocked removes from a topic who is not in the full list that
// begins with certs.
func (l *Link) replaceTopicLocked(tag peercrypto.Tag, certs []peercrypto.DeviceCert) {
	still := make(map[peercrypto.ID]struct{}, len(certs))
	for _, c := range certs {
		still[c.DeviceID] = struct{}{}
	}
	for id := range l.peers.topics[tag] {
		if _, ok := still[id]; !ok && l.peers.leave(tag, id) {
			l.queue.push(Gone{DeviceID: id, Tag: tag})
			l.wakeLocked(id)
		}
	}
}

// dropTopicLocked forgets who was seen on a topic.
func (l *Link) dropTopicLocked(tag peercrypto.Tag) {
	for id := range l.peers.topics[tag] {
		if l.peers.leave(tag, id) {
			l.queue.push(Gone{DeviceID: id, Tag: tag})
		}
	}
}

// routeLocked chooses the topic for an offer to a device: a current one without
// a salt, else a current one, else any.
func (l *Link) routeLocked(d *presentDevice) (Topic, bool) {
	best, rank := Topic{}, -1
	for _, tag := range d.tags {
		t, ok := l.topics[tag]
		if !ok {
			continue
		}
		r := 0
		if !t.ListenOnly {
			r += 2
		}
		if t.EnvSalt == [32]byte{} {
			r++
		}
		if r > rank {
			best, rank = t, r
		}
	}
	return best, rank >= 0
}
