package ice

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type chainDescs struct {
	requests, up, transitions, renewals, expiry, leftOut *prometheus.Desc
}

func newChainDescs() chainDescs {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("peersignal_ice_"+name, help, labels, nil)
	}
	return chainDescs{
		requests:    desc("requests_total", "Requests for ICE servers to a source, by outcome.", "source", "outcome"),
		up:          desc("source_up", "Whether the source can answer (1) or not (0).", "source"),
		transitions: desc("source_transitions_total", "How often a source began or ceased to fail clients.", "source", "to"),
		renewals:    desc("renewals_total", "Requests to a provider for new credentials, by outcome.", "source", "outcome"),
		expiry: desc("credentials_expiry_timestamp_seconds",
			"When a provider's credentials end, Unix time; 0 while there are none.", "source"),
		leftOut: desc("servers_left_out_total", "ICE servers that clients were not told, since they take 32."),
	}
}

// Describe implements prometheus.Collector.
func (c *Chain) Describe(ch chan<- *prometheus.Desc) {
	d := &c.descs
	for _, desc := range []*prometheus.Desc{d.requests, d.up, d.transitions, d.renewals, d.expiry, d.leftOut} {
		ch <- desc
	}
}

// linkSum is what the sources of one name have in common: counts are added up,
// the name is up when all of them are, and expires with the first.
type linkSum struct {
	outcomes         [len(requestOutcomes)]uint64
	wentDown, cameUp uint64
	up               bool
	cached           bool
	renewals         [len(renewalOutcomes)]uint64
	expires          time.Time
}

func (s *linkSum) add(l *link) {
	s.up = s.up && l.health().OK
	if cached, ok := l.source.(*Cached); ok {
		counts, expires := cached.renewals()
		for i, n := range counts {
			s.renewals[i] += n
		}
		s.cached, s.expires = true, earliest(s.expires, expires)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, n := range l.outcomes {
		s.outcomes[i] += n
	}
	s.wentDown += l.wentDown
	s.cameUp += l.cameUp
}

// Collect implements prometheus.Collector. Every series exists from the start.
func (c *Chain) Collect(ch chan<- prometheus.Metric) {
	sums := make(map[string]*linkSum)
	for l := range c.links {
		name := l.source.Name()
		if sums[name] == nil {
			sums[name] = &linkSum{up: true}
		}
		sums[name].add(l)
	}
	send := func(desc *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, kind, v, labels...)
	}
	counter := func(desc *prometheus.Desc, n uint64, labels ...string) {
		send(desc, prometheus.CounterValue, float64(n), labels...)
	}
	d := &c.descs
	counter(d.leftOut, c.leftOut.Load())
	for name, s := range sums {
		for i, n := range s.outcomes {
			counter(d.requests, n, name, requestOutcomes[i])
		}
		counter(d.transitions, s.wentDown, name, "down")
		counter(d.transitions, s.cameUp, name, "up")
		up := 0.0
		if s.up {
			up = 1
		}
		send(d.up, prometheus.GaugeValue, up, name)
		if !s.cached {
			continue
		}
		for i, n := range s.renewals {
			counter(d.renewals, n, name, renewalOutcomes[i])
		}
		expiry := 0.0
		if !s.expires.IsZero() {
			expiry = float64(s.expires.Unix())
		}
		send(d.expiry, prometheus.GaugeValue, expiry, name)
	}
}
