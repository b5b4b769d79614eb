//go:build linux

package soak

import (
	"context"
	"fmt"
	"time"

	"github.com/coder/websocket"

	"github.com/peersignal/peersignal/internal/throwaway"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// session is an authenticated WebSocket, of a device that can do more than those of the load.
type session struct {
	*websocket.Conn
	throwaway.Device
	ready *wire.Ready
}

// dial upgrades and reads hello.
func (s *server) dial(ctx context.Context, o *websocket.DialOptions) (*websocket.Conn, *wire.Hello, error) {
	if o == nil {
		o = &websocket.DialOptions{}
	}
	o.Subprotocols = []string{wire.Subprotocol}
	c, resp, err := websocket.Dial(ctx, "ws://"+s.name+wire.Path, o)
	if err != nil {
		if resp != nil && resp.Body != nil {
			_ = resp.Body.Close()
		}
		return nil, nil, fmt.Errorf("dial: %w", err)
	}
	c.SetReadLimit(-1)
	hello, err := read[*wire.Hello](ctx, c)
	if err != nil {
		_ = c.CloseNow()
	}
	return c, hello, err
}

// connect makes a session of a new device.
func (s *server) connect(ctx context.Context, o *websocket.DialOptions) (*session, error) {
	d, err := throwaway.NewDevice(time.Hour)
	if err != nil {
		return nil, err
	}
	return s.connectAs(ctx, d, o)
}

// connectAs makes a session of d.
func (s *server) connectAs(ctx context.Context, d throwaway.Device, o *websocket.DialOptions) (*session, error) {
	c, hello, err := s.dial(ctx, o)
	if err != nil {
		return nil, err
	}
	auth, err := wire.SignAuth(wire.AuthBody{
		V: 1, Server: s.name, Nonce: hello.Nonce, CNonce: peercrypto.NewNonce(), DeviceID: d.Cert.DeviceID, DeviceKey: d.Cert.DeviceKey,
		UserID: d.Cert.UserID, UserKey: d.Cert.UserKey, Time: time.Now().UnixMilli(), Caps: []string{wire.CapRV1, wire.CapResume},
	}, d.Key, d.Cert)
	if err == nil {
		err = write(ctx, c, auth)
	}
	ready := &wire.Ready{}
	if err == nil {
		ready, err = read[*wire.Ready](ctx, c)
	}
	if err != nil {
		_ = c.CloseNow()
		return nil, err
	}
	return &session{c, d, ready}, nil
}

// hold publishes a tag.
func (c *session) hold(ctx context.Context, tag peercrypto.Tag) error {
	if err := write(ctx, c.Conn, &wire.Topics{ID: 1, Add: []peercrypto.Tag{tag}}); err != nil {
		return err
	}
	r, err := read[*wire.Result](ctx, c.Conn)
	if err == nil && r.Code != wire.CodeOK {
		err = fmt.Errorf("topics: %s %s", r.Code, r.Message)
	}
	return err
}

func write(ctx context.Context, c *websocket.Conn, m wire.Message) error {
	frame, err := wire.Encode(m)
	if err != nil {
		return err
	}
	return c.Write(ctx, websocket.MessageText, frame)
}

// read waits for a message of type M.
func read[M wire.Message](ctx context.Context, c *websocket.Conn) (M, error) {
	for {
		var none M
		_, frame, err := c.Read(ctx)
		if err != nil {
			return none, fmt.Errorf("waiting for %T: %w", none, err)
		}
		m, err := wire.DecodeFromServer(frame)
		if err != nil {
			return none, err
		}
		switch m := m.(type) {
		case M:
			return m, nil
		case *wire.Refused:
			return none, fmt.Errorf("refused: %s %s", m.Code, m.Message)
		}
	}
}
