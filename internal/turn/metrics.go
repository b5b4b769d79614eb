package turn

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Metric labels beside those that policy.go, ledger.go and credentials.go
// declare.
const (
	labelToPeer   = "to_peer"
	labelToClient = "to_client"

	dropMalformed    = "malformed"
	dropUnexpected   = "unexpected"
	dropNoAllocation = "no_allocation"
	dropSourceRate   = "source_rate"
	dropTooLarge     = "too_large"
	dropNoChannel    = "no_channel"

	dropRate         = "rate"
	dropDay          = "bytes_per_day"
	dropPolicy       = "policy"
	dropNoPermission = "no_permission"
	dropNotLive      = "own_port"
	dropUnsent       = "unsent"

	denyFamily   = "family"
	denyTooMany  = "too_many_peers"
	denyChannels = "too_many_channels"
	denyNoRelay  = "no_allocation"
	denyStranger = "not_introduced" // of packets too

	endClient   = "ended"
	endRevoked  = "revoked"
	endDay      = "bytes_per_day"
	endShutdown = "shutdown"

	connLimit       = "limit"
	connSourceLimit = "source_limit"
	connSourceRate  = "source_rate"
	connHandshake   = "handshake"
	connIdle        = "idle"
	connMalformed   = "malformed"
	connSlow        = "slow_reader"
	connClosed      = "closed"

	transportUDP = "udp"
	transportTCP = "tcp"
	transportTLS = "tls"
)

var requestMethods = []string{"binding", "allocate", "refresh", "create_permission", "channel_bind"}

type metrics struct {
	requests       *prometheus.CounterVec // method
	clientDrops    *prometheus.CounterVec // reason
	authFailures   *prometheus.CounterVec // reason
	credentials    prometheus.Counter
	allocations    *prometheus.GaugeVec   // transport
	created        *prometheus.CounterVec // transport
	refused        *prometheus.CounterVec // reason
	ended          *prometheus.CounterVec // reason
	peerRefusals   *prometheus.CounterVec // reason
	relayedBytes   *prometheus.CounterVec // direction
	relayedPackets *prometheus.CounterVec // direction
	relayDrops     *prometheus.CounterVec // direction, reason
	drops          fastDrops
	toPeer         direction
	toClient       direction
	tcpConns       prometheus.Gauge
	tcpClosed      *prometheus.CounterVec // reason
}

// direction has the series of one direction, which packets count in without
// looking labels up.
type direction struct {
	bytes, packets                       prometheus.Counter
	rate, day, policy, notLive, stranger prometheus.Counter
	noPermission, tooLarge, unsent       prometheus.Counter
}

// fastDrops are those of clientDrops that channel data meets.
type fastDrops struct{ malformed, noAllocation, noChannel prometheus.Counter }

func (m *metrics) direction(label string) direction {
	drop := func(reason string) prometheus.Counter { return m.relayDrops.WithLabelValues(label, reason) }
	return direction{
		bytes:   m.relayedBytes.WithLabelValues(label),
		packets: m.relayedPackets.WithLabelValues(label),
		rate:    drop(dropRate), day: drop(dropDay), policy: drop(dropPolicy), notLive: drop(dropNotLive),
		stranger: drop(denyStranger), noPermission: drop(dropNoPermission), tooLarge: drop(dropTooLarge),
		unsent: drop(dropUnsent),
	}
}

func (d *direction) count(packets, bytes int) {
	d.packets.Add(float64(packets))
	d.bytes.Add(float64(bytes))
}

func name(s string) string { return "peersignal_turn_" + s }

func counter(n, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name(n), Help: help}, labels)
}

func newMetrics() *metrics {
	m := &metrics{
		requests:     counter("requests_total", "STUN and TURN requests, by method.", "method"),
		clientDrops:  counter("client_packets_dropped_total", "Packets of clients dropped before they were handled.", "reason"),
		authFailures: counter("auth_failures_total", "Requests whose credential was refused.", "reason"),
		credentials: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("credentials_issued_total"), Help: "Credentials minted."}),
		allocations: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: name("allocations"), Help: "Allocations alive, by the client's transport."}, []string{"transport"}),
		created:        counter("allocations_created_total", "Allocations made, by the client's transport.", "transport"),
		refused:        counter("allocations_refused_total", "Allocate requests with a good credential that were refused.", "reason"),
		ended:          counter("allocations_ended_total", "Allocations that ended, by cause.", "reason"),
		peerRefusals:   counter("peer_refusals_total", "Permissions and channels that were refused, by the rule.", "reason"),
		relayedBytes:   counter("relayed_bytes_total", "Payload bytes relayed, counted as they pass.", "direction"),
		relayedPackets: counter("relayed_packets_total", "Packets relayed, counted as they pass.", "direction"),
		relayDrops:     counter("relayed_packets_dropped_total", "Packets that were not relayed.", "direction", "reason"),
		tcpConns: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name("tcp_connections"), Help: "TCP connections of clients, with and without TLS."}),
		tcpClosed: counter("tcp_connections_closed_total", "TCP connections refused or closed, by cause.", "reason"),
	}
	m.prime()
	m.drops = fastDrops{
		m.clientDrops.WithLabelValues(dropMalformed), m.clientDrops.WithLabelValues(dropNoAllocation),
		m.clientDrops.WithLabelValues(dropNoChannel),
	}
	m.toPeer, m.toClient = m.direction(labelToPeer), m.direction(labelToClient)
	return m
}

// prime makes every series exist from the start, so that a rate over the first
// event is not lost.
func (m *metrics) prime() {
	for vec, labels := range map[*prometheus.CounterVec][]string{
		m.requests:    requestMethods,
		m.clientDrops: {dropMalformed, dropUnexpected, dropNoAllocation, dropSourceRate, dropTooLarge, dropNoChannel},
		m.authFailures: {authMalformed, authRealm, authUnknownKey, authRevoked, authExpired, authWrongUser,
			authIntegrity, authLifetime, authNonce},
		m.created: {transportUDP, transportTCP, transportTLS},
		m.refused: {refuseSession, refuseUser, refuseTotal, refuseDay, refuseTransport, refuseFamily, refusePort,
			refuseClosed, refuseRevoked},
		m.ended:          {endClient, endRevoked, endDay, endShutdown},
		m.peerRefusals:   append([]string{denyFamily, denyTooMany, denyChannels, denyNoRelay, denyStranger}, policyReasons...),
		m.relayedBytes:   {labelToPeer, labelToClient},
		m.relayedPackets: {labelToPeer, labelToClient},
		m.tcpClosed: {connLimit, connSourceLimit, connSourceRate, connHandshake, connIdle, connMalformed, connSlow,
			connClosed},
	} {
		for _, l := range labels {
			vec.WithLabelValues(l)
		}
	}
	for _, d := range []string{labelToPeer, labelToClient} {
		for _, r := range []string{dropRate, dropDay, dropPolicy, dropNoPermission, dropNotLive, denyStranger, dropTooLarge,
			dropUnsent} {
			m.relayDrops.WithLabelValues(d, r)
		}
	}
	for _, t := range []string{transportUDP, transportTCP, transportTLS} {
		m.allocations.WithLabelValues(t)
	}
}

// register exports the metrics, and beside each gauge its limit. A nil reg
// exports nothing.
func (m *metrics) register(reg prometheus.Registerer, cfg Config, s *sources) error {
	if reg == nil {
		return nil
	}
	limit := func(n, help string, value int) prometheus.Collector {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name(n), Help: help})
		g.Set(float64(value))
		return g
	}
	collectors := []prometheus.Collector{
		m.requests, m.clientDrops, m.authFailures, m.credentials, m.allocations, m.created, m.refused, m.ended,
		m.peerRefusals, m.relayedBytes, m.relayedPackets, m.relayDrops, m.tcpConns, m.tcpClosed,
		limit("allocations_limit", "The most allocations that can be alive.", cfg.AllocationsTotal),
		limit("tcp_connections_limit", "The most TCP connections of clients.", cfg.MaxTCPConns),
		limit("sources_limit", "The most source networks whose unauthenticated requests are tracked.", maxSources),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name("sources"),
			Help: "Source networks whose unauthenticated requests are tracked."},
			func() float64 { return float64(s.len()) }),
	}
	for i, c := range collectors {
		if err := reg.Register(c); err != nil {
			for _, done := range collectors[:i] {
				reg.Unregister(done)
			}
			return fmt.Errorf("registering turn metrics: %w", err)
		}
	}
	return nil
}
