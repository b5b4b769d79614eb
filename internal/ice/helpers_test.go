package ice_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peersignal/peersignal/internal/ice"
)

const (
	accountSID = "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	apiKeySID  = "SKbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	theSecret  = "hunter2-hunter2-hunter2"
)

// twilioDouble answers as Twilio's API does: token number n has the username
// "user-n". It can be told to answer something else.
type twilioDouble struct {
	ttl string // as it stands in the reply

	mu      sync.Mutex
	calls   int
	instead http.HandlerFunc
}

func (d *twilioDouble) breakBy(h http.HandlerFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.instead = h
}

func (d *twilioDouble) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

func (d *twilioDouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.calls++
	n, instead := d.calls, d.instead
	d.mu.Unlock()
	if instead != nil {
		instead(w, r)
		return
	}
	user, password, _ := r.BasicAuth()
	switch {
	case r.Method != http.MethodPost || r.URL.Path != "/2010-04-01/Accounts/"+accountSID+"/Tokens.json":
		fail(404, 20404, "The requested resource was not found")(w, r)
	case (user != accountSID && user != apiKeySID) || password != theSecret:
		fail(401, 20003, "Authenticate")(w, r)
	case r.PostFormValue("Ttl") == "":
		fail(400, 20001, "Ttl is missing")(w, r)
	default:
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprint(w, twilioReply(n, d.ttl))
	}
}

func twilioReply(n int, ttl string) string {
	turn := `{"url":"turn:global.turn.twilio.com:%[3]s","urls":"turn:global.turn.twilio.com:%[3]s","username":"user-%[1]d","credential":"pw"}`
	all := []string{`{"url":"stun:global.stun.twilio.com:3478","urls":"stun:global.stun.twilio.com:3478"}`}
	for _, at := range []string{"3478?transport=udp", "3478?transport=tcp", "443?transport=tcp"} {
		all = append(all, fmt.Sprintf(strings.ReplaceAll(turn, "%[3]s", at), n))
	}
	return fmt.Sprintf(`{"account_sid":"%s","username":"user-%d","password":"pw","ttl":%s,"date_created":"Fri, 01 May 2020 01:42:57 +0000","ice_servers":[%s]}`,
		accountSID, n, ttl, strings.Join(all, ","))
}

// fail answers an error as Twilio does.
func fail(status, code int, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"code":%d,"message":%q,"more_info":"https://www.twilio.com/docs/errors/%d","status":%d}`, code, message, code, status)
	}
}

// pipes is a network inside a synctest bubble: real HTTP over net.Pipe.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	close sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.close.Do(func() { close(p.done) }); return nil }

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.done:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// servePipes serves h inside the bubble and returns a client that reaches it.
func servePipes(t *testing.T, h http.Handler) *http.Client {
	t.Helper()
	p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := &http.Server{Handler: h}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(p) })
	t.Cleanup(func() {
		_ = srv.Close()
		wg.Wait()
	})
	return &http.Client{Transport: &http.Transport{DialContext: p.dial, DisableKeepAlives: true}}
}

// run runs the chain or cache for the length of the test.
func run(t *testing.T, r interface{ Run(context.Context) error }) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// metrics gathers all series, as name{values of the labels by label name}.
func metrics(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			slices.Sort(labels)
			out[strings.TrimPrefix(f.GetName(), "peersignal_ice_")+"{"+strings.Join(labels, ",")+"}"] =
				m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

// logs is a logger whose lines can be read while it is written to.
type logs struct {
	mu    sync.Mutex
	lines []string
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logs) taken() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

// relay is the username of the first TURN server: it tells who answered.
func relay(r ice.Result) string {
	for _, s := range r.Servers {
		if s.Username != "" {
			return s.Username
		}
	}
	return ""
}
