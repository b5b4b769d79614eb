package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/peersignal/peersignal/internal/buildinfo"
	"github.com/peersignal/peersignal/internal/ice"
	"github.com/peersignal/peersignal/pkg/wire"
)

// profileTime is the longest profile or trace that an operator can take.
const profileTime = 5 * time.Minute

// httpServers are the server for clients and those for operators that were
// asked for.
func (a *app) httpServers() []httpServer {
	mux := http.NewServeMux()
	mux.Handle(wire.Path, a.proxied(a.signaling.Handler()))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { a.readyz(w, r, true) })
	mux.HandleFunc("GET /{$}", a.home)
	clients := a.newHTTP(mux)
	clients.ConnState = a.quiet.watch
	servers := []httpServer{{clients, a.listeners.clients}}
	operators := mux
	if a.listeners.metrics != nil {
		operators = http.NewServeMux()
		operators.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { a.readyz(w, r, false) })
		servers = append(servers, httpServer{a.newHTTP(operators), a.listeners.metrics})
	}
	operators.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{Registry: a.registry}))
	operators.HandleFunc("GET /status", a.status)
	if l := a.listeners.acme; l != nil {
		servers = append(servers, httpServer{a.newHTTP(a.acme.challenges()), l})
	}
	if l := a.listeners.adminSocket; l != nil {
		servers = append(servers, httpServer{a.newAdminHTTP(a.admin.Handler()), l})
	}
	if l := a.listeners.adminTCP; l != nil {
		token := func() string { return a.adminToken.Load().Reveal() }
		servers = append(servers, httpServer{a.newAdminHTTP(a.admin.TokenHandler(token)), l})
	}
	return servers
}

// proxied tells the operator, once, of a proxy whose X-Forwarded-For is not
// believed: all of its clients together have the limits of one address then.
func (a *app) proxied(next http.Handler) http.Handler {
	var told atomic.Bool
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Forwarded-For") != "" && !told.Load() {
			from, unknown := unknownProxy(r.RemoteAddr, *a.proxies.Load())
			if unknown && told.CompareAndSwap(false, true) {
				a.log.Warn("a proxy is not known, so its clients count as one: name its network with --trusted-proxy", "proxy", from)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// unknownProxy tells a proxy from a stranger, who can send any header, by its
// address: a proxy is in the operator's own network.
func unknownProxy(remote string, trusted []string) (netip.Addr, bool) {
	at, err := netip.ParseAddrPort(remote)
	from := at.Addr().Unmap().WithZone("")
	if err != nil || !from.IsPrivate() && !from.IsLoopback() && !from.IsLinkLocalUnicast() {
		return from, false
	}
	return from, !slices.ContainsFunc(trusted, func(text string) bool {
		p, err := network(text)
		return err == nil && p.Contains(from)
	})
}

// newHTTP bounds what a stranger can hold: a request has to come, and its
// answer to go, in time. What is upgraded has its own limits.
func (a *app) newHTTP(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(a.log.With("part", "http").Handler(), slog.LevelDebug),
	}
}

func (a *app) newAdminHTTP(h http.Handler) *http.Server {
	s := a.newHTTP(h)
	s.WriteTimeout = profileTime
	return s
}

// check is one of the things that readiness depends on.
type check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Needed bool   `json:"needed"` // false: the server is ready without it
	Reason string `json:"reason,omitempty"`
}

// readiness says whether the server takes sessions that it can serve. Reasons
// can name hosts of the operator's network.
func (a *app) readiness() (text string, ok bool, checks []check) {
	running := check{Name: "running", OK: a.ready.Load(), Needed: true}
	if a.draining.Load() {
		running.Reason = "the server is draining"
	}
	checks = append(checks, running)
	health := a.sources.chain().Health()
	anySource := slices.ContainsFunc(health, func(h ice.SourceHealth) bool { return h.OK })
	for _, h := range health {
		checks = append(checks, check{Name: "ice-" + h.Source, OK: h.OK, Reason: h.Reason})
	}
	needed := a.iceRequired.Load()
	checks = append(checks, check{Name: "ice", OK: anySource || len(health) == 0, Needed: needed})
	switch {
	case !running.OK:
		return "not ready", false, checks
	case needed && !anySource:
		return "not ready: no source of ICE servers can answer", false, checks
	}
	return "ready", true, checks
}

// readyGauge is readiness for those who only scrape.
func (a *app) readyGauge() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "peersignal_ready", Help: "1 while the server takes sessions, as /readyz says, else 0.",
	}, func() float64 {
		if _, ok, _ := a.readiness(); ok {
			return 1
		}
		return 0
	})
}

// readyz answers in JSON when asked with ?verbose. Reasons are for operators'
// own listener.
func (a *app) readyz(w http.ResponseWriter, r *http.Request, public bool) {
	text, ok, checks := a.readiness()
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "5")
	}
	if !r.URL.Query().Has("verbose") {
		answer(w, status, text)
		return
	}
	for i := range checks {
		if public && strings.HasPrefix(checks[i].Name, "ice-") {
			checks[i].Reason = ""
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct {
		Ready  bool    `json:"ready"`
		Checks []check `json:"checks"`
	}{ok, checks})
}

// status is a page for operators. Reasons can name hosts of the operator's
// network, so that they are told on a listener of their own only.
func (a *app) status(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	ready, _, _ := a.readiness()
	fmt.Fprintf(&b, "peersignal %s: %s\n\nICE servers:\n", buildinfo.Version, ready)
	sources := a.sources.chain().Health()
	for _, h := range sources {
		state := "ok"
		if !h.OK {
			state = "down"
		}
		switch {
		case h.Reason != "" && a.listeners.metrics != nil:
			state += ": " + h.Reason
		case h.Reason != "":
			state += ", see the log"
		}
		fmt.Fprintf(&b, "  %-10s  %s\n", h.Source, state)
	}
	if len(sources) == 0 {
		b.WriteString("  none are configured\n")
	}
	answer(w, http.StatusOK, strings.TrimSuffix(b.String(), "\n"))
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text)
}
