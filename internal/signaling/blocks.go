package signaling

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// MaxBlocks is how many blocks a server keeps.
const MaxBlocks = 65536

// ErrTooManyBlocks is what Block gives for one block too many.
var ErrTooManyBlocks = errors.New("there are 65536 blocks already; lift some first")

// Block keeps a device, a user or a network out. Exactly one of Device, User
// and Network is set.
type Block struct {
	Device  string       `json:"device,omitempty"` // device id
	User    string       `json:"user,omitempty"`   // user key, base64
	Network netip.Prefix `json:"network,omitzero"` // of client addresses
	Expires time.Time    `json:"expires,omitzero"` // zero: never
	Reason  string       `json:"reason,omitempty"` // for people; the client does not see it
	Created time.Time    `json:"created,omitzero"` // set by Block when zero
}

// Target names who is blocked: "device …", "user …" or "network …".
func (b Block) Target() string {
	switch {
	case b.Device != "":
		return "device " + b.Device
	case b.User != "":
		return "user " + b.User
	default:
		return "network " + b.Network.String()
	}
}

// normal checks a block and gives its one form.
func (b Block) normal() (Block, error) {
	set := 0
	if b.Device != "" {
		set++
		if len(b.Device) > 64 {
			return b, errors.New("blocking: that is no device id")
		}
	}
	if b.User != "" {
		set++
		k, err := peercrypto.ParsePublicKey(b.User)
		if err != nil {
			return b, fmt.Errorf("blocking: user: %w", err)
		}
		b.User = k.String()
	}
	if b.Network.IsValid() {
		set++
		a := b.Network.Addr()
		if a.Is4In6() && b.Network.Bits() >= 96 {
			b.Network = netip.PrefixFrom(a.Unmap(), b.Network.Bits()-96)
		}
		b.Network = b.Network.Masked()
	}
	if set != 1 {
		return b, errors.New("blocking: name exactly one of a device, a user and a network")
	}
	if len(b.Reason) > 256 {
		return b, errors.New("blocking: the reason is longer than 256 bytes")
	}
	return b, nil
}

// blocks is who may not come in. The zero value blocks nobody.
type blocks struct {
	mu       sync.RWMutex
	byTarget map[string]Block // by Target
	networks []netip.Prefix   // of those that are networks
}

// refusal is what a client gets that is blocked now, or nil.
func (bs *blocks) refusal(device peercrypto.ID, user peercrypto.PublicKey, addr netip.Addr, now time.Time) *wire.Refused {
	bs.mu.RLock()
	defer bs.mu.RUnlock()
	if len(bs.byTarget) == 0 {
		return nil
	}
	if !bs.holds("device "+string(device), now) && !bs.holds("user "+user.String(), now) && !bs.addrLocked(addr, now) {
		return nil
	}
	return &wire.Refused{Code: wire.CodeBlocked, Message: "the operator of this server does not let you in"}
}

func (bs *blocks) holds(target string, now time.Time) bool {
	b, ok := bs.byTarget[target]
	return ok && b.inForce(now)
}

func (b Block) inForce(now time.Time) bool { return b.Expires.IsZero() || now.Before(b.Expires) }

func (bs *blocks) addrLocked(addr netip.Addr, now time.Time) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(bs.networks, func(p netip.Prefix) bool {
		return p.Contains(addr) && bs.holds("network "+p.String(), now)
	})
}

// put adds blocks in their normal form, or replaces those of the same target;
// all or none. With instead, they take the place of all that there were.
func (bs *blocks) put(list []Block, instead bool, now time.Time) error {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	next := make(map[string]Block, len(bs.byTarget)+len(list))
	if !instead {
		for t, b := range bs.byTarget {
			if b.inForce(now) {
				next[t] = b
			}
		}
	}
	for _, b := range list {
		if b.inForce(now) {
			next[b.Target()] = b
		}
	}
	if len(next) > MaxBlocks {
		return ErrTooManyBlocks
	}
	bs.setLocked(next)
	return nil
}

func (bs *blocks) setLocked(next map[string]Block) {
	bs.byTarget, bs.networks = next, nil
	for _, b := range next {
		if b.Network.IsValid() {
			bs.networks = append(bs.networks, b.Network)
		}
	}
}

func (bs *blocks) remove(target string) bool {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if _, ok := bs.byTarget[target]; !ok {
		return false
	}
	delete(bs.byTarget, target)
	bs.setLocked(bs.byTarget)
	return true
}

// list gives those in force, by target.
func (bs *blocks) list(now time.Time) []Block {
	bs.mu.RLock()
	defer bs.mu.RUnlock()
	var out []Block
	for _, b := range bs.byTarget {
		if b.inForce(now) {
			out = append(out, b)
		}
	}
	slices.SortFunc(out, func(a, b Block) int { return strings.Compare(a.Target(), b.Target()) })
	return out
}
