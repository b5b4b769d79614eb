package main

import (
	"context"
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peersignal/peersignal/internal/ice"
)

// iceSources is a chain of sources that can be replaced by another one while
// the server runs. Counters begin anew with it, as they do with a new process.
type iceSources struct {
	mu      sync.RWMutex
	current *ice.Chain

	next  chan *ice.Chain // to Run
	ended chan struct{}   // closed when Run returns
}

func newICESources(c *ice.Chain) *iceSources {
	return &iceSources{current: c, next: make(chan *ice.Chain), ended: make(chan struct{})}
}

func (s *iceSources) chain() *ice.Chain {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.current
}

// replace puts another chain in place, which Run runs.
func (s *iceSources) replace(c *ice.Chain) error {
	select {
	case s.next <- c:
		return nil
	case <-s.ended:
		return errors.New("replacing the sources of ICE servers: the server is stopping")
	}
}

// Run runs the current chain until ctx ends. It can be called once.
func (s *iceSources) Run(ctx context.Context) error {
	defer close(s.ended)
	for {
		own, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- s.chain().Run(own) }()
		select {
		case c := <-s.next:
			s.mu.Lock()
			s.current = c
			s.mu.Unlock()
			stop()
			if err := <-ended; err != nil {
				return err
			}
		case err := <-ended:
			stop()
			return err
		}
	}
}

// Describe implements prometheus.Collector.
func (s *iceSources) Describe(ch chan<- *prometheus.Desc) { s.chain().Describe(ch) }

// Collect implements prometheus.Collector.
func (s *iceSources) Collect(ch chan<- prometheus.Metric) { s.chain().Collect(ch) }
