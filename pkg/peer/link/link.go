package link

import (
	"context"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Link is one device's connections. Its methods are safe for concurrent use.
type Link struct {
	cfg    Config
	events chan Event
}

// New validates cfg and returns a link that does nothing until Run.
func New(cfg Config) (*Link, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Link{cfg: cfg, events: make(chan Event)}, nil
}

// Run connects to the server, and again whenever that ends, and serves
// connections until ctx is cancelled or the server says that it is of no use to
// try again. It closes all connections and returns after its goroutines have.
func (l *Link) Run(ctx context.Context) error { return ErrNotRunning }

// SetTopics replaces the set of topics that this device holds.
func (l *Link) SetTopics(topics []Topic) {}

// ServerName returns the server's canonical name ("host:port").
func (l *Link) ServerName() string { return "" }

// Events returns the channel of events, for one consumer.
func (l *Link) Events() <-chan Event { return l.events }

// Dial returns the authenticated connection with a device.
func (l *Link) Dial(ctx context.Context, device peercrypto.ID) (*Conn, error) {
	return nil, ErrNotRunning
}

// Conns returns the authenticated connections, in no particular order.
func (l *Link) Conns() []*Conn { return nil }

// Status returns a snapshot.
func (l *Link) Status() Status { return Status{} }
