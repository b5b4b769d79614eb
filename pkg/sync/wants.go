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
	// others is set when another session announced the entry too: it has its turn before this one can ask again.
	others bool
}

// wantGrace is how long that turn is left to it: it looks at most wantFor after it was put off, with the next tick.
const wantGrace = wantFor + 2*tickEvery

// claim tells whether a session should ask for an entry now.
func (t *wantTable) claim(h peercrypto.Hash, by *Session, now int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	w, ok := t.until[h]
	switch {
	case ok && w.by != by && now < w.until:
		w.others = true
		t.until[h] = w
		return false
	case ok && w.by == by && w.others && now < w.until+wantGrace.Milliseconds():
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
		t.until[h] = want{by: by, until: now + wantFor.Milliseconds()}
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
