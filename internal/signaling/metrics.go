package signaling

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peersignal/peersignal/pkg/wire"
)

// Results of a connection attempt, before anything of the protocol is spoken.
const (
	resultAccepted    = "accepted"
	resultDraining    = "draining"
	resultPending     = "pending"
	resultPerAddress  = "per-address"
	resultMemory      = "memory"
	resultOrigin      = "origin"
	resultSubprotocol = "subprotocol"
	resultUpgrade     = "upgrade"
)

// EndKicked is the reason of a session that Kick ended.
const EndKicked = "kicked"

// Reasons of an end that is no close code.
const (
	endGone    = "gone"
	endBye     = "bye"
	endStopped = "write-error"
	endMemory  = "memory"
	endEvicted = "evicted"
)

// What became of a client that came with a token.
const (
	resumedSession = "session"
	resumedTopics  = "topics"
	resumedNone    = "none"
)

// resumedAs is for a new session that begins with so many topics of the old.
func resumedAs(topics int) string {
	if topics > 0 {
		return resumedTopics
	}
	return resumedNone
}

type metrics struct {
	connections *prometheus.CounterVec
	refused     *prometheus.CounterVec
	closed      *prometheus.CounterVec
	messages    *prometheus.CounterVec
	results     *prometheus.CounterVec
	relayed     prometheus.Counter
	presence    *prometheus.CounterVec
	iceErrors   prometheus.Counter
	resumed     *prometheus.CounterVec
	bus         *prometheus.CounterVec
	busDropped  *prometheus.CounterVec
	resyncs     prometheus.Counter
	mail        *prometheus.CounterVec

	// What every relayed signal counts, looked up before.
	signals  map[wire.Kind]prometheus.Counter
	acks     prometheus.Counter
	resultOf map[wire.Code]prometheus.Counter
}

const metricPrefix = "peersignal_signaling_"

func counterVec(name, help, label string, values ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricPrefix + name, Help: help}, []string{label})
	for _, value := range values {
		v.WithLabelValues(value)
	}
	return v
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: metricPrefix + name, Help: help})
}

func codeStrings(codes ...wire.Code) []string {
	out := make([]string, len(codes))
	for i, c := range codes {
		out[i] = string(c)
	}
	return out
}

// newMetrics makes the metrics, all series at zero, and registers them together
// with the gauges of s.
func newMetrics(s *Server) (*metrics, error) {
	m := &metrics{
		connections: counterVec("connections_total", "Connection attempts by result.", "result",
			resultAccepted, resultDraining, resultPending, resultPerAddress, resultMemory, resultOrigin, resultSubprotocol, resultUpgrade),
		refused: counterVec("refused_total", "Refused authentications by code.", "code", codeStrings(
			wire.CodeInvalid, wire.CodeBadNonce, wire.CodeNonceExpired, wire.CodeUseName, wire.CodeUnknownName,
			wire.CodeBadTime, wire.CodeBadDeviceID, wire.CodeBadCertificate, wire.CodeCertMismatch, wire.CodeBadSignature,
			wire.CodeDeviceConflict, wire.CodeTooManyDevices, wire.CodeTooManySessions, wire.CodeServerFull,
			wire.CodeAuthTimeout, wire.CodeDraining, wire.CodeBlocked)...),
		closed: counterVec("closed_total", "Ended connections by reason.", "reason",
			endGone, endBye, endStopped, endMemory, endEvicted, wire.CloseRefused.String(), wire.CloseReplaced.String(),
			wire.CloseSlowReader.String(), wire.CloseTooLarge.String(), wire.CloseRate.String(),
			wire.CloseProtocol.String(), wire.CloseAuthTimeout.String(), wire.CloseDraining.String(),
			wire.ClosePingTimeout.String(), wire.CloseKicked.String()),
		messages: counterVec("messages_total", "Messages received from ready sessions by type.", "type",
			"topics", "offer", "answer", "candidate", "notify", "push", "wake", "ice", "ack", "bye", "auth", "invalid"),
		results: counterVec("results_total", "Answers to client messages by code.", "code", codeStrings(
			wire.CodeOK, wire.CodeDelivered, wire.CodeOffline, wire.CodeExpired, wire.CodeNotAllowed, wire.CodeTooLarge,
			wire.CodeRateLimited, wire.CodeInvalid, wire.CodeUnavailable, wire.CodeQueued, wire.CodeGone)...),
		relayed: counter("relayed_bytes_total", "Bytes of frames relayed into send queues of this node."),
		presence: counterVec("presence_frames_total",
			"Presence frames by kind; deferred ones wait for a slow reader as a whole list.", "kind",
			"full", "join", "leave", "deferred"),
		iceErrors: counter("ice_errors_total", "Requests for ICE servers that failed."),
		resumed: counterVec("resumed_total", "Clients that came back with a token, by what they had back.", "result",
			resumedSession, resumedTopics, resumedNone),
		bus: counterVec("bus_messages_total", "Messages on the bus by direction.", "direction", "sent", "received"),
		busDropped: counterVec("bus_dropped_total", "Messages not sent to or taken from the bus by reason.", "reason",
			"queue-full", "publish-error", "malformed"),
		mail: counterVec("mail_total", "Notifications kept for devices that were here minutes ago, by what became of them.", "event",
			mailStored, mailDelivered, mailExpired, mailFull),
		resyncs: counter("bus_resyncs_total", "Whole states asked for after a gap in another node's announcements."),
	}
	m.signals, m.resultOf = make(map[wire.Kind]prometheus.Counter), make(map[wire.Code]prometheus.Counter)
	for _, kind := range []wire.Kind{wire.KindOffer, wire.KindAnswer, wire.KindCandidate, wire.KindNotify} {
		m.signals[kind] = m.messages.WithLabelValues(string(kind))
	}
	m.acks = m.messages.WithLabelValues("ack")
	for _, code := range []wire.Code{wire.CodeDelivered, wire.CodeOffline, wire.CodeNotAllowed} {
		m.resultOf[code] = m.results.WithLabelValues(string(code))
	}
	if s.cfg.Registerer == nil {
		return m, nil
	}
	all := append(m.collectors(), s.gauges()...)
	if s.cfg.Introductions != nil {
		all = append(all, s.cfg.Introductions.collectors()...)
	}
	for _, c := range all {
		if err := s.cfg.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("registering signaling metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.connections, m.refused, m.closed, m.messages, m.results, m.relayed, m.presence,
		m.iceErrors, m.resumed, m.bus, m.busDropped, m.resyncs, m.mail,
	}
}

func (s *Server) gauges() []prometheus.Collector {
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: metricPrefix + name, Help: help}, f)
	}
	fixed := func(name, help string, n int) prometheus.Collector {
		return gauge(name, help, func() float64 { return float64(n) })
	}
	limit := func(name, help string, of func(*Limits) int) prometheus.Collector {
		return gauge(name, help, func() float64 { return float64(of(&s.live.Load().limits)) })
	}
	l := s.cfg.Limits
	return []prometheus.Collector{
		gauge("sessions", "Authenticated sessions of this node.", func() float64 {
			_, n := s.gate.counts()
			return float64(n)
		}),
		limit("sessions_limit", "Most sessions of this node.", func(l *Limits) int { return l.Sessions }),
		gauge("pending", "Connections that are not authenticated yet.", func() float64 {
			n, _ := s.gate.counts()
			return float64(n)
		}),
		gauge("memory_bytes", "Memory of connections, their queues and buffers; a connection counts as 10 KiB.",
			func() float64 { return float64(s.sockets.Budget.Used()) }),
		gauge("memory_bytes_limit", "Most memory of connections.", func() float64 { return float64(s.sockets.Budget.Limit()) }),
		limit("pending_limit", "Most connections that are not authenticated yet.", func(l *Limits) int { return l.Pending }),
		gauge("topics", "Tags held by sessions of this node.", func() float64 { return float64(s.hub.stats().held) }),
		limit("topics_limit", "Most tags held by sessions of this node.", func(l *Limits) int { return l.TopicsTotal }),
		gauge("parked", "Sessions without a connection that may come back, of the sessions.",
			func() float64 { return float64(s.hub.stats().parked) }),
		fixed("parked_limit", "Most sessions without a connection.", l.Parked),
		gauge("resume_bytes", "Bytes kept for clients until they acknowledge them or come back.",
			func() float64 { return float64(s.hub.kept.Load()) }),
		fixed("resume_bytes_limit", "Most bytes kept for clients.", l.ResumeBytes),
		gauge("remembered_topics", "Tags of sessions that are over, for clients that come back.",
			func() float64 { return float64(s.hub.stats().remembered) }),
		fixed("remembered_topics_limit", "Most tags of sessions that are over.", l.RememberedTopics),
		gauge("mail_bytes", "Bytes of notifications that wait.", func() float64 { return float64(s.hub.stats().mail) }),
		fixed("mail_bytes_limit", "Most bytes of notifications that wait.", l.NotifyBytes),
		gauge("nodes", "Other nodes on the bus.", func() float64 { return float64(s.hub.stats().nodes) }),
		gauge("remote_sessions", "Sessions of other nodes.", func() float64 { return float64(s.hub.stats().remote) }),
	}
}
