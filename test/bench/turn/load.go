//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	loadAllocations = 64
	drain           = 300 * time.Millisecond
)

// command tells the load process what to do next; it answers with a result.
type command struct {
	Rate     int // packets a second, both directions together
	Size     int // bytes of data in a packet
	Burst    int // packets that a socket sends at once
	Duration time.Duration
	Allocate int  // instead: open this many allocations
	Release  bool // instead: end those
}

type result struct {
	Sent, Received int64
	Seconds        float64 // of sending, or of allocating
	Error          string
}

// target is the server that a load process works on.
type target struct {
	Server  netip.AddrPort
	Account account
}

// runLoad is the main function of a load process: a target and commands come
// in as JSON, results go out.
func runLoad(in io.Reader, out io.Writer) error {
	decode, encode := json.NewDecoder(in), json.NewEncoder(out)
	var to target
	if err := decode.Decode(&to); err != nil {
		return fmt.Errorf("reading the target: %w", err)
	}
	l := load{to: to, from: loopback}
	for {
		var c command
		if err := decode.Decode(&c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading a command: %w", err)
		}
		r, err := l.do(c)
		if err != nil {
			r.Error = err.Error()
		}
		if err := encode.Encode(r); err != nil {
			return fmt.Errorf("writing a result: %w", err)
		}
	}
}

type load struct {
	to      target
	clients []*client // with channels and peers
	held    []*client // by a command to allocate
	// from is another address for each such command: coturn remembers for a
	// while what was released, and refuses its address.
	from netip.Addr
}

func (l *load) do(c command) (result, error) {
	switch {
	case c.Allocate > 0:
		return l.allocateMany(c.Allocate)
	case c.Release:
		for _, k := range l.held {
			k.release()
		}
		l.held = nil
		return result{}, nil
	}
	if l.clients == nil {
		var err error
		if l.clients, err = open(l.to); err != nil {
			return result{}, err
		}
	}
	if c.Rate == 0 {
		return result{}, nil
	}
	return exchange(l.clients, c), nil
}

func open(to target) ([]*client, error) {
	clients, err := allocateAll(loopback, to.Server, to.Account, loadAllocations)
	if err != nil {
		return nil, err
	}
	for _, c := range clients {
		if err := c.bind(); err != nil {
			return nil, err
		}
	}
	return clients, nil
}

// exchange sends on all channels in both directions at the rate, and counts
// what arrives at the other ends.
func exchange(clients []*client, c command) result {
	var stop atomic.Bool
	var sent, received atomic.Int64
	var senders, receivers sync.WaitGroup
	var atClients, atPeers []socket
	for _, k := range clients {
		atClients, atPeers = append(atClients, k.socket), append(atPeers, k.peer)
	}
	for _, from := range [][]socket{atClients, atPeers} {
		receivers.Go(func() { received.Add(count(from, &stop)) })
	}
	begin := time.Now()
	senders.Go(func() { sent.Add(pace(atClients, sending(channelData(c.Size), c.Burst), c)) })
	senders.Go(func() { sent.Add(pace(atPeers, sending(make([]byte, c.Size), c.Burst), c)) })
	senders.Wait()
	seconds := time.Since(begin).Seconds()
	time.Sleep(drain)
	stop.Store(true)
	receivers.Wait()
	return result{Sent: sent.Load(), Received: received.Load(), Seconds: seconds}
}

// pace sends half of the rate over the sockets in turns.
func pace(sockets []socket, b *batch, c command) int64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var sent int64
	begin, next := time.Now(), 0
	for {
		elapsed := time.Since(begin)
		if elapsed >= c.Duration {
			return sent
		}
		due := int64(elapsed.Seconds() * float64(c.Rate) / 2)
		if sent+int64(c.Burst) > due {
			time.Sleep(50 * time.Microsecond)
			continue
		}
		for sent+int64(c.Burst) <= due {
			sent += int64(b.send(sockets[next]))
			next = (next + 1) % len(sockets)
		}
	}
}

// count reads the sockets until told to stop.
func count(sockets []socket, stop *atomic.Bool) int64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return 0
	}
	defer func() { _ = unix.Close(poll) }()
	for _, s := range sockets {
		_ = unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, int(s), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s)})
	}
	b, events := receiving(), make([]unix.EpollEvent, len(sockets))
	var received int64
	for !stop.Load() {
		// It does not wait for events: the servers would pay for waking it.
		n, err := unix.EpollWait(poll, events, 0)
		if err != nil || n == 0 {
			time.Sleep(100 * time.Microsecond)
			continue
		}
		for _, e := range events[:n] {
			received += int64(b.receive(socket(e.Fd)))
		}
	}
	return received
}

// allocateMany opens n allocations from two goroutines, and holds them.
func (l *load) allocateMany(n int) (result, error) {
	const workers, lockstep = 2, 32
	l.from = l.from.Next()
	var mu sync.Mutex
	var failed error
	var wg sync.WaitGroup
	begin := time.Now()
	for range workers {
		wg.Go(func() {
			for range n / workers / lockstep {
				c, err := allocateAll(l.from, l.to.Server, l.to.Account, lockstep)
				mu.Lock()
				l.held, failed = append(l.held, c...), errors.Join(failed, err)
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return result{Sent: int64(len(l.held)), Seconds: time.Since(begin).Seconds()}, failed
}
