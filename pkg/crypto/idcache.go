package crypto

import (
	"container/list"
	"sync"
)

// idCache keeps the ids of the bodies that were asked for last. Whoever fills
// it with strangers' bodies pushes out others and costs their owner one scrypt.
type idCache struct {
	mu      sync.Mutex
	max     int
	entries map[Hash]*list.Element
	order   *list.List // of idEntry, latest use first
}

type idEntry struct {
	key Hash
	id  ID
}

func newIDCache(entries int) *idCache {
	return &idCache{max: entries, entries: map[Hash]*list.Element{}, order: list.New()}
}

func (c *idCache) get(key Hash) (ID, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		return "", false
	}
	c.order.MoveToFront(e)
	return e.Value.(idEntry).id, true
}

func (c *idCache) put(key Hash, id ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		c.order.MoveToFront(e)
		return
	}
	c.entries[key] = c.order.PushFront(idEntry{key, id})
	if c.order.Len() > c.max {
		last := c.order.Remove(c.order.Back()).(idEntry)
		delete(c.entries, last.key)
	}
}
