package sync

import (
	"fmt"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

func TestOfferBudget(t *testing.T) {
	const offerIDs = 20
	b := offerBudget{}
	now := time.UnixMilli(1_700_000_000_000)
	user := func(i int) peercrypto.ID { return peercrypto.ID(fmt.Sprint("user", i)) }
	if !b.take(user(0), offerIDs, offerIDs, now) || b.take(user(0), 1, offerIDs, now) {
		t.Error("a member's share is not bounded")
	}
	if b.take(user(1), offerIDs+1, offerIDs, now) || !b.take(user(1), offerIDs, offerIDs, now) {
		t.Error("another member's share")
	}
	if now = now.Add(offerIDsEvery); !b.take(user(0), 1, offerIDs, now) || b.take(user(0), 1, offerIDs, now) {
		t.Error("it is not filled up")
	}
	for i := range 2 * maxOfferers {
		b.take(user(i), 1, offerIDs, now)
	}
	if len(b.users) != maxOfferers || b.take(user(2*maxOfferers), 1, offerIDs, now) {
		t.Errorf("%d members are remembered", len(b.users))
	}
	if now = now.Add(offerIDs * offerIDsEvery); !b.take(user(2*maxOfferers), 1, offerIDs, now) || len(b.users) != 1 {
		t.Errorf("%d members are remembered after a while", len(b.users))
	}
}
