package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"github.com/pion/datachannel"
	pionice "github.com/pion/ice/v4"
	piontransport "github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"
)

const (
	message    = 60 << 10 // bytes
	socketRoom = 4 << 20
	lowMark    = 3 << 20
	highMark   = 4 << 20
)

// channel is one end of a bare data channel, set up as fast as we know how:
// detached, large messages, large buffers.
type channel struct {
	pc     *webrtc.PeerConnection
	dc     *webrtc.DataChannel
	opened chan datachannel.ReadWriteCloser
}

// wideNet asks for large socket buffers.
type wideNet struct{ *stdnet.Net }

func (n wideNet) ListenUDP(network string, addr *net.UDPAddr) (piontransport.UDPConn, error) {
	c, err := n.Net.ListenUDP(network, addr)
	if err == nil {
		_ = c.SetReadBuffer(socketRoom)
		_ = c.SetWriteBuffer(socketRoom)
	}
	return c, err
}

func (c *channel) handle(req request) (string, error) {
	switch req.Op {
	case "offer":
		return c.offer()
	case "answer":
		return c.answer(req.Text)
	case "connect":
		var sdp webrtc.SessionDescription
		if err := json.Unmarshal([]byte(req.Text), &sdp); err != nil {
			return "", err
		}
		if err := c.pc.SetRemoteDescription(sdp); err != nil {
			return "", err
		}
		raw := <-c.opened
		c.opened <- raw
		return "", nil
	case "send":
		return "", c.send(req.Size)
	case "receive":
		return "", c.receive(req.Size)
	}
	return "", fmt.Errorf("unknown request %q", req.Op)
}

func (c *channel) make() error {
	n, err := stdnet.NewNet()
	if err != nil {
		return err
	}
	var s webrtc.SettingEngine
	s.DetachDataChannels()
	s.SetNet(wideNet{n})
	s.SetIncludeLoopbackCandidate(true)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	s.SetICEMulticastDNSMode(pionice.MulticastDNSModeDisabled)
	s.SetSCTPMaxReceiveBufferSize(socketRoom)
	c.opened = make(chan datachannel.ReadWriteCloser, 1)
	c.pc, err = webrtc.NewAPI(webrtc.WithSettingEngine(s)).NewPeerConnection(webrtc.Configuration{})
	return err
}

// use hands the channel on once it is open.
func (c *channel) use(dc *webrtc.DataChannel) {
	c.dc = dc
	dc.OnOpen(func() {
		if raw, err := dc.Detach(); err == nil {
			c.opened <- raw
		}
	})
}

func (c *channel) offer() (string, error) {
	if err := c.make(); err != nil {
		return "", err
	}
	dc, err := c.pc.CreateDataChannel("bench", nil)
	if err != nil {
		return "", err
	}
	c.use(dc)
	sdp, err := c.pc.CreateOffer(nil)
	if err != nil {
		return "", err
	}
	return c.local(sdp)
}

func (c *channel) answer(offer string) (string, error) {
	if err := c.make(); err != nil {
		return "", err
	}
	c.pc.OnDataChannel(c.use)
	var sdp webrtc.SessionDescription
	if err := json.Unmarshal([]byte(offer), &sdp); err != nil {
		return "", err
	}
	if err := c.pc.SetRemoteDescription(sdp); err != nil {
		return "", err
	}
	answer, err := c.pc.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	return c.local(answer)
}

// local sets the local description and returns it with all candidates.
func (c *channel) local(sdp webrtc.SessionDescription) (string, error) {
	gathered := webrtc.GatheringCompletePromise(c.pc)
	if err := c.pc.SetLocalDescription(sdp); err != nil {
		return "", err
	}
	<-gathered
	b, err := json.Marshal(c.pc.LocalDescription())
	return string(b), err
}

func (c *channel) send(n int64) error {
	raw := <-c.opened
	low := make(chan struct{}, 1)
	c.dc.SetBufferedAmountLowThreshold(lowMark)
	c.dc.OnBufferedAmountLow(func() {
		select {
		case low <- struct{}{}:
		default:
		}
	})
	buf := make([]byte, message)
	for n > 0 {
		if c.dc.BufferedAmount() > highMark {
			<-low
		}
		k, err := raw.Write(buf[:min(n, message)])
		if err != nil {
			return err
		}
		n -= int64(k)
	}
	return nil
}

func (c *channel) receive(n int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var raw datachannel.ReadWriteCloser
	select {
	case raw = <-c.opened:
	case <-ctx.Done():
		return errors.New("the channel did not open")
	}
	buf := make([]byte, 1<<16)
	for n > 0 {
		k, err := raw.Read(buf)
		if err != nil {
			return err
		}
		n -= int64(k)
	}
	return nil
}

func (c *channel) close() {
	if c.pc != nil {
		_ = c.pc.Close()
	}
}
