package sync

import (
	"sync"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

const (
	// wantFor is how long one session has to bring an entry that several announced.
	wantFor = 5 * time.Second
	// maxWanted bounds the table; beyond it entries may come twice.
	maxWanted = 10_000
)

// A wantTable keeps several sessions from asking for the same entry at once.
type wantTable struct {
	mu    sync.Mutex
	until map[peercrypto.Hash]want

	turns turnTable
}

type want struct {
	by    *Session
	until int64
}

// claim tells whether a session should ask for an entry now.
func (t *wantTable) claim(h peercrypto.Hash, by *Session, now int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w, ok := t.until[h]; ok && w.by != by && now < w.until {
		return false
	}
	if t.until == nil {
		t.until = map[peercrypto.Hash]want{}
	}
	if len(t.until) >= maxWanted {
		for old, w := range t.until {
			if now >= w.until {
				delete(t.until, old)
			}
		}
	}
	if len(t.until) < maxWanted {
		t.until[h] = want{by, now + wantFor.Milliseconds()}
	}
	return true
}

// release forgets what a session asked for or had its turn with.
func (t *wantTable) release(by *Session) {
	t.turns.end("", by)
	t.mu.Lock()
	defer t.mu.Unlock()
	for h, w := range t.until {
		if w.by == by {
			delete(t.until, h)
		}
	}
}
