package ws

import (
	"errors"
	"sync/atomic"
)

// ErrMemory says that the Budget has no room.
var ErrMemory = errors.New("websocket: the memory budget is used up")

// Budget counts bytes that connections hold together: queues and read buffers, and
// whatever its owner adds. A nil Budget has no limit and counts nothing.
type Budget struct {
	limit atomic.Int64
	used  atomic.Int64
}

// NewBudget makes a budget of so many bytes.
func NewBudget(limit int64) *Budget {
	b := &Budget{}
	b.limit.Store(limit)
	return b
}

// SetLimit changes the limit; what is in use stays so.
func (b *Budget) SetLimit(limit int64) { b.limit.Store(limit) }

// Take takes n bytes if they are there.
func (b *Budget) Take(n int) bool {
	if b == nil || n == 0 {
		return true
	}
	if b.used.Add(int64(n)) <= b.limit.Load() {
		return true
	}
	b.used.Add(int64(-n))
	return false
}

// Give gives n bytes back.
func (b *Budget) Give(n int) {
	if b != nil && n != 0 {
		b.used.Add(int64(-n))
	}
}

// force takes n bytes whether they are there or not.
func (b *Budget) force(n int) { b.Give(-n) }

// Used is how many bytes are taken, Limit how many there are.
func (b *Budget) Used() int64 { return b.used.Load() }

// Limit is how many bytes there are.
func (b *Budget) Limit() int64 { return b.limit.Load() }
