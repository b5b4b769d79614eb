package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

const (
	// stableSession is how long a session has to last for the delay to begin
	// at the minimum again.
	stableSession = 30 * time.Second
	// topicsChunk tags fit one topics message with much room.
	topicsChunk = 8000
	topicsRetry = 5 * time.Second
	// iceMargin is how long before their end credentials are renewed.
	iceMargin = 60 * time.Second
	// maxAliases is how often use-name is followed in one attempt.
	maxAliases = 2
)

// httpClient makes the client for the WebSocket handshake. It follows no
// redirect: the name that is signed is the name that was dialled.
func httpClient(cfg *tls.Config) *http.Client {
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg = cfg.Clone()
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.NextProtos = nil
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: cfg,
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  10 * time.Second,
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the server redirects to another address; use that address")
		},
	}
}

// supervise keeps a session with the server until ctx ends.
func (l *Link) supervise(ctx context.Context) {
	failures := 0
	for {
		began := l.cfg.Now()
		err := l.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		if l.cfg.Now().Sub(began) >= stableSession {
			failures = 0
		}
		if errors.Is(err, errNetworkChanged) {
			failures = 0
		}
		least, wait := l.retryDelay(err, failures)
		failures++
		l.down(err, wait)
		if !l.sleep(ctx, least, wait) {
			return
		}
	}
}

// sleep waits, for good if d is negative. Reconnect cuts it short, and so does
// an urgent need, but not below least.
func (l *Link) sleep(ctx context.Context, least, d time.Duration) bool {
	var over <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}
	until := time.Now().Add(least)
	for {
		select {
		case <-over:
			return true
		case <-l.redial:
			return true
		case <-l.urgent:
			if d < 0 {
				continue
			}
			t := time.NewTimer(time.Until(until))
			defer t.Stop()
			over = t.C
		case <-ctx.Done():
			return false
		}
	}
}

// errRenew ends a session whose certificate is about to expire.
var errRenew = errors.New("renewing the device certificate")

// retryDelay is full jitter over an interval that doubles with each failure,
// after what the server asked for, which is the least. While connections have
// no path the interval stays short. A negative delay means not to come back.
func (l *Link) retryDelay(err error, failures int) (least, wait time.Duration) {
	if errors.Is(err, errRenew) || errors.Is(err, errNetworkChanged) {
		return 0, 0
	}
	most := l.cfg.ReconnectMax
	if failures < 16 {
		most = min(most, l.cfg.ReconnectMin<<failures)
	}
	if l.lost.Load() > 0 {
		most = min(most, l.cfg.timing.urgent)
	}
	var refused *RefusedError
	var notice *noticeError
	switch {
	case errors.As(err, &refused):
		least = refused.RetryAfter
		if !refused.Code.Retry() {
			most = l.cfg.ReconnectMax // somebody has to change something first
			least = max(least, most/2)
		}
	case errors.As(err, &notice):
		if notice.code == wire.CodeReplaced {
			return 0, -1
		}
		least = notice.retryAfter
		if notice.code == wire.CodeDraining && failures == 0 {
			most = 0 // the server has chosen a time for each of its sessions
		}
	default:
		if status := websocket.CloseStatus(err); status >= 4000 {
			again, after := wire.CloseCode(status).Reconnect()
			if !again {
				return 0, -1
			}
			least = after
		}
	}
	const longest = time.Hour // whatever the server says
	least = min(least, longest)
	return least, least + rand.N(most+1)
}

// noticeError is the server's reason for closing a session.
type noticeError struct {
	code       wire.Code
	message    string
	retryAfter time.Duration
}

func (e *noticeError) Error() string {
	return fmt.Sprintf("signaling server ended the session: %s: %s", e.code, e.message)
}

// connect opens a session, following use-name, and serves it until it ends.
func (l *Link) connect(ctx context.Context) error {
	name, wsURL, err := wire.CanonicalServer(l.cfg.Server)
	if err != nil {
		return err
	}
	for range maxAliases + 1 {
		cert, err := l.currentCert()
		if err != nil {
			return err
		}
		show := login{
			device: l.cfg.Identity.Device, cert: cert, client: l.client, now: l.cfg.Now, probe: l.cfg.timing.probe,
			nextID: l.before.nextID,
		}
		show.token, show.got = l.before.resumeFor(name, l.cfg.Now())
		s, err := openSession(ctx, name, wsURL, show)
		var refused *RefusedError
		if errors.As(err, &refused) && refused.Code == wire.CodeUseName {
			if name, wsURL, err = aliasOf(wsURL, refused.name, strings.HasSuffix(l.cfg.Server, insecureQuery)); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		return l.serveSession(s, cert)
	}
	return fmt.Errorf("connecting to %s: %w: each name of the server names another one", name, ErrRefused)
}

// currentCert returns a certificate with at least half of its life ahead.
func (l *Link) currentCert() (peercrypto.DeviceCert, error) {
	now := l.cfg.Now()
	l.mu.Lock()
	cert := l.cert
	l.mu.Unlock()
	if time.UnixMilli(cert.Expires).Sub(now) > l.cfg.CertLife/2 && !now.Before(time.UnixMilli(cert.Issued)) {
		return cert, nil
	}
	fresh, err := l.cfg.Identity.Cert(now, l.cfg.CertLife)
	if err != nil {
		return cert, fmt.Errorf("renewing device certificate: %w", err)
	}
	l.mu.Lock()
	l.cert = fresh
	l.mu.Unlock()
	return fresh, nil
}

// serveSession announces the session, keeps its topics and handles its messages
// until it ends.
func (l *Link) serveSession(s *session, cert peercrypto.DeviceCert) error {
	s.pong = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.wakeAllLocked()
	}
	l.up(s)
	renew := time.AfterFunc(time.UnixMilli(cert.Expires).Sub(l.cfg.Now())-l.cfg.CertLife/4, func() { s.cancel(errRenew) })
	defer renew.Stop()
	var wg sync.WaitGroup
	wg.Go(func() { l.publishTopics(s, &l.before) })
	err := s.run(func(m wire.Message) { l.onMessage(s, m) })
	wg.Wait()
	l.before.end(s)
	return err
}

// up makes s the session.
func (l *Link) up(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server.name != s.name {
		// Tags are derived from the name: those of the other one are of no use
		// here and none of this server's business.
		for _, tag := range l.order {
			l.dropTopicLocked(tag)
		}
		clear(l.topics)
		l.order = nil
	}
	l.before.begin(s)
	l.session = s
	l.server = serverState{
		name: s.name, session: s.ready.Session.String(), addr: s.ready.You.Addr,
		since: l.cfg.Now(), lastError: l.server.lastError, published: len(l.before.held),
	}
	l.ice = newICEState(s.ready.ICE, s.ready.ICEExpires)
	l.queue.push(ServerUp{Name: s.name, Session: l.server.session})
	if s.ready.Resumed {
		l.restoreLocked(l.before.peers)
	}
	l.before.peers = presence{}
	l.wakeAllLocked()
	close(l.upped)
	l.upped = make(chan struct{})
	l.cfg.Logger.Info("signaling session is up", "server", s.name, "resumed", s.ready.Resumed)
}

// down forgets the session and who was seen there.
func (l *Link) down(err error, retry time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session != nil {
		l.last, l.session = l.session, nil
		l.before.peers = l.peers
		l.server.since = l.cfg.Now()
		l.server.session, l.server.published = "", 0
	}
	l.server.lastError = err.Error()
	l.peers = newPresence()
	l.wakeAllLocked()
	l.queue.push(ServerDown{Err: err, Retry: retry})
	l.cfg.Logger.Warn("no signaling session", "err", err, "retry", retry)
}

func newICEState(servers []wire.ICEServer, expires int64) iceState {
	st := iceState{servers: servers}
	if expires > 0 {
		st.expires = time.UnixMilli(expires)
	}
	return st
}

// onMessage handles what is not a result. It is called by the reader and does
// not block.
func (l *Link) onMessage(s *session, m wire.Message) {
	switch m := m.(type) {
	case *wire.Present:
		l.onPresent(m)
	case *wire.Signal:
		l.onSignal(m)
	case *wire.ICE:
		l.mu.Lock()
		l.ice = newICEState(m.Servers, m.Expires)
		l.mu.Unlock()
	case *wire.Notice:
		if m.Code == wire.CodeDraining {
			s.leaveLater(m)
			return
		}
		s.cancel(&noticeError{m.Code, m.Message, time.Duration(m.RetryAfter) * time.Millisecond})
	default:
		l.refused.add("message out of place")
	}
}

// publishTopics sends the difference between the topics that should be held and
// those that the session has, whenever they change.
func (l *Link) publishTopics(s *session, c *continuity) {
	for {
		add, del := l.topicsDiff(c)
		if len(add)+len(del) == 0 {
			select {
			case <-l.changed:
				continue
			case <-s.ctx.Done():
				return
			}
		}
		_, err := s.call(s.ctx, resultTimeout, func(id uint64) wire.Message { return &wire.Topics{ID: id, Add: add, Del: del} })
		c.changed(add, del, err)
		if err == nil {
			l.mu.Lock()
			l.server.published = len(c.held)
			l.mu.Unlock()
			continue
		}
		if s.ctx.Err() != nil {
			return
		}
		l.noteTopicsError(err)
		wait := topicsRetry
		var refused *RefusedError
		if errors.As(err, &refused) {
			wait = max(wait, min(refused.RetryAfter, time.Minute))
			if !refused.Code.Retry() {
				wait = time.Minute
			}
		}
		if !l.pause(s.ctx, wait) {
			return
		}
	}
}

func (l *Link) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *Link) noteTopicsError(err error) {
	l.mu.Lock()
	l.server.lastError = fmt.Sprintf("publishing topics: %v", err)
	l.mu.Unlock()
	l.cfg.Logger.Warn("publishing topics", "err", err)
}

// topicsDiff returns the next part of what has to change. Removals come first,
// so that the server's limit holds in between.
func (l *Link) topicsDiff(c *continuity) (add, del []peercrypto.Tag) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, set := range []map[peercrypto.Tag]struct{}{c.held, c.unsure} {
		for tag := range set {
			if _, wanted := l.topics[tag]; !wanted && len(del) < topicsChunk {
				del = append(del, tag)
			}
		}
	}
	for _, tag := range l.order {
		if _, has := c.held[tag]; !has && len(add) < topicsChunk {
			add = append(add, tag)
		}
	}
	if len(del) == topicsChunk {
		add = nil
	}
	return add, del
}

// currentICE returns the ICE servers, renewed if they are about to expire.
func (l *Link) currentICE(ctx context.Context) []wire.ICEServer {
	l.mu.Lock()
	st, s := l.ice, l.session
	l.mu.Unlock()
	if !st.expires.IsZero() && st.expires.Sub(l.cfg.Now()) < iceMargin {
		st.servers = nil // of no use any more
		if s != nil {
			m, err := s.call(ctx, resultTimeout, func(id uint64) wire.Message { return &wire.ICERequest{ID: id} })
			if ice, ok := m.(*wire.ICE); ok && err == nil {
				st = newICEState(ice.Servers, ice.Expires)
				l.mu.Lock()
				l.ice = st
				l.mu.Unlock()
			} else {
				l.cfg.Logger.Warn("renewing ICE servers", "err", err)
			}
		}
	}
	return append(append([]wire.ICEServer(nil), st.servers...), l.cfg.ExtraICE...)
}
