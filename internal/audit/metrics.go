package audit

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Reasons of lost events.
const (
	lostQueueFull  = "queue_full"
	lostWriteError = "write_error"
)

const kindOther = "other"

type metrics struct {
	events   *prometheus.CounterVec
	lost     *prometheus.CounterVec
	failures prometheus.Counter
	kinds    map[string]bool
}

func newMetrics(l *Log) (*metrics, error) {
	const prefix = "peersignal_audit_"
	m := &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "events_total", Help: "Events written to the audit log by kind."}, []string{"kind"}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "lost_events_total", Help: "Events that are not in the audit log by reason."}, []string{"reason"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "failures_total", Help: "Attempts to write, sync or rotate the audit log that failed."}),
		kinds: map[string]bool{},
	}
	for _, k := range append([]string{KindStarted, KindStopped, KindRecovered, KindLost, kindOther}, l.cfg.Kinds...) {
		m.kinds[k] = true
		m.events.WithLabelValues(k)
	}
	for _, r := range []string{lostQueueFull, lostWriteError} {
		m.lost.WithLabelValues(r)
	}
	if l.cfg.Registerer == nil {
		return m, nil
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help}, f)
	}
	for _, c := range []prometheus.Collector{
		m.events, m.lost, m.failures,
		gauge("queued_events", "Events that wait to be written.", func() float64 { return float64(len(l.events)) }),
		gauge("queued_events_limit", "Most events that can wait to be written.", func() float64 { return float64(cap(l.events)) }),
		gauge("file_bytes", "Size of the file that is written.", func() float64 { return float64(l.size.Load()) }),
		gauge("file_bytes_limit", "Size at which the next file is begun.", func() float64 { return float64(l.cfg.MaxBytes) }),
	} {
		if err := l.cfg.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics of the audit log: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) written(kind string) {
	if !m.kinds[kind] {
		kind = kindOther
	}
	m.events.WithLabelValues(kind).Inc()
}
