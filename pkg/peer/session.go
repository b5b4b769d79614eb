package peer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// A connection is a link.Conn with its one session.
type connection struct {
	peer   *Peer
	conn   *link.Conn
	since  time.Time
	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc
	// Streams that the other device opened, each at most once.
	control, bulk chan *link.Stream
	asks          *rate.Limiter // of files that the other device asks for

	// Guarded by Peer.mu.
	session bool // a session was started
	running bool
}

// newConnection is called with Peer.mu held.
func newConnection(p *Peer, conn *link.Conn) *connection {
	c := &connection{
		peer: p, conn: conn, since: p.cfg.Now(),
		control: make(chan *link.Stream, 1), bulk: make(chan *link.Stream, 1), asks: rate.NewLimiter(openRate, openBurst),
	}
	c.ctx, c.cancel = context.WithCancelCause(p.ctx)
	return c
}

func (c *connection) close(reason error) error {
	c.cancel(reason)
	return c.conn.Close(reason.Error())
}

// accept sorts the streams that the other device opens. What is not known, not
// the other's to open, or open already is closed.
func (c *connection) accept() {
	for {
		s, err := c.conn.AcceptStream(c.ctx)
		if err != nil {
			return
		}
		if s.Name() == streamFiles && c.peer.files != nil && c.peer.goRun(func() { c.peer.files.serve(c, s) }) {
			continue
		}
		var to chan *link.Stream
		switch {
		case c.opens():
		case s.Name() == streamControl:
			to = c.control
		case s.Name() == streamBulk:
			to = c.bulk
		}
		select {
		case to <- s: // a nil channel is never ready
		default:
			c.peer.log.Debug("stream refused", "device", c.conn.Remote().DeviceID.Short(), "stream", s.Name())
			_ = s.Close()
		}
	}
}

// opens tells whether this device opens the streams of the session.
func (c *connection) opens() bool { return c.peer.self < c.conn.Remote().DeviceID }

// transport opens the streams, or waits for the other device to do it.
func (c *connection) transport(ctx context.Context) (*transport, error) {
	if !c.opens() {
		control, err := c.await(ctx, c.control)
		if err != nil {
			return nil, err
		}
		bulk, err := c.await(ctx, c.bulk)
		if err != nil {
			return nil, err
		}
		return newTransport(control, bulk), nil
	}
	control, err := c.conn.OpenStream(ctx, streamControl)
	if err != nil {
		return nil, err
	}
	bulk, err := c.conn.OpenStream(ctx, streamBulk)
	if err != nil {
		return nil, errors.Join(err, control.Close())
	}
	return newTransport(control, bulk), nil
}

func (c *connection) await(ctx context.Context, from chan *link.Stream) (*link.Stream, error) {
	select {
	case s := <-from:
		return s, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Sync runs a session with a connected device: both sides bring the groups that
// they share up to date and then push what is written, until ctx or the
// connection ends. It returns why the session ended, and the connection is
// closed then. A device that calls Sync waits for the other one to do so too.
func (p *Peer) Sync(ctx context.Context, id peercrypto.ID) error {
	p.mu.Lock()
	d := p.devices[id]
	var c *connection
	if d != nil {
		c = d.conn
	}
	p.mu.Unlock()
	if c == nil {
		return fmt.Errorf("syncing with device %s: %w", id.Short(), ErrNotConnected)
	}
	done := make(chan error, 1)
	// A child of the peer, so that Close waits for it.
	if !p.goRun(func() { done <- p.runSession(ctx, c) }) {
		return ErrClosed
	}
	return <-done
}

// runSession runs the one session of a connection and closes the connection.
func (p *Peer) runSession(ctx context.Context, c *connection) error {
	p.mu.Lock()
	if c.session {
		p.mu.Unlock()
		return ErrSyncing
	}
	c.session, c.running = true, true
	p.mu.Unlock()
	r := c.conn.Remote()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.ctx, func() { cancel(context.Cause(c.ctx)) })()

	err := p.session(ctx, c, r)
	p.mu.Lock()
	c.running = false
	p.mu.Unlock()
	if err == nil || ctx.Err() != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
	}
	if err == nil {
		err = link.ErrClosed
	}
	_ = c.close(err)
	p.log.Info("sync session ended", "device", r.DeviceID.Short(), "user", r.UserID.Short(), "reason", err)
	p.hub.publish(SyncEnded{Device: r.DeviceID, User: r.UserID, Err: err})
	return fmt.Errorf("syncing with device %s: %w", r.DeviceID.Short(), err)
}

func (p *Peer) session(ctx context.Context, c *connection, r link.Remote) error {
	t, err := c.transport(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = t.Close() }()
	history, err := groupsync.ParseHistory(r.Genesis, r.History, r.UserKey)
	if len(r.History) == 0 {
		history, err = nil, nil
	}
	if err != nil {
		return err
	}
	p.hub.publish(SyncStarted{Device: r.DeviceID, User: r.UserID})
	return p.engine.NewSession(groupsync.Peer{
		UserID: r.UserID, UserKey: r.UserKey, Genesis: r.Genesis, DeviceID: r.DeviceID, DeviceKey: r.DeviceKey, UserDoc: r.UserDoc,
		Keys: history,
	}, t).Run(ctx)
}
