package signaling

import (
	"context"
	"errors"
	"sync"
)

// Bus carries opaque payloads between the nodes of a cluster. It may lose
// messages, but must keep the order of those that one node sends to one
// subject. A node's own subject and one subject for everybody are all it needs.
type Bus interface {
	// Publish sends payload to the subscriber of node, or to every subscriber
	// (the caller may hear itself) when node is "". It does not keep payload.
	// An error means that nothing was sent; a message to nobody is no error.
	Publish(ctx context.Context, node string, payload []byte) error
	// Subscribe calls h, from one goroutine at a time, for what is sent to node
	// and to everybody, until cancel is called; h is not running any more when
	// cancel has returned. The payload is h's only until it returns.
	Subscribe(node string, h func(payload []byte)) (cancel func(), err error)
}

// memBusDepth is how many messages wait for one node before more are lost.
const memBusDepth = 4096

// MemBus is a Bus inside one process.
type MemBus struct {
	mu   sync.Mutex
	subs map[string]*memSub
}

type memSub struct {
	queue chan []byte
	stop  chan struct{}
	done  chan struct{}
}

// NewMemBus makes an empty bus.
func NewMemBus() *MemBus { return &MemBus{subs: make(map[string]*memSub)} }

// Publish implements Bus. A message to a node that is 4,096 behind is lost.
func (b *MemBus) Publish(ctx context.Context, node string, payload []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := append([]byte(nil), payload...)
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, s := range b.subs {
		if node != "" && node != name {
			continue
		}
		select {
		case s.queue <- p:
		default:
		}
	}
	return nil
}

// Subscribe implements Bus. A node can have one subscription.
func (b *MemBus) Subscribe(node string, h func([]byte)) (func(), error) {
	s := &memSub{queue: make(chan []byte, memBusDepth), stop: make(chan struct{}), done: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs[node] != nil {
		return nil, errors.New("subscribing to bus: the node name is taken")
	}
	b.subs[node] = s
	go func() {
		defer close(s.done)
		for {
			select {
			case <-s.stop:
				return
			case p := <-s.queue:
				h(p)
			}
		}
	}()
	var once sync.Once
	return func() {
		once.Do(func() {
			b.mu.Lock()
			delete(b.subs, node)
			b.mu.Unlock()
			close(s.stop)
		})
		<-s.done
	}, nil
}
