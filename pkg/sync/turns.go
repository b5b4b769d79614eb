package sync

import (
	"sync"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

const (
	// turnPatience is how long the session whose turn it is has for turnEntries before another one may take over.
	turnPatience = 5 * time.Second
	turnEntries  = 100
)

// A turnTable lets one session at a time bring what this device lacks of a group's data, by the counts that both sides told: what several peers
// hold is fetched from one of them. The others wait and compare again then; mostly nothing is left. Nobody waits in a circle, because who waits has less than
// who is waited for; should counts that changed meanwhile make one, patience ends it.
type turnTable struct {
	mu     sync.Mutex
	groups map[peercrypto.ID]turn // one for each group that is being brought
}

type turn struct {
	by      *Session
	since   time.Time // of the last turnEntries
	entries int       // accepted since then
}

// taken tells whether it is another session's turn.
func (t *turnTable) taken(group peercrypto.ID, s *Session) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.takenLocked(group, s)
}

func (t *turnTable) takenLocked(group peercrypto.ID, s *Session) bool {
	w, ok := t.groups[group]
	return ok && w.by != s && s.e.cfg.Now().Sub(w.since) < turnPatience
}

// take tells whether it is the session's turn now.
func (t *turnTable) take(group peercrypto.ID, s *Session) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.takenLocked(group, s) {
		return false
	}
	if t.groups == nil {
		t.groups = map[peercrypto.ID]turn{}
	}
	if t.groups[group].by != s {
		t.groups[group] = turn{by: s, since: s.e.cfg.Now()}
	}
	return true
}

// moved tells that the session brought entries that are new.
func (t *turnTable) moved(group peercrypto.ID, s *Session, entries int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w, ok := t.groups[group]
	if !ok || w.by != s {
		return
	}
	if w.entries += entries; w.entries >= turnEntries {
		w = turn{by: s, since: s.e.cfg.Now()}
	}
	t.groups[group] = w
}

// end gives the turn of a group back, or of all groups if it is "", and wakes who waits.
func (t *turnTable) end(group peercrypto.ID, s *Session) {
	t.mu.Lock()
	ended := false
	for id, w := range t.groups {
		if w.by == s && (group == "" || id == group) {
			delete(t.groups, id)
			ended = true
		}
	}
	t.mu.Unlock()
	if ended {
		s.e.bus.wakeAll()
	}
}
