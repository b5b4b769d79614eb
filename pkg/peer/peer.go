package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// Peer is one running device of one user. Its methods are safe for concurrent
// use.
type Peer struct {
	cfg    Config
	self   peercrypto.ID // device
	log    *slog.Logger
	engine *groupsync.Engine
	link   *link.Link // nil when offline
	files  *fileWork  // nil without Config.Files
	dials  chan struct{}
	hub    hub

	ctx    context.Context // ends with Close, with Open's context and with a failure
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // everything that was started
	done   chan struct{}
	once   sync.Once

	mu      sync.Mutex
	devices map[peercrypto.ID]*device
	server  string                  // canonical name of the server's session; "" when there is none
	invites map[peercrypto.Tag]bool // topics of invitations; true for those that are open
	busy    int                     // pursuits and connections: what MaxDevices bounds
	starved bool                    // a device waits for room below MaxDevices
	closing bool                    // guards wg against Add after Wait
}

// Open starts a device. It goes on until Close, or until ctx ends, or until it
// fails, see Done; Close has to be called in each case. The store must not be
// used by another peer at the same time.
func Open(ctx context.Context, cfg Config) (*Peer, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	engine, err := groupsync.Open(ctx, groupsync.Config{
		Store: cfg.Store, Identity: cfg.Identity, Name: cfg.Name,
		Logger: cfg.Logger, Now: cfg.Now, Limits: cfg.Limits,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the groups of the store: %w", err)
	}
	cfg.Identity = engine.Identity() // a newer key may have come
	p := &Peer{
		cfg: cfg, self: cfg.Identity.DeviceID(), log: cfg.Logger, engine: engine,
		dials: make(chan struct{}, cfg.MaxDials), done: make(chan struct{}),
		devices: map[peercrypto.ID]*device{},
	}
	if cfg.Server != "" {
		if p.link, err = p.newLink(); err != nil {
			return nil, errors.Join(err, engine.Close())
		}
	}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	if cfg.Files != nil {
		p.files = newFileWork(p)
	}
	p.start()
	return p, nil
}

func (p *Peer) newLink() (*link.Link, error) {
	return link.New(link.Config{
		Server: p.cfg.Server, Identity: p.cfg.Identity, UserDoc: p.engine.UserDoc(),
		ICETransport: p.cfg.ICETransport, AllowLoopback: p.cfg.AllowLoopback, ExtraICE: p.cfg.ExtraICE,
		Admit: p.admit, CheckKeys: checkKeys, TLS: p.cfg.TLS,
		ReconnectMin: p.cfg.ReconnectMin, ReconnectMax: p.cfg.ReconnectMax, MaxConnsPerUser: max(p.cfg.MaxDevices/8, keys.MaxDevices),
		Logger: p.cfg.Logger, Now: p.cfg.Now,
	})
}

// start runs everything that lives as long as the peer.
func (p *Peer) start() {
	events := p.engine.Subscribe(p.ctx)
	p.goRun(func() { p.followEngine(events) })
	p.goRun(func() {
		if err := p.engine.Run(p.ctx); err != nil && p.ctx.Err() == nil {
			p.cancel(fmt.Errorf("groups: %w", err))
		}
	})
	if p.files != nil {
		p.files.start()
	}
	if p.link != nil {
		p.setTopics()
		p.goRun(p.followLink)
		p.goRun(func() {
			if err := p.link.Run(p.ctx); err != nil && p.ctx.Err() == nil {
				// Data stays usable; the status says why nobody is met.
				p.log.Error("signaling ended for good", "error", err)
				p.hub.publish(ServerDown{Err: err, Retry: -1})
			}
		})
	}
	go func() {
		<-p.ctx.Done()
		p.mu.Lock()
		p.closing = true
		p.mu.Unlock()
		p.wg.Wait()
		close(p.done)
	}()
}

// goRun starts fn unless the peer is ending, and tells whether it did.
func (p *Peer) goRun(fn func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.goRunLocked(fn)
}

func (p *Peer) goRunLocked(fn func()) bool {
	if p.closing {
		return false
	}
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		fn()
	}()
	return true
}

// Close stops the peer and returns when all that it started has ended. The
// store stays open. It is idempotent.
func (p *Peer) Close() error {
	p.cancel(ErrClosed)
	<-p.done
	var err error
	p.once.Do(func() { err = p.engine.Close() })
	return err
}

// Done is closed when the peer has stopped for whatever reason.
func (p *Peer) Done() <-chan struct{} { return p.done }

// Err returns why the peer stopped or stops: ErrClosed, the cause of Open's
// context, or a failure. It is nil while the peer runs.
func (p *Peer) Err() error { return context.Cause(p.ctx) }

// Identity returns the identity that the peer works with: Config.Identity, or with a newer key and history
// that came meanwhile. Who keeps a key store writes it there when it differs.
func (p *Peer) Identity() peercrypto.Identity { return p.cfg.Identity }

// User returns the id of the user.
func (p *Peer) User() peercrypto.ID { return p.cfg.Identity.UserID() }

// Device returns the id of this device.
func (p *Peer) Device() peercrypto.ID { return p.self }

// followLink hands the link's events to the table of devices.
func (p *Peer) followLink() {
	for ev := range p.link.Events() {
		switch ev := ev.(type) {
		case link.ServerUp:
			p.serverUp(ev)
		case link.ServerDown:
			p.serverDown(ev)
		case link.Discovered:
			p.discovered(ev)
		case link.Gone:
			p.gone(ev)
		case link.Connected:
			p.connected(ev.Conn)
		case link.PathChanged:
			r := ev.Conn.Remote()
			p.hub.publish(PathChanged{Device: r.DeviceID, User: r.UserID, Path: ev.Path, Lost: ev.Lost})
		case link.Disconnected:
			p.disconnected(ev)
		case link.Notification:
			p.notified(ev)
		case link.DialFailed:
			if !ev.Outgoing {
				p.inboundFailed(ev)
			}
		}
	}
}
