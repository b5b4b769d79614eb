//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
	"github.com/peersignal/peersignal/test/nat/lab"
)

// A session is a new user's session with the server, made from inside a node. Its credentials are good while it stands.
type session struct {
	ws  *websocket.Conn
	ice []wire.ICEServer
}

func (s *session) close() { _ = s.ws.CloseNow() }

// openSession signs in and gets what every client gets. server is an address and port.
func openSession(ctx context.Context, n *lab.Node, server string) (*session, error) {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(_ context.Context, network, address string) (c net.Conn, err error) {
			err = n.Do(func() error {
				c, err = net.DialTimeout(network, address, 5*time.Second)
				return err
			})
			return c, err
		},
	}}
	ws, resp, err := websocket.Dial(ctx, "ws://"+server+wire.Path, &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{wire.Subprotocol}})
	if err != nil {
		if resp != nil && resp.Body != nil {
			_ = resp.Body.Close()
		}
		return nil, fmt.Errorf("connecting to signaling: %w", err)
	}
	s := &session{ws: ws}
	if s.ice, err = signIn(ctx, ws, server); err != nil {
		s.close()
		return nil, fmt.Errorf("signing in: %w", err)
	}
	return s, nil
}

func signIn(ctx context.Context, ws *websocket.Conn, server string) ([]wire.ICEServer, error) {
	now := time.Now()
	id, _, err := peercrypto.NewIdentity(now)
	if err != nil {
		return nil, err
	}
	cert, err := id.Cert(now, 24*time.Hour)
	if err != nil {
		return nil, err
	}
	hello, err := receive[*wire.Hello](ctx, ws)
	if err != nil {
		return nil, err
	}
	auth, err := wire.SignAuth(wire.AuthBody{
		V: wire.Version, Server: server, Nonce: hello.Nonce, CNonce: peercrypto.NewNonce(),
		DeviceID: cert.DeviceID, DeviceKey: cert.DeviceKey, UserID: cert.UserID, UserKey: cert.UserKey,
		Time: now.UnixMilli(), Caps: []string{wire.CapRV1},
	}, id.Device, cert)
	if err != nil {
		return nil, err
	}
	frame, err := wire.Encode(auth)
	if err != nil {
		return nil, err
	}
	if err := ws.Write(ctx, websocket.MessageText, frame); err != nil {
		return nil, err
	}
	ready, err := receive[*wire.Ready](ctx, ws)
	if err != nil {
		return nil, err
	}
	if len(ready.ICE) == 0 {
		return nil, errors.New("the server handed out no ICE servers")
	}
	return ready.ICE, nil
}

func receive[M wire.Message](ctx context.Context, ws *websocket.Conn) (M, error) {
	var none M
	_, frame, err := ws.Read(ctx)
	if err != nil {
		return none, err
	}
	got, err := wire.DecodeFromServer(frame)
	if err != nil {
		return none, err
	}
	m, ok := got.(M)
	if !ok {
		return none, fmt.Errorf("got %s: %+v", got.Type(), got)
	}
	return m, nil
}
