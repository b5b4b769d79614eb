package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/peersignal/peersignal/internal/buildinfo"
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
	metrics := promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{Registry: a.registry})
	if a.metrics == nil {
		mux.Handle("GET /metrics", metrics)
		return servers
	}
	own := http.NewServeMux()
	own.Handle("GET /metrics", metrics)
	return append(servers, httpServer{a.newHTTP(own), a.metrics})
}

func (a *app) newHTTP(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(a.log.With("part", "http").Handler(), slog.LevelDebug),
	}
}

func (a *app) readyz(w http.ResponseWriter, _ *http.Request) {
	if a.ready.Load() {
		answer(w, http.StatusOK, "ready")
		return
	}
	answer(w, http.StatusServiceUnavailable, "not ready")
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text)
}
