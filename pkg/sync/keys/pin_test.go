package keys_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

func timeOf(ms int64) time.Time { return time.UnixMilli(ms) }

// follow evaluates events and lets a pin observe them.
func follow(t *testing.T, p keys.Pin, want keys.News, events ...keys.Event) keys.Pin {
	t.Helper()
	next, news := p.Observe(events, keys.Evaluate(genesis, events), start+100)
	if news != want {
		t.Errorf("news is %q, want %q", news, want)
	}
	return next
}

func TestPinFollows(t *testing.T) {
	byKey, s := rotate(t, genesis, keys.Signers{Key: first, New: second})
	p := keys.NewPin(body, keys.Evaluate(genesis, nil), start)
	if !p.Usable() || p.Trust != keys.Seen || p.Key != first.Public() {
		t.Fatalf("%+v", p)
	}
	p, news := p.Introduce(body.Hash(), start+1)
	if news != keys.Nothing || p.Trust != keys.Introduced {
		t.Errorf("%+v, %q", p, news)
	}
	p = p.Verify(start + 2)
	p = follow(t, p, keys.KeyRotated, byKey)
	if p.Trust != keys.Verified || !p.Rotated || p.Key != second.Public() {
		t.Errorf("%+v", p)
	}
	if p = p.Verify(start + 3); p.Rotated {
		t.Error("verified again and still marked")
	}
	p = follow(t, p, keys.Nothing) // who knows less changes nothing
	p = follow(t, p, keys.Nothing, byKey)
	byRecovery, s := rotate(t, s, keys.Signers{Recovery: rescue, New: third})
	p = follow(t, p, keys.KeyReplaced, byKey, byRecovery)
	if p.Trust != keys.Introduced || p.Key != third.Public() {
		t.Errorf("%+v", p)
	}
	end, err := keys.NewRevoke(s, keys.Signers{Key: third}, keys.Lost, start)
	end, _ = then(t, s, end, err)
	p = follow(t, p, keys.KeyEnded, byKey, byRecovery, end)
	if p.Usable() || p.Verify(start).Trust == keys.Verified {
		t.Error("an ended key is usable")
	}
}

func TestPinFreezes(t *testing.T) {
	mine, _ := rotate(t, genesis, keys.Signers{Key: first, New: second})
	his, _ := rotate(t, genesis, keys.Signers{Key: first, New: third})
	p := keys.NewPin(body, keys.Evaluate(genesis, []keys.Event{mine}), start).Verify(start)
	p = follow(t, p, keys.KeyFrozen, mine, his)
	if p.Usable() || p.Head != body.Hash() {
		t.Errorf("%+v", p)
	}
	p = follow(t, p, keys.Nothing, mine, his)
	p = follow(t, p, keys.Nothing) // less is known there
	if !p.Frozen {
		t.Error("thawed by ignorance")
	}
	rescued, _ := rotate(t, genesis, keys.Signers{Recovery: rescue, New: secret(0x70)})
	p = follow(t, p, keys.KeyReplaced, mine, his, rescued)
	if !p.Usable() || p.Trust != keys.Introduced || p.Key != secret(0x70).Public() {
		t.Errorf("%+v", p)
	}

	p = keys.NewPin(body, keys.Evaluate(genesis, []keys.Event{mine}), start).Verify(start)
	p = follow(t, p, keys.KeyOverruled, mine, rescued)
	if p.Trust != keys.Seen {
		t.Errorf("%+v", p)
	}
}

func TestPinConflicts(t *testing.T) {
	p := keys.NewPin(body, keys.Evaluate(genesis, nil), start)
	for n := range byte(6) {
		var news keys.News
		if p, news = p.Introduce(peercrypto.Hash{1 + n}, start); news != keys.IDConflict {
			t.Errorf("news is %q", news)
		}
	}
	if len(p.Conflicts) != keys.MaxConflicts || p.Trust != keys.Seen || p.Genesis != body.Hash() {
		t.Errorf("%+v", p)
	}
	if _, news := p.Conflict(p.Conflicts[0]); news != keys.Nothing {
		t.Errorf("an old conflict is news: %q", news)
	}
	other := keys.Evaluate(keys.Genesis(peercrypto.UserGenesis{V: 1, Created: start, Key: third.Public()}), nil)
	if _, news := p.Observe(nil, other, start); news != keys.Nothing {
		t.Errorf("another user's history is followed: %q", news)
	}
}

func TestSafetyNumber(t *testing.T) {
	other := peercrypto.UserGenesis{V: 1, Created: start, Key: third.Public()}
	a, b := keys.IdentityOf(body, genesis), keys.IdentityOf(other, keys.Genesis(other))
	number := keys.SafetyNumber(a, b)
	if number != keys.SafetyNumber(b, a) || len(strings.ReplaceAll(number, " ", "")) != 60 || strings.Count(number, " ") != 11 {
		t.Errorf("%q", number)
	}
	_, s := rotate(t, genesis, keys.Signers{Key: first, New: second})
	changed := keys.IdentityOf(body, s)
	if keys.SafetyNumber(changed, b) == number {
		t.Error("another key has the same number")
	}
	code := keys.Code(a, b)
	if !keys.MatchCode(code, b, a) || keys.MatchCode(code, a, b) || keys.MatchCode(code, b, changed) {
		t.Error("a code matches the wrong users, or not the right ones")
	}
	p := keys.NewPin(body, keys.Evaluate(genesis, nil), start)
	if p.Identity() != a || !slices.Contains([]string{code}, keys.Code(p.Identity(), b)) {
		t.Error("a pin shows somebody else")
	}
}
