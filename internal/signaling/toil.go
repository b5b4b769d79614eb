package signaling

import (
	"net/netip"
	"sync"
	"time"
)

// What an address may have the hub do under its lock: look at a tag, or tell one
// session of one other. It is for each session that the address may have, so
// that who has many of them tells many.
const (
	toilAtOnce    = 64_000
	toilPerSecond = 400

	// toilOfPair is what an introduction counts: one address takes longer than a
	// life of Introductions to have them all forgotten.
	toilOfPair = 400

	// freeToil is how many tags may be told anew to a session that goes on,
	// whatever its address has caused.
	freeToil = 1_000

	maxToilers = 1 << 15 // addresses that are remembered, in two generations
)

// toil bounds the work that the sessions of an address cause by changing
// topics, also by connecting again: a few kilobytes can change 20,000 topics that
// thousands of sessions are told of. Whoever has caused too much has to wait until it
// is paid off. Addresses without a limit of sessions have none here.
type toil struct {
	mu         sync.Mutex
	young, old map[netip.Addr]account
}

// account is what an address may still cause; below zero it waits.
type account struct {
	left float64
	at   time.Time
}

// wait is how long an address has to wait; perAddress is how many sessions it may have.
func (t *toil) wait(addr netip.Addr, perAddress int, now time.Time) time.Duration {
	if !addr.IsValid() || perAddress <= 0 {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.accountLocked(addr, perAddress, now)
	if a.left > 0 {
		return 0
	}
	return time.Duration((1 - a.left) / toilPerSecond / float64(perAddress) * float64(time.Second))
}

// add notes work that was done.
func (t *toil) add(addr netip.Addr, perAddress, units int, now time.Time) {
	if !addr.IsValid() || perAddress <= 0 || units == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.accountLocked(addr, perAddress, now)
	a.left -= float64(units)
	if len(t.young) >= maxToilers/2 {
		t.old, t.young = t.young, nil
	}
	if t.young == nil {
		t.young = make(map[netip.Addr]account)
	}
	t.young[addr] = a
}

// accountLocked is that of an address now. One that is not remembered has caused
// nothing lately.
func (t *toil) accountLocked(addr netip.Addr, perAddress int, now time.Time) account {
	most := float64(toilAtOnce * perAddress)
	a, known := t.young[addr]
	if !known {
		if a, known = t.old[addr]; !known {
			return account{most, now}
		}
	}
	if d := now.Sub(a.at); d > 0 {
		a.left, a.at = a.left+d.Seconds()*toilPerSecond*float64(perAddress), now
	}
	a.left = min(a.left, most)
	return a
}
