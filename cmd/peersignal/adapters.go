package main

import (
	"context"
	"time"

	"github.com/peersignal/peersignal/internal/ice"
	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/internal/turn"
	"github.com/peersignal/peersignal/pkg/wire"
)

// The server's parts do not know each other; what one needs of another is
// translated here.

// minter makes the embedded relay's credentials for internal/ice.
type minter struct{ server *turn.Server }

// Credentials implements ice.Minter.
func (m minter) Credentials(session, user string) (username, password string, expires time.Time, err error) {
	c, err := m.server.Credentials(session, user)
	return c.Username, c.Password, c.Expires, err
}

// iceAdapter gives internal/signaling the servers of an ice.Source.
type iceAdapter struct{ source ice.Source }

// ICEServers implements signaling.ICESource.
func (a iceAdapter) ICEServers(ctx context.Context, r signaling.ICERequest) ([]wire.ICEServer, time.Time, error) {
	res, err := a.source.ICEServers(ctx, ice.Request{Session: r.Session, User: r.User, Host: r.Host})
	if err != nil {
		return nil, time.Time{}, err
	}
	servers := make([]wire.ICEServer, len(res.Servers))
	for i, s := range res.Servers {
		servers[i] = wire.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential}
	}
	return servers, res.Expires, nil
}
