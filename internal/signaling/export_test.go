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
