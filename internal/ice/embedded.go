package ice

import (
	"context"
	"fmt"
	"time"
)

// Minter makes credentials for a relay, bound to a session of a user.
type Minter interface {
	Credentials(session, user string) (username, password string, expires time.Time, err error)
}

// EmbeddedPorts says where clients reach the embedded relay. A port of 0 means
// that the transport is not served.
type EmbeddedPorts struct {
	UDP, TCP uint16
	// TLS needs a certificate for the host that clients are told.
	TLS uint16
	// Host is what clients are told to dial; empty: the host that they dialled
	// for signaling (Request.Host).
	Host string
}

// Embedded advertises the relay that runs in this process.
type Embedded struct {
	minter Minter
	ports  EmbeddedPorts
}

// NewEmbedded returns a source of "stun:host:port",
// "turn:host:port?transport=udp", "turn:host:port?transport=tcp" and
// "turns:host:port?transport=tcp".
func NewEmbedded(m Minter, ports EmbeddedPorts) *Embedded {
	return &Embedded{minter: m, ports: ports}
}

// Name implements Source.
func (*Embedded) Name() string { return "embedded" }

// ICEServers implements Source: it mints credentials for the request's session
// and user. A host that is no name and no address is an error, since it would
// be handed to the client's ICE agent as it is.
func (e *Embedded) ICEServers(_ context.Context, r Request) (Result, error) {
	dialled := e.ports.Host
	if dialled == "" {
		dialled = r.Host
	}
	host, err := hostOnly(dialled)
	if err != nil {
		return Result{}, fmt.Errorf("advertising the embedded relay under %.64q: %w", dialled, err)
	}
	var stun, turn []string
	if e.ports.UDP != 0 {
		stun = append(stun, URL{Scheme: "stun", Host: host, Port: e.ports.UDP}.String())
		turn = append(turn, URL{Scheme: "turn", Host: host, Port: e.ports.UDP, Transport: "udp"}.String())
	}
	if e.ports.TCP != 0 {
		turn = append(turn, URL{Scheme: "turn", Host: host, Port: e.ports.TCP, Transport: "tcp"}.String())
	}
	if e.ports.TLS != 0 {
		turn = append(turn, URL{Scheme: "turns", Host: host, Port: e.ports.TLS, Transport: "tcp"}.String())
	}
	if len(turn) == 0 {
		return Result{}, nil
	}
	username, password, expires, err := e.minter.Credentials(r.Session, r.User)
	if err != nil {
		return Result{}, fmt.Errorf("advertising the embedded relay: %w", err)
	}
	var servers []Server
	if len(stun) > 0 {
		servers = append(servers, Server{URLs: stun})
	}
	servers = append(servers, Server{URLs: turn, Username: username, Credential: password})
	return Result{Servers: servers, Expires: expires}, nil
}
