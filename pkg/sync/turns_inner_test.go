package sync

import (
	"testing"
	"time"
)

// TestTurns: one session at a time; who brings too little loses its turn, who ends gives it on.
func TestTurns(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	e := &Engine{cfg: Config{Now: func() time.Time { return now }}}
	first, second := &Session{e: e}, &Session{e: e}
	turns := &e.wanted.turns
	if !turns.take("g", first) || turns.take("g", second) || !turns.take("g", first) || !turns.take("other", second) {
		t.Fatal("a group is brought by two, or by none")
	}
	for range 10 { // it brings enough
		now = now.Add(turnPatience - 1)
		turns.moved("g", first, turnEntries)
	}
	if turns.take("g", second) {
		t.Error("it was taken from who brings enough")
	}
	for range 3 { // a trickle
		now = now.Add(turnPatience / 2)
		turns.moved("g", first, 1)
	}
	if !turns.take("g", second) || !turns.taken("g", first) {
		t.Error("a trickle holds up everybody")
	}
	wake, stop := e.bus.follow()
	defer stop()
	turns.end("g", first) // not its turn any more
	if len(wake) != 0 || turns.take("g", first) {
		t.Error("somebody else ended it")
	}
	e.wanted.release(second)
	if len(wake) != 1 || !turns.take("g", first) || turns.taken("other", first) {
		t.Error("the end of a session is not the end of its turns")
	}
}
