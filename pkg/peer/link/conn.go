package link

import (
	"context"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Conn is an authenticated connection with one device.
type Conn struct{}

// Remote says who is at the other end: proven.
func (c *Conn) Remote() Remote { return Remote{} }

// Stats returns the counters and the path.
func (c *Conn) Stats() Stats { return Stats{} }

// SessionID returns the hash of the authentication transcript: the same on
// both sides, different for each connection.
func (c *Conn) SessionID() peercrypto.Hash { return peercrypto.Hash{} }

// Outgoing reports whether this device made the offer.
func (c *Conn) Outgoing() bool { return false }

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return nil }

// Err returns why the connection ended, nil before.
func (c *Conn) Err() error { return nil }

// Close ends the connection; reason is for the local log and event only.
func (c *Conn) Close(reason string) error { return nil }

// OpenStream opens a stream that the peer gets from AcceptStream.
func (c *Conn) OpenStream(ctx context.Context, name string) (*Stream, error) { return nil, ErrClosed }

// AcceptStream waits for a stream that the peer opens.
func (c *Conn) AcceptStream(ctx context.Context) (*Stream, error) { return nil, ErrClosed }
