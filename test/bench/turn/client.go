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

var overUDP = stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}}

// loopback is where peers are, and servers.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// allocateAll opens n allocations at the server, in lockstep: the server always
// has many requests to choose from. On an error those that are open remain.
func allocateAll(from netip.Addr, server netip.AddrPort, a account, n int) ([]*client, error) {
	clients := make([]*client, 0, n)
	for range n {
		s, err := dial(from, server)
		if err != nil {
			return clients, err
		}
		clients = append(clients, &client{socket: s, account: a})
	}
	typ := stun.NewType(stun.MethodAllocate, stun.ClassRequest)
	ask := func(request func(*client) *stun.Message, take func(*client, *stun.Message) error) error {
		requests := make([]*stun.Message, n)
		for i, c := range clients {
			requests[i] = request(c)
			if _, err := unix.Write(int(c.socket), requests[i].Raw); err != nil {
				return fmt.Errorf("sending a request: %w", err)
			}
		}
		for i, c := range clients {
			m, err := c.answer(requests[i])
			if err == nil {
				err = take(c, m)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	err := ask(func(*client) *stun.Message { return stun.MustBuild(stun.TransactionID, typ, overUDP) },
		func(c *client, m *stun.Message) error {
			if err := c.nonce.GetFrom(m); err != nil {
				return errors.Join(err, refusal(m))
			}
			return nil
		})
	if err != nil {
		return clients, fmt.Errorf("getting a nonce: %w", err)
	}
	err = ask(func(c *client) *stun.Message { return c.signed(typ, overUDP) },
		func(c *client, m *stun.Message) error {
			if m.Type.Class == stun.ClassErrorResponse && c.nonce.GetFrom(m) == nil {
				// coturn has a new nonce now and then.
				again := c.signed(typ, overUDP)
				if _, err := unix.Write(int(c.socket), again.Raw); err != nil {
					return fmt.Errorf("sending a request: %w", err)
				}
				var err error
				if m, err = c.answer(again); err != nil {
					return err
				}
			}
			return c.setRelay(m)
		})
	if err != nil {
		return clients, fmt.Errorf("allocating: %w", err)
	}
	return clients, nil
}

func (c *client) setRelay(m *stun.Message) error {
	if err := refusal(m); err != nil {
		return err
	}
	var relayed stun.XORMappedAddress
	if err := relayed.GetFromAs(m, stun.AttrXORRelayedAddress); err != nil {
		return fmt.Errorf("reading the relayed address: %w", err)
	}
	ip, _ := netip.AddrFromSlice(relayed.IP)
	c.relay = netip.AddrPortFrom(ip.Unmap(), uint16(relayed.Port))
	return nil
}

// bind makes a peer, and binds channel 0x4000 to it.
func (c *client) bind() error {
	var err error
	if c.peer, err = dial(loopback, c.relay); err != nil {
		return err
	}
	at, err := c.peer.addr()
	if err != nil {
		return err
	}
	err = c.askSigned(stun.NewType(stun.MethodChannelBind, stun.ClassRequest),
		stun.RawAttribute{Type: stun.AttrChannelNumber, Value: []byte{0x40, 0, 0, 0}}, peerAddress(at))
	if err != nil {
		return fmt.Errorf("binding a channel: %w", err)
	}
	return nil
}

// release ends the allocation.
func (c *client) release() {
	_ = c.askSigned(stun.NewType(stun.MethodRefresh, stun.ClassRequest),
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

func (c *client) signed(setters ...stun.Setter) *stun.Message {
	key := pionturn.GenerateAuthKey(c.account.Username, c.account.Realm, c.account.Password)
	all := append([]stun.Setter{stun.TransactionID}, setters...)
	return stun.MustBuild(append(all, stun.NewUsername(c.account.Username), stun.NewRealm(c.account.Realm), c.nonce,
		stun.MessageIntegrity(key))...)
}

func (c *client) askSigned(setters ...stun.Setter) error {
	m := c.signed(setters...)
	if _, err := unix.Write(int(c.socket), m.Raw); err != nil {
		return fmt.Errorf("sending a request: %w", err)
	}
	answer, err := c.answer(m)
	if err != nil {
		return err
	}
	return refusal(answer)
}

// answer waits for the answer to a request that was sent, and sends it again
// when none comes.
func (c *client) answer(request *stun.Message) (*stun.Message, error) {
	buf := make([]byte, 2048)
	for range 3 {
		n, err := unix.Read(int(c.socket), buf)
		if err != nil { // timed out
			if _, err := unix.Write(int(c.socket), request.Raw); err != nil {
				return nil, fmt.Errorf("sending a request: %w", err)
			}
			continue
		}
		m := &stun.Message{Raw: buf[:n]}
		if err := m.Decode(); err != nil {
			return nil, fmt.Errorf("reading an answer: %w", err)
		}
		return m, nil
	}
	return nil, errors.New("no answer to three requests")
}

func refusal(m *stun.Message) error {
	if m.Type.Class == stun.ClassSuccessResponse {
		return nil
	}
	var code stun.ErrorCodeAttribute
	_ = code.GetFrom(m)
	return fmt.Errorf("the server refused: %s", code)
}
