package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/peersignal/peersignal/internal/buildinfo"
	"github.com/peersignal/peersignal/internal/ice"
	"github.com/peersignal/peersignal/pkg/wire"
)

// httpServers are the server for clients and, when asked for, one for metrics.
func (a *app) httpServers() []httpServer {
	mux := http.NewServeMux()
	mux.Handle(wire.Path, a.signaling.Handler())
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "peersignal "+buildinfo.Version+
			"\n\nThis is a signaling server. Devices connect to "+wire.Path+" by WebSocket.")
	})
	servers := []httpServer{{a.newHTTP(mux), a.listener}}
	operators := mux
	if a.metrics != nil {
		operators = http.NewServeMux()
		servers = append(servers, httpServer{a.newHTTP(operators), a.metrics})
	}
	operators.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{Registry: a.registry}))
	operators.HandleFunc("GET /status", a.status)
	return servers
}

func (a *app) newHTTP(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(a.log.With("part", "http").Handler(), slog.LevelDebug),
	}
}

func (a *app) readyz(w http.ResponseWriter, _ *http.Request) {
	text, ok := a.readiness()
	if !ok {
		answer(w, http.StatusServiceUnavailable, text)
		return
	}
	answer(w, http.StatusOK, text)
}

// readiness says whether the server takes sessions that it can serve.
func (a *app) readiness() (text string, ok bool) {
	switch {
	case !a.ready.Load():
		return "not ready", false
	case a.iceRequired && !slices.ContainsFunc(a.chain.Health(), func(h ice.SourceHealth) bool { return h.OK }):
		return "not ready: no source of ICE servers can answer", false
	}
	return "ready", true
}

// status is a page for operators. Reasons can name hosts of the operator's
// network, so that they are told on a listener of their own only.
func (a *app) status(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	ready, _ := a.readiness()
	fmt.Fprintf(&b, "peersignal %s: %s\n\nICE servers:\n", buildinfo.Version, ready)
	sources := a.chain.Health()
	for _, h := range sources {
		state := "ok"
		if !h.OK {
			state = "down"
		}
		switch {
		case h.Reason != "" && a.metrics != nil:
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
