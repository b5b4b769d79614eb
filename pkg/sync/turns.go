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
	// turnYield is how long a session whose turn ended leaves the next one to those who waited.
	turnYield = time.Second
)

// A turnTable lets one session at a time bring what this device lacks of a group's data, by the counts that both sides told: what several peers
// hold is fetched from one of them. The others wait and compare again then; mostly nothing is left. Nobody waits in a circle, because who waits has less than
// who is waited for; should counts that changed meanwhile make one, patience ends it.
type turnTable struct {
	mu     sync.Mutex
	groups map[peercrypto.ID]turn // one for each group that is being brought
	// yields are the turns that ended while others waited: who had it may be the first to ask again, with counts that it made up.
	yields map[peercrypto.ID]yield
}

type yield struct {
	by    *Session
	until time.Time
}

type turn struct {
	by      *Session
	since   time.Time // of the last turnEntries
	entries int       // accepted since then
	wanted  bool      // somebody else waits
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
		w := t.groups[group]
		w.wanted = true
		t.groups[group] = w
		return false
	}
	now := s.e.cfg.Now()
	if y := t.yields[group]; y.by == s && now.Before(y.until) {
		return false
	}
	delete(t.yields, group)
	if t.groups == nil {
		t.groups, t.yields = map[peercrypto.ID]turn{}, map[peercrypto.ID]yield{}
	}
	if t.groups[group].by != s {
		t.groups[group] = turn{by: s, since: now}
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
		w = turn{by: s, since: s.e.cfg.Now(), wanted: w.wanted}
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
			if w.wanted && group != "" {
				t.yields[id] = yield{s, s.e.cfg.Now().Add(turnYield)}
			}
		}
	}
	for id, y := range t.yields {
		if y.by == s && group == "" {
			delete(t.yields, id) // the session is over
		}
	}
	t.mu.Unlock()
	if ended {
		s.e.bus.wakeAll()
	}
}
