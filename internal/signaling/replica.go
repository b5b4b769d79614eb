package signaling

import (
	"bytes"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// maxPeers bounds the nodes of a cluster.
const maxPeers = 256

// peer is another node and the copy of its state. Guarded by hub.mu.
type peer struct {
	inc     uint64
	seq     uint64 // last announcement applied
	synced  bool   // a whole state was received, seq is meaningful
	seen    time.Time
	wanted  time.Time // when its state was last asked for
	members map[peercrypto.Nonce]*member
	snap    *snapshot // being received
}

type snapshot struct {
	seq      uint64
	next     int // part
	sessions map[peercrypto.Nonce]*busSession
}

// learnLocked takes what another node says about itself.
func (c *cluster) learnLocked(m *busMsg, now time.Time) {
	p := c.peerLocked(m, now)
	if p == nil {
		return
	}
	p.seen = now
	switch m.Kind {
	case busLeave:
		c.forgetLocked(m.From, p)
	case busSnap:
		c.snapLocked(m, p)
	case busBeat:
		if !p.synced || m.Seq != p.seq {
			c.wantLocked(m.From, p, now)
		}
	case busUp, busTags, busDown:
		switch {
		case !p.synced || m.Seq > p.seq+1:
			c.wantLocked(m.From, p, now)
		case m.Seq == p.seq+1:
			p.seq = m.Seq
			c.applyLocked(m, p)
		}
	}
}

// peerLocked finds the node, or begins anew with a node that has started anew.
func (c *cluster) peerLocked(m *busMsg, now time.Time) *peer {
	p := c.peers[m.From]
	if p != nil && p.inc == m.Inc {
		return p
	}
	if p != nil {
		c.forgetLocked(m.From, p)
	}
	if m.Kind == busLeave {
		return nil
	}
	if len(c.peers) >= maxPeers {
		c.log.Error("too many nodes on the bus", "node", m.From)
		return nil
	}
	p = &peer{inc: m.Inc, members: make(map[peercrypto.Nonce]*member)}
	c.peers[m.From] = p
	c.log.Info("node joined", "node", m.From)
	c.wantLocked(m.From, p, now)
	c.beatLocked(m.From) // so that it learns of this one at once
	return p
}

func (c *cluster) forgetLocked(name string, p *peer) {
	for _, m := range p.members {
		c.hub.removeLocked(m, "")
	}
	delete(c.peers, name)
}

// wantLocked asks a node for its whole state, not more often than it can come.
func (c *cluster) wantLocked(name string, p *peer, now time.Time) {
	if now.Sub(p.wanted) < c.heartbeat/2 {
		return
	}
	p.wanted = now
	c.metrics.resyncs.Inc()
	c.enqueue(name, busMsg{Kind: busWant})
}

// applyLocked applies one announcement.
func (c *cluster) applyLocked(m *busMsg, p *peer) {
	switch m.Kind {
	case busUp:
		c.sessionUpLocked(m.From, p, &m.Sessions[0])
	case busDown:
		if known := p.members[*m.Session]; known != nil {
			delete(p.members, *m.Session)
			c.hub.removeLocked(known, "")
		}
	case busTags:
		known := p.members[*m.Session]
		if known == nil || known.gone {
			return
		}
		add, del := effective(known.tags, m.Add, m.Del)
		c.hub.changeTopicsLocked(known, add, del)
	}
}

// sessionUpLocked takes over a session of another node. Of two sessions of one
// device the one that started later wins, everywhere.
func (c *cluster) sessionUpLocked(node string, p *peer, s *busSession) *member {
	if s.Cert == nil {
		return nil
	}
	m := &member{
		session: s.Session, device: s.Cert.DeviceID, deviceKey: s.Cert.DeviceKey, userKey: s.Cert.UserKey,
		cert: s.Cert.Canonical(), node: node, started: s.Started,
	}
	if old := c.hub.devices[m.device]; old != nil {
		if old.deviceKey != m.deviceKey || newer(old, m) {
			return nil // its own node ends it when it hears of ours
		}
		c.hub.replaceLocked(old)
	}
	c.hub.insertLocked(m)
	p.members[m.session] = m
	return m
}

func newer(a, b *member) bool {
	if a.started != b.started {
		return a.started > b.started
	}
	return bytes.Compare(a.session[:], b.session[:]) > 0
}

// snapLocked collects the parts of a whole state, and applies the last one.
func (c *cluster) snapLocked(m *busMsg, p *peer) {
	if m.Part == 0 {
		p.snap = &snapshot{seq: m.Seq, sessions: make(map[peercrypto.Nonce]*busSession)}
	}
	if p.snap == nil || m.Part != p.snap.next || m.Seq != p.snap.seq {
		p.snap = nil // a part was lost: the next heartbeat asks again
		return
	}
	p.snap.next++
	for i := range m.Sessions {
		s := &m.Sessions[i]
		if known := p.snap.sessions[s.Session]; known != nil {
			known.Tags = append(known.Tags, s.Tags...)
		} else {
			p.snap.sessions[s.Session] = s
		}
	}
	if !m.Last {
		return
	}
	for id, known := range p.members {
		if p.snap.sessions[id] == nil {
			delete(p.members, id)
			c.hub.removeLocked(known, "")
		}
	}
	for id, s := range p.snap.sessions {
		c.mergeLocked(m.From, p, id, s)
	}
	p.seq, p.synced, p.snap = p.snap.seq, true, nil
}

// mergeLocked makes the copy of one session what the snapshot says.
func (c *cluster) mergeLocked(node string, p *peer, id peercrypto.Nonce, s *busSession) {
	known := p.members[id]
	if known == nil {
		known = c.sessionUpLocked(node, p, s)
	}
	if known == nil || known.gone {
		return
	}
	wanted := make(map[peercrypto.Tag]bool, len(s.Tags))
	for _, tag := range s.Tags {
		wanted[tag] = true
	}
	var dropped []peercrypto.Tag
	for tag := range known.tags {
		if !wanted[tag] {
			dropped = append(dropped, tag)
		}
	}
	add, del := effective(known.tags, s.Tags, dropped)
	c.hub.changeTopicsLocked(known, add, del)
}

// publishSnapshot sends the state of this node to another, in parts. What was
// announced before it is in it; what is announced later is queued behind it.
func (c *cluster) publishSnapshot(node string) {
	seq, sessions := c.state()
	msg := busMsg{Kind: busSnap, Seq: seq}
	size := 0
	flush := func(last bool) {
		part := msg.Part
		msg.Last = last
		c.publish(node, &msg)
		msg = busMsg{Kind: busSnap, Seq: seq, Part: part + 1}
		size = 0
	}
	for _, s := range sessions {
		for tags := s.Tags; ; {
			n := min(len(tags), busTagsPart)
			s.Tags, tags = tags[:n], tags[n:]
			if size > 0 && size+768+32*n > busPart {
				flush(false)
			}
			msg.Sessions = append(msg.Sessions, s)
			size += 768 + 32*n
			if len(tags) == 0 {
				break
			}
			s.Cert = nil
		}
	}
	flush(true)
}

// state copies the sessions of this node and the number of the last
// announcement that they include.
func (c *cluster) state() (seq uint64, sessions []busSession) {
	h := c.hub
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, m := range h.devices {
		if !m.local() {
			continue
		}
		cert, err := peercrypto.ParseDeviceCert(m.cert)
		if err != nil {
			c.log.Error("certificate of a session cannot be read again", "error", err)
			continue
		}
		s := busSession{Session: m.session, Started: m.started, Cert: &cert}
		for tag := range m.tags {
			s.Tags = append(s.Tags, tag)
		}
		sessions = append(sessions, s)
	}
	return c.seq, sessions
}
