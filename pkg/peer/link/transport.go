package link

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/pion/datachannel"
	"github.com/pion/webrtc/v4"
)

// maxRemoteStreams is how many streams a peer may have open. It is above
// MaxStreams because the peer counts a stream as closed before we hear of it.
const maxRemoteStreams = 2 * MaxStreams

const streamPrefix = "s:"

// transport owns one PeerConnection: its certificate, its candidates and the
// opening of its channels. What happens to it ends the context through fail.
type transport struct {
	pc        *webrtc.PeerConnection
	sockets   *sockets
	fp        string // of the own certificate
	mainLabel string
	offerer   bool
	hide      bool
	fail      context.CancelCauseFunc

	main     chan *channel // the main channel, once open; capacity 1
	incoming chan *channel // streams that the peer opened; capacity maxRemoteStreams
	local    chan webrtc.ICECandidateInit
	changed  func() // called when the path may have changed; must not block

	mu       sync.Mutex
	gathered chan struct{} // closed when there are no more local candidates for now
	finished bool          // gathered is closed
	hasMain  bool
	verified bool // the peer's proof was good: it may open streams
	remote   int  // streams of the peer that have not ended
}

// channel is an open data channel.
type channel struct {
	dc    *webrtc.DataChannel
	raw   datachannel.ReadWriteCloserDeadliner
	label string
}

type transportConfig struct {
	api       *webrtc.API
	sockets   *sockets // of api
	servers   []webrtc.ICEServer
	policy    webrtc.ICETransportPolicy
	mainLabel string
	offerer   bool
	hide      bool // local addresses, from the peer
	fail      context.CancelCauseFunc
	changed   func() // when the path may have changed; must not block; may be nil
}

func newTransport(cfg transportConfig) (*transport, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making DTLS key: %w", err)
	}
	cert, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return nil, fmt.Errorf("making DTLS certificate: %w", err)
	}
	fps, err := cert.GetFingerprints()
	if err != nil || len(fps) == 0 {
		return nil, fmt.Errorf("hashing DTLS certificate: %w", errors.Join(err, ErrFingerprint))
	}
	fp, err := parseFingerprint(fps[0].Algorithm + " " + fps[0].Value)
	if err != nil {
		return nil, fmt.Errorf("hashing DTLS certificate: %w", err)
	}
	pc, err := cfg.api.NewPeerConnection(webrtc.Configuration{
		Certificates: []webrtc.Certificate{*cert}, ICEServers: cfg.servers, ICETransportPolicy: cfg.policy,
	})
	if err != nil {
		return nil, fmt.Errorf("making PeerConnection: %w", err)
	}
	t := &transport{
		pc: pc, sockets: cfg.sockets, fp: fp, mainLabel: cfg.mainLabel, offerer: cfg.offerer, hide: cfg.hide, fail: cfg.fail, changed: cfg.changed,
		main: make(chan *channel, 1), incoming: make(chan *channel, maxRemoteStreams),
		local: make(chan webrtc.ICECandidateInit, MaxCandidates), gathered: make(chan struct{}),
	}
	if t.changed == nil {
		t.changed = func() {}
	}
	t.watch()
	if cfg.offerer {
		if err := t.createMain(); err != nil {
			t.close()
			return nil, err
		}
	}
	return t, nil
}

// watch sets the callbacks. None of them blocks.
func (t *transport) watch() {
	t.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		switch s {
		case webrtc.PeerConnectionStateFailed:
			t.fail(ErrICEFailed)
		case webrtc.PeerConnectionStateClosed:
			t.fail(ErrPeerClosed)
		default:
		}
	})
	t.pc.OnICEConnectionStateChange(func(webrtc.ICEConnectionState) { t.changed() })
	t.pc.SCTP().Transport().ICETransport().OnSelectedCandidatePairChange(func(*webrtc.ICECandidatePair) { t.changed() })
	t.pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c == nil {
			t.mu.Lock()
			defer t.mu.Unlock()
			if !t.finished {
				t.finished = true
				close(t.gathered)
			}
			return
		}
		select {
		case t.local <- c.ToJSON():
		default: // the peer would not take more
		}
	})
	t.pc.OnDataChannel(t.onDataChannel)
}

func (t *transport) createMain() error {
	dc, err := t.pc.CreateDataChannel(t.mainLabel, nil)
	if err != nil {
		return fmt.Errorf("making main channel: %w", err)
	}
	t.hasMain = true
	t.onOpen(dc, func(c *channel) { t.main <- c })
	return nil
}

// onOpen detaches dc once it is open and passes it on.
func (t *transport) onOpen(dc *webrtc.DataChannel, then func(*channel)) {
	dc.OnOpen(func() {
		raw, err := dc.DetachWithDeadline()
		if err != nil {
			t.fail(fmt.Errorf("opening channel: %w", err))
			return
		}
		then(&channel{dc: dc, raw: raw, label: dc.Label()})
	})
}

// onDataChannel judges a channel that the peer opened.
func (t *transport) onDataChannel(dc *webrtc.DataChannel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	plain := dc.Ordered() && dc.MaxRetransmits() == nil && dc.MaxPacketLifeTime() == nil
	if !t.offerer && !t.hasMain && dc.Label() == t.mainLabel && plain {
		t.hasMain = true
		t.onOpen(dc, func(c *channel) { t.main <- c })
		return
	}
	if !t.verified {
		t.fail(ErrEarlyChannel)
		return
	}
	name, ok := strings.CutPrefix(dc.Label(), streamPrefix)
	if !ok || !validStreamName(name) || !plain {
		t.fail(fmt.Errorf("peer opened a channel: %w, or unordered or unreliable", ErrStreamName))
		return
	}
	if t.remote >= maxRemoteStreams {
		t.fail(fmt.Errorf("peer opened a channel: %w", ErrTooManyStreams))
		return
	}
	t.remote++
	t.onOpen(dc, func(c *channel) { t.incoming <- c })
}

// remoteEnded makes room for another stream of the peer.
func (t *transport) remoteEnded() {
	t.mu.Lock()
	t.remote--
	t.mu.Unlock()
}

// peerVerified lets the peer open streams.
func (t *transport) peerVerified() {
	t.mu.Lock()
	t.verified = true
	t.mu.Unlock()
}

// describe sets the local description (of an offer, or an answer to the remote
// one) and returns it with the candidates that were found within gatherGrace.
func (t *transport) describe(ctx context.Context) (string, error) {
	var d webrtc.SessionDescription
	var err error
	if t.offerer {
		d, err = t.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: t.pc.CurrentRemoteDescription() != nil})
	} else {
		d, err = t.pc.CreateAnswer(nil)
	}
	if err == nil {
		err = t.pc.SetLocalDescription(d)
	}
	if err != nil {
		return "", fmt.Errorf("describing session: %w", err)
	}
	t.mu.Lock()
	gathered := t.gathered
	t.mu.Unlock()
	timer := time.NewTimer(gatherGrace)
	defer timer.Stop()
	select {
	case <-gathered:
	case <-timer.C:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	return t.public(t.pc.LocalDescription().SDP), nil
}

// public is a description or candidate as the peer may see it.
func (t *transport) public(text string) string {
	if t.hide {
		return hideRelated(text)
	}
	return text
}

// renew prepares another round: the next description has candidates of the
// interfaces and servers of now. The offerer's path in use ends when it is
// described, the answerer's when the offer is applied.
func (t *transport) renew(servers []webrtc.ICEServer, policy webrtc.ICETransportPolicy) error {
	if t.pc.SignalingState() == webrtc.SignalingStateHaveLocalOffer {
		// The offer was never answered, and the stack can't take it back. The
		// answer to the one before makes it forget; its candidates lead nowhere
		// and are dropped with the next description.
		err := t.pc.SetRemoteDescription(webrtc.SessionDescription{
			Type: webrtc.SDPTypeAnswer, SDP: t.pc.CurrentRemoteDescription().SDP,
		})
		if err != nil {
			return fmt.Errorf("taking an offer back: %w", err)
		}
	}
	err := t.pc.SetConfiguration(webrtc.Configuration{ICEServers: servers, ICETransportPolicy: policy})
	if err != nil {
		return fmt.Errorf("using new ICE servers: %w", err)
	}
	t.mu.Lock()
	t.gathered, t.finished = make(chan struct{}), false
	t.mu.Unlock()
	for {
		select {
		case <-t.local:
		default:
			return nil
		}
	}
}

// selected returns the pair of candidates that is used, nil if there is none.
func (t *transport) selected() *webrtc.ICECandidatePair {
	pair, err := t.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil {
		return nil
	}
	return pair
}

// up reports whether there is a path and it has shown signs of life.
func (t *transport) up() bool {
	switch t.pc.ICEConnectionState() {
	case webrtc.ICEConnectionStateConnected, webrtc.ICEConnectionStateCompleted:
		// A restart takes the pair away before the state is told.
		return t.selected() != nil
	default:
		return false
	}
}

// closed reports whether there will be no path any more.
func (t *transport) closed() bool {
	return t.pc.ICEConnectionState() == webrtc.ICEConnectionStateClosed
}

// trickle calls send for each local candidate that is not in sdp already, until
// ctx ends. It does not stop when there are no more for now: the end of an
// earlier round may be told late.
func (t *transport) trickle(ctx context.Context, sdp string, send func(candidate)) {
	for {
		var c webrtc.ICECandidateInit
		select {
		case c = <-t.local:
		case <-ctx.Done():
			return
		}
		out := candidate{Candidate: t.public(c.Candidate)}
		if strings.Contains(sdp, out.Candidate) {
			continue
		}
		if c.SDPMid != nil {
			out.Mid = *c.SDPMid
		}
		if c.UsernameFragment != nil {
			out.Ufrag = *c.UsernameFragment
		}
		send(out)
	}
}

func (t *transport) setRemote(d webrtc.SessionDescription) error {
	if err := t.pc.SetRemoteDescription(d); err != nil {
		return fmt.Errorf("applying the peer's session description: %w: %w", ErrOffer, err)
	}
	return nil
}

func (t *transport) addCandidate(c candidate) error {
	in := webrtc.ICECandidateInit{Candidate: c.Candidate, SDPMLineIndex: &c.Line}
	if c.Mid != "" {
		in.SDPMid = &c.Mid
	}
	if c.Ufrag != "" {
		in.UsernameFragment = &c.Ufrag
	}
	return t.pc.AddICECandidate(in)
}

// remoteFP returns the fingerprint of the certificate that the peer proved to
// hold. It is read in state connected only: before that, the certificate is
// what somebody sent and nobody checked.
func (t *transport) remoteFP(main *channel) (string, error) {
	dtls := main.dc.Transport().Transport()
	if dtls.State() != webrtc.DTLSTransportStateConnected {
		return "", fmt.Errorf("reading the peer's certificate: DTLS is %s", dtls.State())
	}
	der := dtls.GetRemoteCertificate()
	if len(der) == 0 {
		return "", errors.New("reading the peer's certificate: there is none")
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// close ends the PeerConnection and waits for its goroutines. It must not be
// called from a callback.
func (t *transport) close() {
	hurry := time.AfterFunc(closeGrace, t.sockets.close)
	_ = t.pc.GracefulClose()
	hurry.Stop()
}

// mainChannel is the main channel as the handshake wants it.
type mainChannel struct{ *channel }

// ReadFrame returns the next text message.
func (m mainChannel) ReadFrame() ([]byte, error) {
	buf := make([]byte, MaxAuthFrame)
	n, text, err := m.raw.ReadDataChannel(buf)
	switch {
	case errors.Is(err, io.ErrShortBuffer):
		return nil, fmt.Errorf("%w: too long", ErrAuthFrame)
	case errors.Is(err, io.EOF):
		return nil, ErrPeerClosed
	case err != nil:
		return nil, err
	case !text:
		return nil, fmt.Errorf("%w: not text", ErrAuthFrame)
	}
	return buf[:n], nil
}

// WriteFrame sends a text message.
func (m mainChannel) WriteFrame(b []byte) error {
	_, err := m.raw.WriteDataChannel(b, true)
	return err
}
