package sync

import (
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
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

// TestTurnIsGivenOn: a session that always says that it has more does not keep the turn from those who wait.
func TestTurnIsGivenOn(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	e := &Engine{cfg: Config{Now: func() time.Time { return now }}}
	greedy, other := &Session{e: e}, &Session{e: e}
	turns := &e.wanted.turns
	if !turns.take("g", greedy) {
		t.Fatal("nobody has it, and it is not given")
	}
	turns.end("g", greedy)
	if !turns.take("g", greedy) {
		t.Error("it has to wait for nobody")
	}
	if turns.take("g", other) {
		t.Fatal("two have it")
	}
	turns.end("g", greedy)
	if turns.take("g", greedy) || !turns.take("g", other) || turns.take("g", greedy) {
		t.Error("who waited does not have it")
	}
	turns.end("g", other)
	if !turns.take("g", greedy) || turns.take("g", other) {
		t.Error("after that it is not its turn again")
	}
	turns.end("g", greedy)
	if now = now.Add(turnYield); !turns.take("g", greedy) {
		t.Error("who waited did not come, and it is not its turn again")
	}
	turns.end("g", greedy)
	e.wanted.release(greedy)
	e.wanted.release(other)
	if len(turns.groups)+len(turns.yields) > 0 {
		t.Error("sessions that are over are remembered")
	}
}

// TestWantIsGivenOn: a session that announces an entry again and again and does not bring it does not keep others from being asked.
func TestWantIsGivenOn(t *testing.T) {
	e := &Engine{cfg: Config{Now: time.Now}}
	silent, other := &Session{e: e}, &Session{e: e}
	h := peercrypto.Sum([]byte("entry"))
	wanted, now := &e.wanted, int64(1_700_000_000_000)
	if !wanted.claim(h, silent, now) || wanted.claim(h, other, now+1) {
		t.Fatal("both are asked, or none")
	}
	asked := int64(0)
	for ms := now; ms < now+60_000 && asked == 0; ms += 100 {
		if wanted.claim(h, silent, ms) && ms > now {
			t.Fatalf("the first is asked again after %d ms", ms-now)
		}
		if (ms-now)%6_000 == 0 && ms > now && wanted.claim(h, other, ms) { // wantFor and a tick after it was put off
			asked = ms
		}
	}
	if asked == 0 {
		t.Error("the other one is never asked")
	}
	if !wanted.claim(h, silent, asked+wantFor.Milliseconds()+wantGrace.Milliseconds()) {
		t.Error("nobody is asked any more")
	}
}
