package sync

import (
	"context"
	"sync"
)

// subscriberQueue is how many events wait for a slow subscriber before it gets Lagged.
const subscriberQueue = 256

// A bus tells subscribers events and wakes followers of the store. It never blocks.
type bus struct {
	mu     sync.Mutex
	subs   map[*subscriber]struct{}
	wakers map[chan struct{}]struct{}
	closed bool
}

// A subscriber's queue is guarded by the bus; its goroutine alone sends on the channel.
type subscriber struct {
	queue []Event
	lost  int64
	wake  chan struct{}
}

func (b *bus) publish(events ...Event) {
	if len(events) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subs {
		for _, ev := range events {
			if len(s.queue) >= subscriberQueue {
				s.lost++
				continue
			}
			s.queue = append(s.queue, ev)
		}
		poke(s.wake)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// follow returns a channel that gets a value when the store has changed since the last one was taken.
func (b *bus) follow() (wake chan struct{}, stop func()) {
	wake = make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wakers == nil {
		b.wakers = map[chan struct{}]struct{}{}
	}
	b.wakers[wake] = struct{}{}
	return wake, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.wakers, wake)
	}
}

// wakeAll tells the followers.
func (b *bus) wakeAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.wakers {
		poke(w)
	}
}

func (b *bus) add() (*subscriber, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, false
	}
	if b.subs == nil {
		b.subs = map[*subscriber]struct{}{}
	}
	s := &subscriber{wake: make(chan struct{}, 1)}
	b.subs[s] = struct{}{}
	return s, true
}

func (b *bus) remove(s *subscriber) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subs, s)
}

func (b *bus) take(s *subscriber) []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := s.queue
	if s.lost > 0 {
		out = append(out, Lagged{Lost: s.lost})
	}
	s.queue, s.lost = nil, 0
	return out
}

func (b *bus) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// Subscribe returns events until ctx ends or the Engine is closed, then the channel is closed. At most 256 events wait; behind them
// a slow subscriber gets Lagged instead of those that were left out, and the Engine never waits for it.
func (e *Engine) Subscribe(ctx context.Context) <-chan Event {
	out := make(chan Event)
	s, ok := e.bus.add()
	if !ok || e.enter() != nil {
		close(out)
		return out
	}
	go func() {
		defer e.active.Done()
		defer close(out)
		defer e.bus.remove(s)
		for {
			for _, ev := range e.bus.take(s) {
				select {
				case out <- ev:
				case <-ctx.Done():
					return
				case <-e.done:
					return
				}
			}
			select {
			case <-s.wake:
			case <-ctx.Done():
				return
			case <-e.done:
				return
			}
		}
	}()
	return out
}
