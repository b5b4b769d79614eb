//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/pion/stun/v3"
	pionturn "github.com/pion/turn/v4"
	"golang.org/x/sys/unix"
)

// account is what a client presents to a server.
type account struct {
	Username, Password, Realm string
}

// client is one allocation with channel 0x4000 to a peer.
type client struct {
	socket, peer socket
	account      account
	nonce        stun.Nonce
	relay        netip.AddrPort
}

// allocate opens an allocation at the server.
func allocate(server netip.AddrPort, a account) (*client, error) {
	s, err := dial(server)
	if err != nil {
		return nil, err
	}
	c := &client{socket: s, account: a}
	typ := stun.NewType(stun.MethodAllocate, stun.ClassRequest)
	overUDP := stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}}
	challenge, err := c.ask(typ, overUDP)
	if err != nil {
		return nil, err
	}
	if err := c.nonce.GetFrom(challenge); err != nil {
		return nil, fmt.Errorf("reading the nonce: %w", err)
	}
	m, err := c.askSigned(typ, overUDP)
	if err != nil {
		return nil, fmt.Errorf("allocating: %w", err)
	}
	var relayed stun.XORMappedAddress
	if err := relayed.GetFromAs(m, stun.AttrXORRelayedAddress); err != nil {
		return nil, fmt.Errorf("reading the relayed address: %w", err)
	}
	ip, _ := netip.AddrFromSlice(relayed.IP)
	c.relay = netip.AddrPortFrom(ip.Unmap(), uint16(relayed.Port))
	return c, nil
}

// bind makes a peer, and binds channel 0x4000 to it.
func (c *client) bind() error {
	var err error
	if c.peer, err = dial(c.relay); err != nil {
		return err
	}
	at, err := c.peer.addr()
	if err != nil {
		return err
	}
	_, err = c.askSigned(stun.NewType(stun.MethodChannelBind, stun.ClassRequest),
		stun.RawAttribute{Type: stun.AttrChannelNumber, Value: []byte{0x40, 0, 0, 0}}, peerAddress(at))
	if err != nil {
		return fmt.Errorf("binding a channel: %w", err)
	}
	return nil
}

// release ends the allocation.
func (c *client) release() {
	_, _ = c.askSigned(stun.NewType(stun.MethodRefresh, stun.ClassRequest),
		stun.RawAttribute{Type: stun.AttrLifetime, Value: make([]byte, 4)})
	c.socket.close()
}

type peerAddress netip.AddrPort

// AddTo implements stun.Setter.
func (p peerAddress) AddTo(m *stun.Message) error {
	at := netip.AddrPort(p)
	x := stun.XORMappedAddress{IP: at.Addr().AsSlice(), Port: int(at.Port())}
	return x.AddToAs(m, stun.AttrXORPeerAddress)
}

func (c *client) askSigned(setters ...stun.Setter) (*stun.Message, error) {
	key := pionturn.GenerateAuthKey(c.account.Username, c.account.Realm, c.account.Password)
	return c.ask(append(setters, stun.NewUsername(c.account.Username), stun.NewRealm(c.account.Realm), c.nonce,
		stun.MessageIntegrity(key))...)
}

// ask sends a request, again when no answer comes.
func (c *client) ask(setters ...stun.Setter) (*stun.Message, error) {
	m, err := stun.Build(append([]stun.Setter{stun.TransactionID}, setters...)...)
	if err != nil {
		return nil, fmt.Errorf("building a request: %w", err)
	}
	for range 3 {
		if _, err := unix.Write(int(c.socket), m.Raw); err != nil {
			return nil, fmt.Errorf("sending a request: %w", err)
		}
		buf := make([]byte, 2048)
		n, err := unix.Read(int(c.socket), buf)
		if err != nil {
			continue // timed out
		}
		answer := &stun.Message{Raw: buf[:n]}
		if err := answer.Decode(); err != nil {
			return nil, fmt.Errorf("reading an answer: %w", err)
		}
		if answer.Type.Class == stun.ClassErrorResponse && answer.Contains(stun.AttrNonce) && len(setters) < 4 {
			return answer, nil
		}
		if answer.Type.Class != stun.ClassSuccessResponse {
			var code stun.ErrorCodeAttribute
			_ = code.GetFrom(answer)
			return nil, fmt.Errorf("the server refused: %s", code)
		}
		return answer, nil
	}
	return nil, errors.New("no answer to three requests")
}
