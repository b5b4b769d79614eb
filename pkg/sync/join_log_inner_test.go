package sync

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/group"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// wrongAdd is an operation with an id that does not fit.
func wrongAdd(t *testing.T) *item {
	t.Helper()
	key, err := peercrypto.GenerateSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	body := peercrypto.UserGenesis{V: 1, Created: time.Now().UnixMilli(), Key: key.Public()}
	return &item{ent: &entry.Entry{Kind: entry.Operation, Op: entry.Add{UserID: peercrypto.NewID(time.Now()), User: body}}}
}

func newProof(t *testing.T, j *pendingJoin) *logProof {
	t.Helper()
	cfg := Config{Now: time.Now}
	cfg.Limits = cfg.Limits.withDefaults()
	e := &Engine{cfg: cfg, joins: map[peercrypto.ID]*pendingJoin{}, proofs: map[peercrypto.ID]*logProof{}}
	return &logProof{e: e, from: "sender", group: "g", join: j, log: group.NewLog("g"), fresh: []*item{wrongAdd(t), wrongAdd(t)}}
}

// TestProofIsGivenUp: nobody derives ids for a join that was cancelled, or for a session that ended.
func TestProofIsGivenUp(t *testing.T) {
	p := newProof(t, &pendingJoin{})
	if err := p.ids(t.Context()); !errors.Is(err, errGivenUp) {
		t.Error(err)
	}
	p.join = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.ids(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, it := range p.fresh {
		if it.idCost() == 0 {
			t.Error("an id was derived")
		}
	}
	if len(p.e.proofs) != 0 {
		t.Error("the check is still shown")
	}
	p.join = &pendingJoin{}
	p.e.joins["g"] = &pendingJoin{}
	if err := p.ids(t.Context()); !errors.Is(err, errFake) {
		t.Error(err)
	}
}

// TestProofTellsHowFarItIs: of a long check, twice a second.
func TestProofTellsHowFarItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProof(t, nil)
		e := p.e
		e.done = make(chan struct{})
		events := e.Subscribe(t.Context())
		p.users = 7
		stop := p.tellProgress()
		for want := range int64(3) {
			p.passed.Store(want)
			if ev := (<-events).(JoinChecking); ev.Checked != want || ev.Users != 7 || ev.Group != "g" {
				t.Errorf("%+v", ev)
			}
		}
		stop()
		e.joins["g"] = &pendingJoin{}
		e.checking(p, true)
		if list, err := e.PendingJoins(t.Context()); err != nil || len(list) != 1 || list[0].Checked != 2 || list[0].Users != 7 {
			t.Errorf("%+v, %v", list, err)
		}
		e.checking(&logProof{group: "g"}, false) // another one's end
		if e.checking(p, false); len(e.proofs) != 0 {
			t.Error("it is shown for ever")
		}
		close(e.done)
		e.bus.close()
	})
}

// TestSessionLastsAsLongAsItsProof: a check takes longer than strangers may stay.
func TestSessionLastsAsLongAsItsProof(t *testing.T) {
	e := newProof(t, nil).e
	e.joins["g"] = &pendingJoin{}
	s := &Session{e: e, peer: Peer{UserID: "stranger"}, since: time.Now().Add(-2 * strangerWithin)}
	s.loop.knocked = map[peercrypto.ID]bool{"g": true}
	s.proving.Add(1)
	if s.over() {
		t.Error("it ended while a log was checked")
	}
	s.proving.Add(-1)
	if !s.over() {
		t.Error("it lasts for ever")
	}
}
