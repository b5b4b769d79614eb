package signaling

import "github.com/prometheus/client_golang/prometheus"

// BusReceiver gives the function that takes messages from the bus, of a node
// without sessions, for fuzzing.
func BusReceiver() func(payload []byte) {
	cfg, err := Config{Bus: NewMemBus(), Registerer: prometheus.NewRegistry()}.withDefaults()
	if err != nil {
		panic(err)
	}
	s, err := New(cfg)
	if err != nil {
		panic(err)
	}
	return s.hub.cluster.receive
}

// Deferred is how many whole lists of presence are noted for all sessions.
func (s *Server) Deferred() (n int) {
	s.hub.mu.RLock()
	defer s.hub.mu.RUnlock()
	for _, m := range s.hub.devices {
		n += max(len(m.deferred), len(m.isDue))
	}
	return n
}
