package turn

import (
	"encoding/binary"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxSegments and maxSegmented bound one message of equal packets: the
	// kernel takes 64, and no more than fit into an IP packet.
	maxSegments  = 64
	maxSegmented = 60_000

	// segmentPause is how long packets go one by one after a message of several
	// was refused: the route's MTU or the device may be in the way.
	segmentPause = time.Second
)

var segmentSpace = unix.CmsgSpace(2)

// outbox collects packets to send from one socket in one system call. Packets
// of one size that go to one address after each other, and a shorter one behind
// them, become one message that the kernel or the device cuts up again
// (UDP_SEGMENT): what crosses the network is the same, and costs a fraction.
type outbox struct {
	headers  []unix.Mmsghdr
	vectors  []unix.Iovec // of all messages, packet by packet
	controls []byte       // the segment size of each message
	messages int
	packets  int

	segments    bool // the kernel knows UDP_SEGMENT
	resumeAfter int64
	now         int64 // nanoseconds

	// Of the last message.
	to           *rawAddr
	size, length int  // of its first packet, and of all
	closed       bool // it ends with a shorter packet
}

func newOutbox(n int, segments bool) *outbox {
	return &outbox{
		headers: make([]unix.Mmsghdr, n), vectors: make([]unix.Iovec, n), controls: make([]byte, n*segmentSpace),
		segments: segments,
	}
}

// knowsSegments says whether the kernel can cut messages into packets.
func knowsSegments(fd int) bool {
	_, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	return err == nil
}

// add puts a packet at the end. Both p and to must stay until flush.
func (o *outbox) add(p []byte, to *rawAddr) {
	v := &o.vectors[o.packets]
	o.packets++
	v.Base = unsafe.SliceData(p)
	v.SetLen(len(p))
	if o.joins(p, to) {
		h := &o.headers[o.messages-1].Hdr
		if h.Iovlen == 1 {
			o.control(o.messages - 1)
		}
		h.Iovlen++
		o.length += len(p)
		o.closed = len(p) < o.size
		return
	}
	h := &o.headers[o.messages].Hdr
	h.Name, h.Namelen = &to.bytes[0], to.size
	h.Iov = v
	h.SetIovlen(1)
	h.Control = nil
	h.SetControllen(0)
	o.messages++
	o.to, o.size, o.length, o.closed = to, len(p), len(p), len(p) == 0
}

// joins says whether the packet can be a part of the last message.
func (o *outbox) joins(p []byte, to *rawAddr) bool {
	return o.segments && o.messages > 0 && o.now >= o.resumeAfter && !o.closed && len(p) > 0 && len(p) <= o.size &&
		o.length+len(p) <= maxSegmented && o.headers[o.messages-1].Hdr.Iovlen < maxSegments &&
		(to == o.to || *to == *o.to)
}

// control writes the control message that gives the i-th message its segments.
func (o *outbox) control(i int) {
	c := o.controls[i*segmentSpace : (i+1)*segmentSpace]
	h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(c)))
	h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(c[unix.CmsgLen(0):], uint16(o.size))
	m := &o.headers[i].Hdr
	m.Control = unsafe.SliceData(c)
	m.SetControllen(segmentSpace)
}

// flush sends what was collected and returns how many packets were lost. A
// message that cannot be sent is passed over; when the buffer is full the rest
// is lost, as it would be in a network.
func (o *outbox) flush(s *rawSocket) (lost int) {
	batch := o.headers[:o.messages]
	o.messages, o.packets = 0, 0
	for len(batch) > 0 {
		n, errno := s.call(unix.SYS_SENDMMSG, batch)
		switch errno {
		case 0:
		case unix.EINTR:
			continue
		case unix.EAGAIN, unix.ENOBUFS, unix.EBADF:
			for i := range batch {
				lost += int(batch[i].Hdr.Iovlen)
			}
			return lost
		default:
			lost, n = lost+o.sendApart(s, &batch[0].Hdr), 1
		}
		batch = batch[n:]
	}
	return lost
}

// sendApart sends the packets of a refused message one by one, unless there is
// only one.
func (o *outbox) sendApart(s *rawSocket, h *unix.Msghdr) (lost int) {
	if h.Iovlen == 1 {
		return 1
	}
	o.resumeAfter = o.now + int64(segmentPause)
	for _, v := range unsafe.Slice(h.Iov, int(h.Iovlen)) {
		one := [1]unix.Mmsghdr{{Hdr: *h}}
		one[0].Hdr.Iov = &v
		one[0].Hdr.SetIovlen(1)
		one[0].Hdr.Control = nil
		one[0].Hdr.SetControllen(0)
		if n, _ := s.call(unix.SYS_SENDMMSG, one[:]); n == 0 {
			lost++
		}
	}
	return lost
}
