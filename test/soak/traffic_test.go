//go:build linux

package soak

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/logging"
	pionturn "github.com/pion/turn/v4"

	"github.com/peersignal/peersignal/internal/load"
	"github.com/peersignal/peersignal/internal/throwaway"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// kinds are what goes on all the time, each in a loop of its own.
var kinds = map[string]func(ctx context.Context, s *server) error{
	"pairs": func(ctx context.Context, s *server) error {
		n := 2 * (1 + mrand.IntN(40))
		return s.some(ctx, load.Config{Scenario: load.Pairs, Devices: n, Size: 400 + mrand.IntN(8000), Rate: 20 * float64(n)})
	},
	"groups": func(ctx context.Context, s *server) error {
		n := 10 + mrand.IntN(40)
		return s.some(ctx, load.Config{Scenario: load.Groups, Devices: n, GroupsOf: 2 + n/3, Rate: 100})
	},
	"newcomers": func(ctx context.Context, s *server) error {
		return s.some(ctx, load.Config{Scenario: load.Newcomers, Devices: 20, Count: 20, Burst: 1 + mrand.IntN(4)})
	},
	"logins": func(ctx context.Context, s *server) error {
		return s.some(ctx, load.Config{Scenario: load.Auth, Devices: 4, ConnectRate: 200})
	},
	"storms": func(ctx context.Context, s *server) error {
		return s.some(ctx, load.Config{Scenario: load.Storm, Devices: 20 + mrand.IntN(40), Count: 5})
	},
	"refused":   refused,
	"silent":    silent,
	"slow":      slowReader,
	"relays":    relays,
	"operators": operators,
}

// some is a short load. It ends by itself, so that its devices say goodbye.
func (s *server) some(ctx context.Context, cfg load.Config) error {
	cfg.Duration = time.Second + mrand.N(2*time.Second)
	if cfg.Scenario == load.Newcomers {
		cfg.Duration = time.Minute // they leave when all have come
	}
	_, err := s.load(context.WithoutCancel(ctx), cfg)
	return err
}

// refused sends what a server refuses.
func refused(ctx context.Context, s *server) error {
	c, hello, err := s.dial(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = c.CloseNow() }()
	d, err := throwaway.NewDevice(time.Hour)
	if err != nil {
		return err
	}
	name := []string{s.name, "signal.example.org:443"}[mrand.IntN(2)]
	auth, err := wire.SignAuth(wire.AuthBody{
		V: 1, Server: name, Nonce: hello.Nonce, CNonce: peercrypto.NewNonce(), DeviceID: d.Cert.DeviceID, DeviceKey: d.Cert.DeviceKey,
		UserID: d.Cert.UserID, UserKey: d.Cert.UserKey, Time: time.Now().UnixMilli(), Caps: []string{wire.CapRV1},
	}, d.Key, d.Cert)
	if err != nil {
		return err
	}
	auth.Sig[mrand.IntN(len(auth.Sig))] ^= 1
	frames := []string{`{"type":"offer"}`, `null`, `{`, strings.Repeat("x", 9<<10), "\xff"}
	if i := mrand.IntN(len(frames) + 1); i < len(frames) {
		err = c.Write(ctx, websocket.MessageText, []byte(frames[i]))
	} else {
		err = write(ctx, c, auth)
	}
	if err != nil {
		return nil // closed already
	}
	if _, err := read[*wire.Ready](ctx, c); err == nil {
		return errors.New("the server let somebody in whom it had to refuse")
	}
	return nil
}

// silent opens connections that say nothing, or half of something.
func silent(ctx context.Context, s *server) error {
	half := "GET /v1/signal HTTP/1.1\r\nHost: x\r\nUpgr"
	for range 10 {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.name)
		if err != nil {
			return fmt.Errorf("silent: %w", err)
		}
		defer func() { _ = c.Close() }()
		_, _ = c.Write([]byte(half[:mrand.IntN(len(half))]))
	}
	c, _, err := s.dial(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = c.CloseNow() }()
	if mrand.IntN(2) == 0 {
		_, _, _ = c.Read(ctx) // until the server has enough
	}
	return nil
}

// slowReader holds a tag and reads nothing, until the server has closed it. Its
// mate goes on without it.
func slowReader(ctx context.Context, s *server) error {
	var tag peercrypto.Tag
	_, _ = rand.Read(tag[:])
	small := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	slow, err := s.connect(ctx, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: &http.Transport{DialContext: small.DialContext}},
	})
	if err != nil {
		return err
	}
	defer func() { _ = slow.CloseNow() }()
	mate, err := s.connect(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = mate.CloseNow() }()
	if err := errors.Join(slow.hold(ctx, tag), mate.hold(ctx, tag)); err != nil {
		return err
	}
	env := wire.NewEnvelope(nil, make([]byte, 40<<10))
	for id := uint64(2); id < 500 && ctx.Err() == nil; id++ {
		m := &wire.Signal{
			Kind: wire.KindCandidate, ID: id, To: slow.Cert.DeviceID, Via: tag, Conn: peercrypto.NewID(time.Now()), Env: env,
		}
		if err := write(ctx, mate.Conn, m); err != nil {
			return fmt.Errorf("slow: %w", err)
		}
		r, err := read[*wire.Result](ctx, mate.Conn)
		if err != nil {
			return fmt.Errorf("slow: %w", err)
		}
		if r.Code != wire.CodeDelivered {
			_ = write(ctx, mate.Conn, &wire.Bye{})
			return nil // closed, or too much waits for it
		}
	}
	if ctx.Err() == nil {
		return errors.New("slow: a device that reads nothing got 20 MB")
	}
	return nil
}

// relays opens relays of a session, and lets an operator end half of the
// sessions with their relays still open.
func relays(ctx context.Context, s *server) error {
	c, err := s.connectAs(ctx, s.relayers[mrand.IntN(len(s.relayers))], nil)
	if err != nil {
		return err
	}
	defer func() { _ = c.CloseNow() }()
	relay, end, err := allocate(c.ready.ICE)
	if err != nil {
		return fmt.Errorf("relays: %w", err)
	}
	defer end() // also of one that the server has ended
	if _, err := relay.WriteTo([]byte("ping"), relay.LocalAddr()); err != nil {
		return fmt.Errorf("relays: %w", err)
	}
	if mrand.IntN(2) == 0 {
		_, err = s.admin(ctx, "kick", "--device", string(c.Cert.DeviceID))
	} else {
		end()
		err = write(ctx, c.Conn, &wire.Bye{})
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// allocate opens a relay on the first TURN server over UDP.
func allocate(servers []wire.ICEServer) (relay net.PacketConn, end func(), err error) {
	for _, server := range servers {
		for _, url := range server.URLs {
			address, isTURN := strings.CutPrefix(url, "turn:")
			address, query, _ := strings.Cut(address, "?")
			if isTURN && query != "transport=tcp" {
				return allocateAt(address, server)
			}
		}
	}
	return nil, nil, errors.New("the session was given no TURN server")
}

func allocateAt(address string, server wire.ICEServer) (relay net.PacketConn, end func(), err error) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	client, err := pionturn.NewClient(&pionturn.ClientConfig{
		STUNServerAddr: address, TURNServerAddr: address, Conn: conn, Username: server.Username, Password: server.Credential,
		LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard},
	})
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	end = sync.OnceFunc(func() {
		if relay != nil {
			_ = relay.Close()
		}
		client.Close()
		_ = conn.Close()
	})
	if err = client.Listen(); err == nil {
		relay, err = client.Allocate()
	}
	if err != nil {
		end()
	}
	return relay, end, err
}

// operators look around, and block and unblock somebody.
func operators(ctx context.Context, s *server) error {
	d, err := throwaway.NewDevice(time.Hour)
	if err != nil {
		return err
	}
	who := string(d.Cert.DeviceID)
	for _, args := range [][]string{
		{"status"}, {"sessions", "--limit", "1000"}, {"block", "--device", who}, {"blocked"}, {"unblock", "--device", who},
	} {
		if _, err := s.admin(ctx, args...); err != nil && ctx.Err() == nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(300 * time.Millisecond):
	}
	return nil
}
