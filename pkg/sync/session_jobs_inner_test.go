package sync

import (
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// TestWantedHashesAreBounded: what the other side asked for and was not sent is counted by entries, until it is sent or dropped.
func TestWantedHashesAreBounded(t *testing.T) {
	var q jobQueue
	q.init()
	frame := make([]peercrypto.Hash, maxHashes)
	fill := func() (frames int) {
		for q.answer("g", frame) {
			frames++
		}
		return frames
	}
	if n := fill(); n != maxWantedHashes/maxHashes {
		t.Fatalf("%d frames of %d hashes wait", n, maxHashes)
	}
	if j, ok := q.take(); !ok || len(j.hashes) != maxHashes {
		t.Fatalf("%+v", j)
	}
	if n := fill(); n != 1 {
		t.Errorf("room for %d frames after one was sent", n)
	}
	q.add(job{group: "g", hashes: frame}) // own entries don't count
	q.drop("g")
	if n := fill(); n != maxWantedHashes/maxHashes {
		t.Errorf("room for %d frames after the group was dropped", n)
	}
	q.drop("g")
	few := 0
	for q.answer("g", frame[:1]) {
		few++
	}
	if few != 2*maxJobs {
		t.Errorf("%d frames of one hash wait", few)
	}
}
