package link_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
	"github.com/peersignal/peersignal/pkg/wire"
)

// watchOffers counts the offers that the server passes on, and keeps them.
func watchOffers(r *relay) func() []*wire.Signal {
	var mu sync.Mutex
	var offers []*wire.Signal
	r.setPass(func(_ peercrypto.ID, m *wire.Signal) []*wire.Signal {
		if m.Kind == wire.KindOffer {
			mu.Lock()
			defer mu.Unlock()
			offers = append(offers, m)
		}
		return []*wire.Signal{m}
	})
	return func() []*wire.Signal {
		mu.Lock()
		defer mu.Unlock()
		return offers
	}
}

func TestRestartReplayed(t *testing.T) {
	p := newPair(t, never, nil)
	offers := watchOffers(p.r)
	p.ac.Restart()
	eventually(t, "restart", func() bool { return p.ac.Stats().Restarts == 1 && p.bc.Stats().Restarts == 1 })
	all := offers() // a slow machine tries more than once
	p.r.inject(p.b.deviceID(), all[0])
	refusals(t, p.b, "offer replayed")
	// Nor is it good for the other side.
	turned := *all[0]
	turned.From = p.b.deviceID()
	p.r.inject(p.a.deviceID(), &turned)
	refusals(t, p.a, "offer envelope")
	echo(t, p.ac, p.bc, "as-before")
	if a, b := p.ac.Stats(), p.bc.Stats(); a.Restarts != 1 || b.Restarts != 1 || a.Lost || b.Lost {
		t.Errorf("restarted again: %+v, %+v", a, b)
	}
}

// What a restart's offer may not say. The device itself signs it: it is the
// worst that a peer can do.
func TestForgedRestarts(t *testing.T) {
	other := "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	for name, c := range map[string]struct {
		mutate func(*link.Offer)
		reason string
		ends   error
	}{
		"another certificate": {func(o *link.Offer) { o.FP = other }, "restart with another certificate", link.ErrFingerprintMismatch},
		"another certificate in the description": {
			func(o *link.Offer) { o.SDP = "v=0\r\n" }, "", nil,
		},
		"the side that asks offers": {func(o *link.Offer) { o.SDP = "" }, "offer", nil},
		"another connection":        {func(o *link.Offer) { o.Conn = peercrypto.NewID(time.Now()) }, "restart of a connection that is not there", nil},
		"too high a generation":     {func(o *link.Offer) { o.Gen = 1 << 40 }, "offer", nil},
		"another user":              {func(o *link.Offer) { o.FromUser = o.ToUser }, "offer", nil},
		"an old one":                {func(o *link.Offer) { o.Time -= 600_000 }, "offer time", nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, never, nil)
			m, err := p.a.link.ForgeRestart(p.ac, p.a.id, p.ac.Remote().Cert, testTag, c.mutate)
			if err != nil {
				t.Fatal(err)
			}
			p.r.inject(p.b.deviceID(), m)
			if c.reason != "" {
				refusals(t, p.b, c.reason)
			}
			if c.ends != nil {
				e := await(p.b, "end", func(e link.Disconnected) bool { return e.Conn == p.bc })
				wantErr(t, e.Reason, c.ends)
				return
			}
			echo(t, p.ac, p.bc, "still-there")
		})
	}
}

// A stranger's device can't restart the connection of others, and a device that
// is no longer admitted can't restart its own.
func TestRestartNotAdmitted(t *testing.T) {
	var closed atomic.Bool
	p := newPair(t, never, func(c *link.Config) {
		admit := c.Admit
		c.Admit = func(ctx context.Context, r link.Remote) error {
			if closed.Load() {
				return errors.New("not any more")
			}
			return admit(ctx, r)
		}
	})
	stranger, _ := testIdentity(t)
	m, err := p.a.link.ForgeRestart(p.ac, stranger, p.ac.Remote().Cert, testTag, func(*link.Offer) {})
	if err != nil {
		t.Fatal(err)
	}
	p.r.inject(p.b.deviceID(), m)
	refusals(t, p.b, "offer")
	closed.Store(true)
	p.ac.Restart()
	refusals(t, p.b, "offer not admitted")
	if p.bc.Err() != nil {
		t.Error("connection ended")
	}
}

// A peer that asks for restarts without end gets few.
func TestRestartFlood(t *testing.T) {
	p := newPair(t, never, nil)
	offers := watchOffers(p.r)
	began := time.Now()
	for gen := range uint64(50) {
		m, err := p.b.link.ForgeRestart(p.bc, p.b.id, p.bc.Remote().Cert, testTag, func(o *link.Offer) { o.SDP, o.Gen = "", gen+1 })
		if err != nil {
			t.Fatal(err)
		}
		p.r.inject(p.a.deviceID(), m)
	}
	eventually(t, "restart", func() bool { return p.ac.Stats().Restarts > 0 && !p.ac.Stats().Lost })
	// One a second at most; a session that breaks on a busy machine sends what had no result again.
	if n, most := len(offers()), 3+2*int(time.Since(began)/time.Second); n > most {
		t.Errorf("%d offers in %v", n, time.Since(began))
	}
	echo(t, p.ac, p.bc, "still-there")
}
