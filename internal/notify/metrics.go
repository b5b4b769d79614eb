package notify

import (
	"errors"
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are primed: each series exists at zero.
type metrics struct {
	accepted  prometheus.Counter
	refusals  *prometheus.CounterVec // reason
	outcomes  *prometheus.CounterVec // outcome
	retries   prometheus.Counter
	queue     prometheus.GaugeFunc
	limit     prometheus.Gauge
	deadGauge prometheus.GaugeFunc
}

func name(s string) string { return "peersignal_notify_" + s }

func newMetrics(s *Sender) *metrics {
	m := &metrics{
		accepted: prometheus.NewCounter(prometheus.CounterOpts{Name: name("messages_total"), Help: "Messages taken for Web Push."}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("refused_total"), Help: "Messages not taken for Web Push.",
		}, []string{"reason"}),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("pushes_total"), Help: "Pushes, each a part of a message, by what became of them.",
		}, []string{"outcome"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{Name: name("retries_total"), Help: "Attempts after the first."}),
		queue: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: name("queue"), Help: "Pushes that wait.",
		}, func() float64 { return float64(len(s.jobs)) }),
		limit: prometheus.NewGauge(prometheus.GaugeOpts{Name: name("queue_limit"), Help: "Pushes that may wait."}),
		deadGauge: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: name("gone_endpoints"), Help: "Endpoints remembered as gone.",
		}, func() float64 { return float64(s.gone.len()) }),
	}
	m.limit.Set(float64(s.cfg.Queue))
	for _, r := range []string{"token", "gone", "rate", "queue-full", "too-large"} {
		m.refusals.WithLabelValues(r)
	}
	for _, o := range []string{"pushed", "gone", "refused", "failed", "dropped"} {
		m.outcomes.WithLabelValues(o)
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	var errs []error
	for _, c := range []prometheus.Collector{m.accepted, m.refusals, m.outcomes, m.retries, m.queue, m.limit, m.deadGauge} {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}

func (m *metrics) refused(reason string) { m.refusals.WithLabelValues(reason).Inc() }
func (m *metrics) done(outcome string)   { m.outcomes.WithLabelValues(outcome).Inc() }

// plain leaves the endpoint, which is a secret of its device, out of what is logged.
func plain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// contactOf gives the contact as the library wants it: without mailto:, which it adds.
func contactOf(contact string) string { return strings.TrimPrefix(contact, "mailto:") }
