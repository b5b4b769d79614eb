package turn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	clientBatch = 128 // packets read from a listening socket at once
	peerBatch   = 32  // packets read from one relay at once
	backBatch   = 128 // packets sent to clients at once
	maxEvents   = 128

	// A shard that handles more than busyRate packets a second rests for
	// restTime before it looks for more; the kernel adds about 50 microseconds.
	busyRate   = 20_000
	busyWindow = 5 * time.Millisecond
	restTime   = 50 * time.Microsecond
)

// shard is one of the UDP sockets that share a listening address, with the
// relays of the clients that the kernel gives to it. It is the wire of a front:
// pion's reading goroutine runs all of it inside of read. Channel data is
// forwarded here, in batches; read returns what is for pion.
type shard struct {
	// Static.
	server *Server
	sock   *rawSocket
	poll   int // epoll
	wakeup int // eventfd, readable when something is to be looked at

	// Owned by the reading goroutine.
	clients  map[rawAddr]*relay
	relays   map[int32]*relay // by descriptor
	in       *packets         // from clients
	at, got  int              // what of it is to be handled
	current  rawAddr          // the sender of the packet that pion handles
	lastAddr *net.UDPAddr     // the same, as pion gets it
	events   []unix.EpollEvent
	nextEvt  int
	numEvts  int
	pending  []*relay // with packets of in to send
	next     [clientBatch]int32
	toPeer   [clientBatch]parcel
	peerBox  *outbox
	back     *packets // from peers
	backUsed int
	backBox  *outbox
	now      clock
	busy     bool
	since    int64 // nanoseconds, from which handled is counted
	handled  int   // packets received
	tally    [2]struct{ packets, bytes int }

	mu       sync.Mutex
	running  bool     // read was called
	closing  bool     // Close was called
	released bool     // the descriptors are closed
	dead     []*relay // to be forgotten by the tables
}

// parcel is a packet for a peer.
type parcel struct {
	data []byte
	to   *rawAddr
}

// hosted is a shard's part of a relay: the packets that wait to be sent to its
// peers, as a list in shard.next.
type hosted struct {
	client      rawAddr
	sock        *rawSocket
	first, tail int32
	waiting     bool
}

// channelWire is a shard's part of a channel.
type channelWire struct {
	peer  rawAddr // as the client knows it
	local rawAddr // the socket of a relay of this server, should it be one
}

func (w *channelWire) set(f *family, peer netip.AddrPort) {
	domain := unix.AF_INET6
	if f.ip.Is4() {
		domain = unix.AF_INET
	}
	if f.ip.Is4() == peer.Addr().Is4() { // others are refused, see judge
		w.peer = newRawAddr(domain, peer)
		w.local = newRawAddr(domain, netip.AddrPortFrom(f.ip, peer.Port()))
	}
}

// newShard takes the socket over; on an error it is closed.
func newShard(s *Server, sock *rawSocket) (*shard, error) {
	segments := knowsSegments(sock.fd)
	h := &shard{
		server: s, sock: sock, clients: make(map[rawAddr]*relay), relays: make(map[int32]*relay),
		in: newPackets(clientBatch, 0), peerBox: newOutbox(clientBatch, segments),
		back: newPackets(backBatch, indicationHead), backBox: newOutbox(backBatch, segments),
		events: make([]unix.EpollEvent, maxEvents),
	}
	var err error
	if h.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, errors.Join(os.NewSyscallError("epoll_create1", err), sock.Close())
	}
	if h.wakeup, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), unix.Close(h.poll), sock.Close())
	}
	if err = errors.Join(h.watch(h.wakeup), h.watch(sock.fd)); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func (h *shard) watch(fd int) error {
	err := unix.EpollCtl(h.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	return os.NewSyscallError("epoll_ctl", err)
}

// read forwards channel data until there is a packet for pion.
func (h *shard) read(p []byte, _ func(netip.AddrPort) bool) (int, net.Addr, error) {
	h.mu.Lock()
	h.running = true
	h.mu.Unlock()
	for {
		for h.at < h.got {
			i := h.at
			h.at++
			packet := h.in.packet(i)
			if len(packet) > maxPacket {
				return 0, nil, errTooLarge
			}
			if len(packet) >= channelHeader && packet[0]>>6 == 1 {
				h.fromClient(i, packet)
				continue
			}
			h.current = h.in.names[i]
			return copy(p, packet), h.sender(), nil
		}
		h.sendToPeers()
		if !h.nextReadable() {
			h.free()
			return 0, nil, fmt.Errorf("reading turn packets: %w", net.ErrClosed)
		}
	}
}

// sender returns the address of the packet for pion; pion keeps it.
func (h *shard) sender() net.Addr {
	from := h.current.addrPort()
	if h.lastAddr == nil || h.lastAddr.AddrPort() != from {
		h.lastAddr = net.UDPAddrFromAddrPort(from)
	}
	return h.lastAddr
}

// nextReadable waits until clients have sent something, and reads a batch of
// it; meanwhile it forwards what peers send. It returns false at the end.
func (h *shard) nextReadable() bool {
	for {
		for h.nextEvt < h.numEvts {
			fd := h.events[h.nextEvt].Fd
			h.nextEvt++
			switch {
			case fd == int32(h.wakeup):
				var count [8]byte
				_, _ = unix.Read(h.wakeup, count[:])
			case fd == int32(h.sock.fd):
				h.at = 0
				h.got, _ = h.in.receive(h.sock, 0, clientBatch)
				h.handled += h.got
				if h.got > 0 {
					return true
				}
			default:
				if r := h.relays[fd]; r != nil {
					h.fromPeers(r)
				}
			}
		}
		h.sendToClients()
		if h.forget() {
			return false
		}
		h.wait()
		h.tick()
	}
}

// wait fills events, without giving the processor away when some are there.
func (h *shard) wait() {
	h.nextEvt, h.numEvts = 0, 0
	if h.busy {
		h.rest()
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(h.poll), h.eventsAt(), maxEvents, 0, 0, 0)
	if errno == 0 && n > 0 {
		h.numEvts = int(n)
		return
	}
	if got, err := unix.EpollWait(h.poll, h.events, -1); err == nil {
		h.numEvts = got
	}
}

// rest lets packets gather for a moment, so that a busy shard handles several
// at once, and lets other goroutines run, which its system calls do not.
func (h *shard) rest() {
	runtime.Gosched()
	ts := unix.NsecToTimespec(int64(restTime))
	_, _, _ = unix.Syscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}

// tick reads the clock, and finds out whether the shard is busy.
func (h *shard) tick() {
	h.now = clockOf(h.server.cfg.Now())
	h.peerBox.now, h.backBox.now = h.now.nanos, h.now.nanos
	if d := time.Duration(h.now.nanos - h.since); d >= busyWindow || d < 0 {
		h.busy = float64(h.handled) > busyRate*d.Seconds()
		h.since, h.handled = h.now.nanos, 0
	}
}

// report adds what is forwarded to the metrics, before anybody can have it.
func (h *shard) report() {
	for i, d := range []*direction{&h.server.metrics.toPeer, &h.server.metrics.toClient} {
		if t := &h.tally[i]; t.packets > 0 {
			d.count(t.packets, t.bytes)
			t.packets, t.bytes = 0, 0
		}
	}
}

// forget drops ended relays from the tables, and says whether Close was called.
func (h *shard) forget() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, r := range h.dead {
		if h.clients[r.hosted.client] == r {
			delete(h.clients, r.hosted.client)
		}
		if fd := int32(r.hosted.sock.fd); h.relays[fd] == r {
			delete(h.relays, fd)
		}
		h.dead[i] = nil
	}
	h.dead = h.dead[:0]
	return h.closing
}

// bindRelay implements relayHost.
func (h *shard) bindRelay(at netip.AddrPort) (relaySocket, error) {
	sock, err := bindRaw(at)
	if err != nil {
		return nil, err
	}
	got, ok := sock.grow()
	h.server.checkBuffer(got, ok)
	return sock, nil
}

// adopt implements relayHost.
func (h *shard) adopt(r *relay) error {
	sock, ok := r.conn.(*rawSocket)
	if !ok {
		return fmt.Errorf("a %T is no socket of this shard", r.conn)
	}
	r.hosted.client, r.hosted.sock = h.current, sock
	h.forget()
	if err := h.watch(sock.fd); err != nil {
		return err
	}
	h.clients[h.current], h.relays[int32(sock.fd)] = r, r
	return nil
}

// release implements relayHost: the socket is closed already, the tables let go
// of the relay as soon as the reading goroutine comes by.
func (h *shard) release(r *relay) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.released {
		return
	}
	h.dead = append(h.dead, r)
	if len(h.dead) == 1 {
		h.wakeLocked()
	}
}

func (h *shard) wakeLocked() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(h.wakeup, one[:])
}

func (h *shard) write(p []byte, addr net.Addr) (int, error) {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("a %T is no UDP address", addr)
	}
	to := h.current
	if ap := unmapped(udp.AddrPort()); to.addrPort() != ap {
		to = newRawAddr(h.sock.domain, ap)
	}
	if err := h.sock.sendTo(p, &to); err != nil {
		return 0, err
	}
	return len(p), nil
}

// LocalAddr returns the address that is listened on.
func (h *shard) LocalAddr() net.Addr { return h.sock.LocalAddr() }

// Close makes read return. It is idempotent.
func (h *shard) Close() error {
	h.mu.Lock()
	running, first := h.running, !h.closing
	h.closing = true
	if running && first && !h.released {
		h.wakeLocked()
	}
	h.mu.Unlock()
	if !running {
		h.free()
	}
	return nil
}

// free closes the descriptors, once.
func (h *shard) free() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.released {
		h.released = true
		_ = unix.Close(h.poll)
		_ = unix.Close(h.wakeup)
		_ = h.sock.Close()
		h.dead = nil
	}
}
