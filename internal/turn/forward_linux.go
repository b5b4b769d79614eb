package turn

import (
	"encoding/binary"
	"math/rand/v2"
	"unsafe"

	"github.com/pion/stun/v3"
)

const (
	attributeHead = 4

	// indicationHead is what a Data indication puts before the data, with an
	// IPv6 peer.
	indicationHead = stunHeader + attributeHead + 20 + attributeHead

	outward = 0 // in shard.tally
	inward  = 1
)

func (h *shard) eventsAt() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(h.events))) }

// fromClient handles the i-th packet of the batch, which is channel data: it
// ends in the list of packets that its relay sends, or in a counter.
func (h *shard) fromClient(i int, packet []byte) {
	m := h.server.metrics
	number := binary.BigEndian.Uint16(packet)
	length := int(binary.BigEndian.Uint16(packet[2:]))
	if length > len(packet)-channelHeader {
		m.drops.malformed.Inc()
		return
	}
	r := h.clients[h.in.names[i]]
	if r == nil {
		m.drops.noAllocation.Inc()
		return
	}
	c := r.routes.Load().numbered(number)
	switch {
	case c == nil:
		m.drops.noChannel.Inc()
		return
	case !c.permitted:
		m.toPeer.noPermission.Inc()
		return
	case !r.judge(&m.toPeer, &c.out, c.peer), !r.account(&m.toPeer, length, h.now):
		return
	}
	to := &c.wire.peer
	if c.out.other != nil {
		to = &c.wire.local // another relay of this server
	}
	h.toPeer[i] = parcel{packet[channelHeader : channelHeader+length], to}
	h.next[i] = -1
	if k := &r.hosted; k.waiting {
		h.next[k.tail] = int32(i)
		k.tail = int32(i)
	} else {
		k.waiting, k.first, k.tail = true, int32(i), int32(i)
		h.pending = append(h.pending, r)
	}
	h.tally[outward].packets++
	h.tally[outward].bytes += length
}

// sendToPeers sends what fromClient collected, one system call a relay.
func (h *shard) sendToPeers() {
	h.report()
	for n, r := range h.pending {
		k := &r.hosted
		for i := k.first; i >= 0; i = h.next[i] {
			h.peerBox.add(h.toPeer[i].data, h.toPeer[i].to)
		}
		if lost := h.peerBox.flush(k.sock); lost > 0 {
			h.server.metrics.toPeer.unsent.Add(float64(lost))
		}
		k.waiting = false
		h.pending[n] = nil
	}
	h.pending = h.pending[:0]
}

// fromPeers reads what came to the relay and puts it before the client.
func (h *shard) fromPeers(r *relay) {
	if h.backUsed > backBatch-peerBatch {
		h.sendToClients()
	}
	first := h.backUsed
	n, _ := h.back.receive(r.hosted.sock, first, peerBatch)
	h.backUsed += n
	h.handled += n
	for i := first; i < first+n; i++ {
		h.fromPeer(r, i)
	}
}

func (h *shard) fromPeer(r *relay, i int) {
	d := &h.server.metrics.toClient
	length := int(h.back.headers[i].Len)
	if length > maxPacket {
		d.tooLarge.Inc()
		return
	}
	c, from := r.routed(&h.back.names[i])
	if c == nil {
		h.indicate(r, i, from)
		return
	}
	switch {
	case !c.permitted:
		d.noPermission.Inc()
		return
	case !r.judge(d, &c.in, c.peer), !r.account(d, length, h.now):
		return
	}
	p := h.back.withHead(i)[indicationHead-channelHeader:]
	binary.BigEndian.PutUint16(p, c.number)
	binary.BigEndian.PutUint16(p[2:], uint16(length))
	h.toClient(r, p, length)
}

// routed returns the channel of a packet's sender, or nil and the sender as
// the client knows it.
func (r *relay) routed(from *rawAddr) (*channel, rawAddr) {
	sender := *from
	if f := r.family; f.ip != f.public && f.isLive(from.port()) {
		// Only here can it be that clients know the sender by another address.
		if ap := from.addrPort(); ap.Addr() == f.ip {
			sender = newRawAddr(r.hosted.sock.domain, f.toPublic(ap))
		}
	}
	t := r.routes.Load()
	if t.byPeer != nil {
		return t.byPeer[sender.addrPort()], sender
	}
	for _, c := range t.list {
		if c.wire.peer == sender {
			return c, sender
		}
	}
	return nil, sender
}

// indicate sends a packet of a peer without a channel as a Data indication.
func (h *shard) indicate(r *relay, i int, sender rawAddr) {
	d := &h.server.metrics.toClient
	from, length := sender.addrPort(), int(h.back.headers[i].Len)
	if !r.permitted(from.Addr()) {
		// Not accounted: anybody can send here.
		d.noPermission.Inc()
		return
	}
	if !r.judge(d, &r.in, from) || !r.account(d, length, h.now) {
		return
	}
	peerValue := 8
	if from.Addr().Is6() {
		peerValue = 20
	}
	head := stunHeader + attributeHead + peerValue + attributeHead
	padded := (length + 3) &^ 3
	whole := h.back.withHead(i)
	p := whole[indicationHead-head : indicationHead+padded : cap(whole)]
	clear(p[head+length:])
	writeIndication(p[:head], &sender, length)
	h.toClient(r, p, length)
}

// writeIndication writes what stands before the data of a Data indication.
func writeIndication(p []byte, from *rawAddr, length int) {
	peer := len(p) - stunHeader - 2*attributeHead
	padded := (length + 3) &^ 3
	typ := stun.NewType(stun.MethodData, stun.ClassIndication)
	binary.BigEndian.PutUint16(p, typ.Value())
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)-stunHeader+padded))
	binary.BigEndian.PutUint32(p[4:], stunCookie)
	binary.BigEndian.PutUint64(p[8:], rand.Uint64())
	binary.BigEndian.PutUint32(p[16:], rand.Uint32())

	v := p[stunHeader:]
	binary.BigEndian.PutUint16(v, uint16(stun.AttrXORPeerAddress))
	binary.BigEndian.PutUint16(v[2:], uint16(peer))
	v = v[attributeHead:]
	v[0] = 0
	binary.BigEndian.PutUint16(v[2:], from.port()^stunCookie>>16)
	// The address is mixed with the cookie and, in IPv6, the transaction.
	if peer == 8 {
		v[1] = familyIPv4
		for i := range 4 {
			v[4+i] = from.bytes[4+i] ^ p[4+i]
		}
	} else {
		v[1] = familyIPv6
		for i := range 16 {
			v[4+i] = from.bytes[8+i] ^ p[4+i]
		}
	}
	v = v[peer:]
	binary.BigEndian.PutUint16(v, uint16(stun.AttrData))
	binary.BigEndian.PutUint16(v[2:], uint16(length))
}

func (h *shard) toClient(r *relay, p []byte, length int) {
	h.backBox.add(p, &r.hosted.client)
	h.tally[inward].packets++
	h.tally[inward].bytes += length
}

// sendToClients sends what fromPeers collected, in one system call.
func (h *shard) sendToClients() {
	h.report()
	if lost := h.backBox.flush(h.sock); lost > 0 {
		h.server.metrics.toClient.unsent.Add(float64(lost))
	}
	h.backUsed = 0
}
