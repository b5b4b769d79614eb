package link

import (
	"context"
	"sync"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// maxDialFailed bounds DialFailed events that wait; they are news, not state.
const maxDialFailed = 1024

// eventQueue holds events until the consumer takes them. It is bounded by the
// state that the events speak of: a later event about the same thing takes the
// place of the earlier one, and a connection that came and went unseen leaves
// nothing.
type eventQueue struct {
	mu    sync.Mutex
	order []any // keys, oldest first; a key that is not in wait any more is skipped
	wait  map[any]Event
	dials int
	notes int
	kick  chan struct{} // capacity 1
}

type (
	presenceKey struct {
		device peercrypto.ID
		tag    peercrypto.Tag
	}
	connKey   struct{ *Conn }
	pathKey   struct{ *Conn }
	dialKey   struct{ device peercrypto.ID }
	noteKey   struct{ replayKey }
	serverKey struct{}
)

func newEventQueue() *eventQueue {
	return &eventQueue{wait: make(map[any]Event), kick: make(chan struct{}, 1)}
}

func keyOf(e Event) any {
	switch e := e.(type) {
	case Discovered:
		return presenceKey{e.Remote.DeviceID, e.Tag}
	case Gone:
		return presenceKey{e.DeviceID, e.Tag}
	case Connected:
		return connKey{e.Conn}
	case Disconnected:
		return connKey{e.Conn}
	case PathChanged:
		return pathKey{e.Conn}
	case DialFailed:
		return dialKey{e.DeviceID}
	case Notification:
		return noteKey{replayKey{e.Remote.DeviceID, e.ID}}
	default:
		return serverKey{}
	}
}

// push adds an event.
func (q *eventQueue) push(e Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	key := keyOf(e)
	old, waiting := q.wait[key]
	switch e := e.(type) {
	case Disconnected:
		delete(q.wait, pathKey{e.Conn})
		if _, unseen := old.(Connected); unseen {
			delete(q.wait, key)
			return
		}
	case DialFailed:
		if !waiting && q.dials >= maxDialFailed {
			return
		}
		if !waiting {
			q.dials++
		}
	case ServerDown:
		q.dropPresence()
	case ServerUp:
		// A ServerDown that nobody saw still has to end what was discovered.
		if down, ok := old.(ServerDown); ok {
			q.wait[key] = restarted{down, e}
			return
		}
		if again, ok := old.(restarted); ok {
			q.wait[key] = restarted{again.down, e}
			return
		}
	}
	if q.wait[key] = e; !waiting {
		q.order = append(q.order, key)
		if len(q.order) > 2*len(q.wait)+64 {
			q.compact(func(any) bool { return true })
		}
	}
	signal(q.kick)
}

// pushNote adds a notification, unless too many wait.
func (q *eventQueue) pushNote(n Notification) bool {
	q.mu.Lock()
	if q.notes >= maxNotesWaiting {
		q.mu.Unlock()
		return false
	}
	q.notes++
	q.mu.Unlock()
	q.push(n)
	return true
}

// restarted is a ServerDown and the ServerUp after it, both unseen.
type restarted struct {
	down ServerDown
	up   ServerUp
}

func (restarted) event() {}

// dropPresence forgets what waits about devices on topics.
func (q *eventQueue) dropPresence() {
	q.compact(func(key any) bool {
		_, presence := key.(presenceKey)
		return !presence
	})
}

// compact drops the keys that keep refuses, with their events, and those whose
// event is gone, so that the order stays as long as what waits.
func (q *eventQueue) compact(keep func(key any) bool) {
	kept := q.order[:0]
	for _, key := range q.order {
		if _, ok := q.wait[key]; !ok {
			continue
		}
		if keep(key) {
			kept = append(kept, key)
		} else {
			delete(q.wait, key)
		}
	}
	clear(q.order[len(kept):])
	q.order = kept
}

// pop takes the oldest events: none, one, or two.
func (q *eventQueue) pop() []Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.order) > 0 {
		key := q.order[0]
		q.order[0] = nil
		q.order = q.order[1:]
		e, ok := q.wait[key]
		if !ok {
			continue
		}
		delete(q.wait, key)
		switch e := e.(type) {
		case DialFailed:
			q.dials--
		case Notification:
			q.notes--
		case restarted:
			return []Event{e.down, e.up}
		}
		return []Event{e}
	}
	return nil
}

// pump hands events to out until ctx ends.
func (q *eventQueue) pump(ctx context.Context, out chan<- Event) {
	for {
		events := q.pop()
		if events == nil {
			select {
			case <-q.kick:
				continue
			case <-ctx.Done():
				return
			}
		}
		for _, e := range events {
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}
}
