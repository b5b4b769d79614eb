package peer

import (
	"context"
	"fmt"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
)

// stableAfter is how long a connection lasts until its loss is no failure.
const stableAfter = 30 * time.Second

// A device is one that is present or connected. All fields are guarded by
// Peer.mu.
type device struct {
	id, user peercrypto.ID
	tags     map[peercrypto.Tag]struct{} // topics it is present on; empty when gone
	wanted   bool                        // Auto or Connect
	declined bool                        // Disconnect: not by Auto until it appears again
	refused  bool                        // by its key, one of this user's that was replaced: it may come, and is not sought
	conn     *connection                 // nil when not connected
	failures int                         // attempts and short connections in a row
	lastErr  error                       // of the last attempt or connection
	pursuit  context.CancelFunc          // of the goroutine that dials; nil when there is none
	waiters  []chan error                // calls of Connect; each has room for one result
}

func (d *device) present() bool { return len(d.tags) > 0 }

// deviceLocked returns the entry of a device, which it makes when it is missing.
func (p *Peer) deviceLocked(id, user peercrypto.ID) *device {
	d := p.devices[id]
	if d == nil {
		d = &device{id: id, user: user, tags: map[peercrypto.Tag]struct{}{}}
		p.devices[id] = d
	}
	return d
}

// dropLocked forgets a device that is neither present nor connected.
func (p *Peer) dropLocked(d *device) {
	if !d.present() && d.conn == nil {
		d.settleLocked(ErrNotPresent)
		delete(p.devices, d.id)
	}
}

// settleLocked answers the calls of Connect.
func (d *device) settleLocked(err error) {
	for _, w := range d.waiters {
		w <- err
	}
	d.waiters = nil
}

func (p *Peer) stopPursuitLocked(d *device) {
	if d.pursuit != nil {
		d.pursuit()
		d.pursuit = nil
		p.busy--
	}
}

// freedLocked pursues devices that MaxDevices made wait.
func (p *Peer) freedLocked() {
	if !p.starved {
		return
	}
	p.starved = false
	for _, d := range p.devices {
		p.wantLocked(d)
	}
}

func (p *Peer) discovered(ev link.Discovered) {
	r := ev.Remote
	p.mu.Lock()
	d := p.deviceLocked(r.DeviceID, r.UserID)
	appeared := !d.present()
	d.tags[ev.Tag] = struct{}{}
	d.refused = p.engine.Superseded(r.UserID, r.UserKey)
	if appeared {
		d.user, d.failures, d.declined = r.UserID, 0, false
	}
	p.wantLocked(d)
	p.mu.Unlock()
	if appeared {
		p.hub.publish(DeviceDiscovered{Device: r.DeviceID, User: r.UserID})
	}
}

func (p *Peer) gone(ev link.Gone) {
	p.mu.Lock()
	d := p.devices[ev.DeviceID]
	if d == nil || !d.present() {
		p.mu.Unlock()
		return
	}
	delete(d.tags, ev.Tag)
	left := !d.present()
	if left {
		p.stopPursuitLocked(d)
		p.dropLocked(d)
		p.freedLocked()
	}
	user := d.user
	p.mu.Unlock()
	if left {
		p.hub.publish(DeviceGone{Device: ev.DeviceID, User: user})
	}
}

// wantLocked decides whether to pursue a device that is present.
func (p *Peer) wantLocked(d *device) {
	if d.refused {
		return
	}
	if p.cfg.Auto && !d.declined && p.admitsLocked(d.user, d.tags) {
		d.wanted = true
	}
	if d.wanted && d.present() && d.conn == nil && d.pursuit == nil {
		p.pursueLocked(d)
	}
}

// pursueLocked starts the goroutine that dials until the device is connected,
// gone or not wanted any more.
func (p *Peer) pursueLocked(d *device) {
	if p.busy >= p.cfg.MaxDevices {
		p.starved = true
		d.lastErr = ErrTooManyDevices
		d.settleLocked(ErrTooManyDevices)
		return
	}
	ctx, cancel := context.WithCancel(p.ctx)
	if !p.goRunLocked(func() { p.pursue(ctx, d) }) {
		cancel()
		d.settleLocked(ErrClosed)
		return
	}
	d.pursuit = cancel
	p.busy++
}

// pursue dials one device until ctx ends, which connected, gone and Disconnect
// see to.
func (p *Peer) pursue(ctx context.Context, d *device) {
	for {
		p.mu.Lock()
		delay := retryDelay(p.cfg, d.failures)
		p.mu.Unlock()
		if p.self > d.id {
			delay += p.cfg.DialDelay
		}
		if !sleep(ctx, delay) {
			return
		}
		err := p.dialOnce(ctx, d.id)
		if ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		if ctx.Err() != nil || d.conn != nil {
			p.mu.Unlock()
			return
		}
		if err != nil {
			d.failures++
			d.lastErr = err
			d.settleLocked(err)
		}
		user := d.user
		p.mu.Unlock()
		if err == nil {
			<-ctx.Done() // the event of this connection ends the pursuit
			return
		}
		p.log.Debug("connecting to a device failed", "device", d.id.Short(), "error", err)
		p.hub.publish(ConnectFailed{Device: d.id, User: user, Err: err})
	}
}

func (p *Peer) dialOnce(ctx context.Context, id peercrypto.ID) error {
	select {
	case p.dials <- struct{}{}:
		defer func() { <-p.dials }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if _, err := p.link.Dial(ctx, id); err != nil {
		return fmt.Errorf("connecting to device %s: %w", id.Short(), err)
	}
	return nil
}

// inboundFailed counts a failed attempt of the other device.
func (p *Peer) inboundFailed(ev link.DialFailed) {
	p.mu.Lock()
	d := p.devices[ev.DeviceID]
	var user peercrypto.ID
	if d != nil {
		d.lastErr, user = ev.Err, d.user
	}
	p.mu.Unlock()
	p.hub.publish(ConnectFailed{Device: ev.DeviceID, User: user, Err: ev.Err})
}

func (p *Peer) connected(conn *link.Conn) {
	r := conn.Remote()
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		return
	}
	d := p.deviceLocked(r.DeviceID, r.UserID)
	d.user, d.refused = r.UserID, false // proven now
	p.stopPursuitLocked(d)
	c := newConnection(p, conn)
	old := d.conn
	if old == nil {
		p.busy++
	}
	d.conn, d.lastErr = c, nil
	if p.cfg.Auto && !d.declined {
		d.wanted = true
	}
	d.settleLocked(nil)
	p.goRunLocked(c.accept)
	p.mu.Unlock()
	if old != nil {
		old.cancel(link.ErrReplaced)
	}
	p.hub.publish(DeviceConnected{Device: r.DeviceID, User: r.UserID, Outgoing: conn.Outgoing()})
	p.goRun(func() { p.remember(r.Cert) })
	if p.cfg.Auto {
		p.goRun(func() { _ = p.runSession(p.ctx, c) })
	}
}

func (p *Peer) disconnected(ev link.Disconnected) {
	p.mu.Lock()
	d := p.devices[ev.DeviceID]
	if d == nil || d.conn == nil || d.conn.conn != ev.Conn {
		p.mu.Unlock()
		return
	}
	c := d.conn
	d.conn, d.lastErr = nil, ev.Reason
	p.busy--
	d.failures++
	if p.cfg.Now().Sub(c.since) >= stableAfter {
		d.failures = 1
	}
	p.wantLocked(d)
	p.dropLocked(d)
	p.freedLocked()
	user := d.user
	p.mu.Unlock()
	c.cancel(ev.Reason)
	p.hub.publish(DeviceDisconnected{Device: ev.DeviceID, User: user, Err: ev.Reason})
}

// Connect connects with a device that is present, waiting for it to dial us
// where the dial policy says so, and returns when the connection stands or the
// first attempt failed. Attempts go on, also after a loss, while the device is
// present, until Disconnect.
func (p *Peer) Connect(ctx context.Context, id peercrypto.ID) error {
	if p.link == nil {
		return ErrOffline
	}
	wait := make(chan error, 1)
	p.mu.Lock()
	d := p.devices[id]
	switch {
	case p.closing:
		p.mu.Unlock()
		return ErrClosed
	case d == nil || !d.present() && d.conn == nil:
		p.mu.Unlock()
		return fmt.Errorf("connecting to device %s: %w", id.Short(), ErrNotPresent)
	case d.conn != nil:
		d.wanted, d.declined = true, false
		p.mu.Unlock()
		return nil
	case d.refused || !p.admitsLocked(d.user, d.tags):
		p.mu.Unlock()
		return fmt.Errorf("connecting to device %s: %w", id.Short(), ErrNotAdmitted)
	}
	d.wanted, d.declined = true, false
	d.waiters = append(d.waiters, wait)
	p.wantLocked(d)
	p.mu.Unlock()
	select {
	case err := <-wait:
		return err
	case <-ctx.Done():
		p.forgetWaiter(d, wait)
		return ctx.Err()
	case <-p.ctx.Done():
		return ErrClosed
	}
}

func (p *Peer) forgetWaiter(d *device, wait chan error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, w := range d.waiters {
		if w == wait {
			d.waiters = append(d.waiters[:i], d.waiters[i+1:]...)
			return
		}
	}
}

// Disconnect closes the connection with a device and makes no new one until
// Connect or, with Auto, until the device appears again. The other device may
// dial us nevertheless.
func (p *Peer) Disconnect(id peercrypto.ID) error {
	p.mu.Lock()
	d := p.devices[id]
	if d == nil {
		p.mu.Unlock()
		return fmt.Errorf("disconnecting device %s: %w", id.Short(), ErrNotConnected)
	}
	d.wanted, d.declined = false, true
	p.stopPursuitLocked(d)
	d.settleLocked(ErrDisconnected)
	p.freedLocked()
	c := d.conn
	p.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.close(ErrDisconnected)
}
