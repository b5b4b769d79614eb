package link_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// relay is a signaling server that does what it is told to: honest by default,
// with hooks to lie.
type relay struct {
	t    testing.TB
	http *httptest.Server
	// pass is called for each envelope before it is relayed; what it returns is
	// sent instead.
	pass func(to peercrypto.ID, m *wire.Signal) []*wire.Signal
	// name, if set, is the only name that is accepted; others get use-name.
	name string
	// ice is what ready and ice say.
	ice        []wire.ICEServer
	iceExpires int64

	mu       sync.Mutex
	sessions map[peercrypto.ID]*relaySession
	auths    []*wire.Auth
	iceAsked int
}

type relaySession struct {
	ws   *websocket.Conn
	cert peercrypto.DeviceCert
	tags map[peercrypto.Tag]bool
	wmu  sync.Mutex
}

func newRelay(t testing.TB) *relay {
	t.Helper()
	r := &relay{t: t, sessions: make(map[peercrypto.ID]*relaySession)}
	r.http = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.http.Close)
	return r
}

func (r *relay) url() string { return r.http.URL }

func (s *relaySession) send(m wire.Message) {
	b, err := wire.Encode(m)
	if err != nil {
		panic(err)
	}
	s.sendRaw(b)
}

func (s *relaySession) sendRaw(b []byte) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = s.ws.Write(ctx, websocket.MessageText, b)
}

func (r *relay) serve(w http.ResponseWriter, req *http.Request) {
	ws, err := websocket.Accept(w, req, &websocket.AcceptOptions{Subprotocols: []string{wire.Subprotocol}})
	if err != nil {
		return
	}
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(wire.MaxTopicsFrame)
	s := &relaySession{ws: ws, tags: make(map[peercrypto.Tag]bool)}
	var nonce wire.Nonce
	copy(nonce[:], time.Now().String())
	s.send(&wire.Hello{
		V: wire.Version, Nonce: nonce, Time: time.Now().UnixMilli(), Caps: []string{wire.CapRV1},
		Limits: wire.Limits{Frame: wire.MaxFrame, TopicsFrame: wire.MaxTopicsFrame, Topics: wire.MaxTopics},
	})
	auth, ok := r.read(ws).(*wire.Auth)
	if !ok {
		return
	}
	refused := auth.Verify(wire.AuthCheck{Nonce: nonce, Issued: time.Now(), Now: time.Now(), CheckName: r.checkName})
	if refused != nil {
		s.send(refused)
		_ = ws.Close(websocket.StatusCode(wire.CloseRefused), "")
		return
	}
	s.cert = auth.Cert
	r.mu.Lock()
	r.auths = append(r.auths, auth)
	ready := &wire.Ready{
		Session: peercrypto.NewNonce(), You: wire.You{Addr: "127.0.0.1:1"}, ICE: r.ice, ICEExpires: r.iceExpires,
	}
	r.sessions[s.cert.DeviceID] = s
	r.mu.Unlock()
	s.send(ready)
	defer r.leave(s)
	for {
		m := r.read(ws)
		if m == nil {
			return
		}
		r.handle(s, m)
	}
}

func (r *relay) checkName(name string) *wire.Refused {
	if r.name != "" && name != r.name {
		return &wire.Refused{Code: wire.CodeUseName, Message: "use the canonical name", Name: r.name}
	}
	return nil
}

func (r *relay) read(ws *websocket.Conn) wire.Message {
	_, b, err := ws.Read(context.Background())
	if err != nil {
		return nil
	}
	m, err := wire.DecodeFromClient(b)
	if err != nil {
		r.t.Errorf("client sent what a server refuses: %v", err)
		return nil
	}
	return m
}

func (r *relay) leave(s *relaySession) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions[s.cert.DeviceID] != s {
		return
	}
	delete(r.sessions, s.cert.DeviceID)
	for tag := range s.tags {
		r.announceLocked(s, tag, false)
	}
}

func (r *relay) announceLocked(s *relaySession, tag peercrypto.Tag, join bool) {
	m := &wire.Present{Tag: tag}
	if join {
		m.Join = []wire.PresentPeer{{Cert: s.cert}}
	} else {
		m.Leave = []peercrypto.ID{s.cert.DeviceID}
	}
	for _, o := range r.sessions {
		if o != s && o.tags[tag] {
			o.send(m)
		}
	}
}

func (r *relay) handle(s *relaySession, m wire.Message) {
	switch m := m.(type) {
	case *wire.Topics:
		r.topics(s, m)
		s.send(&wire.Result{ID: m.ID, Code: wire.CodeOK})
	case *wire.Signal:
		s.send(&wire.Result{ID: m.ID, Code: r.route(s, m)})
	case *wire.ICERequest:
		r.mu.Lock()
		r.iceAsked++
		ice := &wire.ICE{ID: m.ID, Servers: r.ice, Expires: time.Now().Add(time.Hour).UnixMilli()}
		r.mu.Unlock()
		s.send(ice)
	case *wire.Bye:
		_ = s.ws.CloseNow()
	}
}

func (r *relay) topics(s *relaySession, m *wire.Topics) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, tag := range m.Del {
		if s.tags[tag] {
			delete(s.tags, tag)
			r.announceLocked(s, tag, false)
		}
	}
	for _, tag := range m.Add {
		s.tags[tag] = true
		full := &wire.Present{Tag: tag, Full: true}
		for _, o := range r.sessions {
			if o != s && o.tags[tag] {
				full.Join = append(full.Join, wire.PresentPeer{Cert: o.cert})
			}
		}
		s.send(full)
		r.announceLocked(s, tag, true)
	}
}

func (r *relay) route(s *relaySession, m *wire.Signal) wire.Code {
	r.mu.Lock()
	to, pass := r.sessions[m.To], r.pass
	ok := to != nil && (m.SameUser() && to.cert.UserKey == s.cert.UserKey || to.tags[m.Via] && s.tags[m.Via])
	r.mu.Unlock()
	if !ok {
		return wire.CodeNotAllowed
	}
	out := *m
	out.From, out.To, out.ID = s.cert.DeviceID, "", 0
	all := []*wire.Signal{&out}
	if pass != nil {
		all = pass(m.To, &out)
	}
	for _, o := range all {
		to.send(o)
	}
	return wire.CodeDelivered
}

// inject sends an envelope to a device as if the server had it from somebody.
func (r *relay) inject(to peercrypto.ID, m *wire.Signal) {
	var s *relaySession
	eventually(r.t, "device "+to.Short()+" is connected", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		s = r.sessions[to]
		return s != nil
	})
	s.send(m)
}

// push sends every session other ICE servers.
func (r *relay) push(servers []wire.ICEServer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ice = servers
	for _, s := range r.sessions {
		s.send(&wire.ICE{Servers: servers, Expires: time.Now().Add(time.Hour).UnixMilli()})
	}
}

// dropAll cuts every session.
func (r *relay) dropAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sessions {
		_ = s.ws.CloseNow()
	}
}

func (r *relay) setPass(f func(to peercrypto.ID, m *wire.Signal) []*wire.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pass = f
}

func hostPort(url string) string { return strings.TrimPrefix(url, "http://") }
