package storetest

import groupsync "github.com/peersignal/peersignal/pkg/sync"

// Snapshot returns a store of its own that holds what is committed now, as a
// copy of the files would. It costs nothing and works on a closed store, too.
func (m *Memory) Snapshot() *Memory {
	c := NewMemory().(*Memory)
	c.current.Store(m.current.Load())
	return c
}

var _ groupsync.Store = (*Memory)(nil)
