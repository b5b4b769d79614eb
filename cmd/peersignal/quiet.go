package main

import (
	linked "container/list"
	"net"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// quietConns bounds the connections that have not sent a whole request yet, or
// not finished their TLS handshake: whoever opens more pushes out the one that
// has been silent for longest. A flood ends itself that way, and a client that
// speaks at once gets through.
type quietConns struct {
	limit int

	mu      sync.Mutex
	order   *linked.List // of net.Conn, oldest first
	conns   map[net.Conn]*linked.Element
	dropped uint64
}

func newQuietConns(limit int) *quietConns {
	return &quietConns{limit: limit, order: linked.New(), conns: make(map[net.Conn]*linked.Element)}
}

// watch is an http.Server's ConnState.
func (q *quietConns) watch(c net.Conn, state http.ConnState) {
	if state == http.StateNew {
		if old := q.add(c); old != nil {
			_ = old.Close()
		}
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if e, ok := q.conns[c]; ok {
		q.order.Remove(e)
		delete(q.conns, c)
	}
}

// add returns the connection that has to make room.
func (q *quietConns) add(c net.Conn) (old net.Conn) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.order.Len() >= q.limit {
		old = q.order.Remove(q.order.Front()).(net.Conn)
		delete(q.conns, old)
		q.dropped++
	}
	q.conns[c] = q.order.PushBack(c)
	return old
}

func (q *quietConns) collectors() []prometheus.Collector {
	const prefix = "peersignal_http_"
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: prefix + "quiet_connections", Help: "Connections that have not sent a whole request yet.",
		}, func() float64 {
			q.mu.Lock()
			defer q.mu.Unlock()
			return float64(q.order.Len())
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: prefix + "quiet_connections_limit", Help: "Most of them; the oldest makes room for one more.",
		}, func() float64 { return float64(q.limit) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: prefix + "dropped_connections_total", Help: "Connections closed by the server before a whole request, by reason.",
			ConstLabels: prometheus.Labels{"reason": "quiet"},
		}, func() float64 {
			q.mu.Lock()
			defer q.mu.Unlock()
			return float64(q.dropped)
		}),
	}
}
