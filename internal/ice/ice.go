package ice

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Server is one entry of an RTCConfiguration's iceServers list. Its JSON is
// what browsers take.
type Server struct {
	URLs       []string `json:"urls"` // RFC 7064, RFC 7065
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// String keeps the credential out of formatted output.
func (s Server) String() string { return fmt.Sprint(s.URLs) }

// GoString keeps the credential out of %#v.
func (s Server) GoString() string { return s.String() }

// LogValue keeps the credential out of logs.
func (s Server) LogValue() slog.Value { return slog.AnyValue(s.URLs) }

// Request says for whom the servers are.
type Request struct {
	Session string // the signaling session; credentials are bound to it
	User    string // the user; quotas are counted on it
	Host    string // the host name or address that the client dialled, with or without a port
}

// Result is what a Source answers. The caller owns it.
type Result struct {
	Servers []Server
	// Expires is when the first credential ends, and the client should have
	// asked again; zero: never.
	Expires time.Time
	// Ignored counts the URLs that a provider named and that were left out,
	// since they are not understood or lack a credential.
	Ignored int
}

// clone returns a copy that shares nothing with r.
func (r Result) clone() Result {
	r.Servers = cloneServers(r.Servers)
	return r
}

// Source is somebody who knows ICE servers. ICEServers may be called from
// several goroutines, returns early when ctx ends, and gives the caller its
// own copy.
type Source interface {
	// Name is a short constant: it is a metric label.
	Name() string
	ICEServers(ctx context.Context, r Request) (Result, error)
}

func cloneServers(servers []Server) []Server {
	out := make([]Server, len(servers))
	for i, s := range servers {
		out[i] = s
		out[i].URLs = slices.Clone(s.URLs)
	}
	return out
}

// earliest returns the earlier time, where zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
