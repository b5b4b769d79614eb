package sync

import (
	"slices"
	"sync"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/recon"
)

// A job is something to be sent on the bulk lane. Exactly one of the fields behind group is used.
type job struct {
	group  peercrypto.ID
	pushed *recon.Send // with kind
	kind   entry.Kind
	refs   []Ref             // with kind; single entries
	hashes []peercrypto.Hash // answer to WANT, and own new entries
	wanted bool              // hashes are those of a WANT
	raws   [][]byte          // a farewell: told also when the group is not shared any more
	log    bool              // the whole log, with flags
	flags  uint64
	marked *markFrame // MARKED: the digest is taken when its turn comes
	mark   *markFrame
}

// A jobQueue is what is to be sent and the credit for it. Loop adds, the bulk writer takes, the reader tells what was acknowledged.
type jobQueue struct {
	mu     sync.Mutex
	cond   *sync.Cond
	queue  []job
	closed bool
	wanted int // hashes of WANT frames in queue

	sent, ackedBytes int64 // ENTRIES and LOG frames
	got, processed   int64 // the same of the other side

	farewells []toldAt // that wait for their ACK, in order
}

// toldAt is when a farewell is acknowledged.
type toldAt struct {
	group peercrypto.ID
	sent  int64
}

func (q *jobQueue) init() { q.cond = sync.NewCond(&q.mu) }

func (q *jobQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.cond.Broadcast()
}

func (q *jobQueue) add(jobs ...job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, jobs...)
	q.cond.Broadcast()
}

// answer adds the answer to a WANT; it tells whether there was room.
func (q *jobQueue) answer(group peercrypto.ID, hashes []peercrypto.Hash) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) >= 2*maxJobs || q.wanted+len(hashes) > maxWantedHashes {
		return false
	}
	q.wanted += len(hashes)
	q.queue = append(q.queue, job{group: group, hashes: hashes, wanted: true})
	q.cond.Broadcast()
	return true
}

// gone counts what is not in the queue any more.
func (q *jobQueue) gone(j job) {
	if j.wanted {
		q.wanted -= len(j.hashes)
	}
}

func (q *jobQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue)
}

// drop removes the jobs of a group.
func (q *jobQueue) drop(group peercrypto.ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = slices.DeleteFunc(q.queue, func(j job) bool {
		if j.group != group || j.raws != nil {
			return false
		}
		q.gone(j)
		return true
	})
}

// take waits for a job.
func (q *jobQueue) take() (job, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.queue) == 0 && !q.closed {
		q.cond.Wait()
	}
	if q.closed {
		return job{}, false
	}
	j := q.queue[0]
	q.queue[0] = job{}
	q.queue = q.queue[1:]
	q.gone(j)
	return j, true
}

// cost is what a frame counts in credit: at least 1 KiB, so that the window also bounds the number of frames.
func cost(frame int) int64 { return max(int64(frame), 1<<10) }

// spend waits for credit for a frame.
func (q *jobQueue) spend(size int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.sent > q.ackedBytes && q.sent-q.ackedBytes+size > window && !q.closed {
		q.cond.Wait()
	}
	q.sent += size
	return !q.closed
}

// acked takes an ACK; it tells whether it can be right, and for which groups it acknowledges a farewell.
func (q *jobQueue) acked(total int64) (told []peercrypto.ID, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if total > q.sent || total < q.ackedBytes {
		return nil, false
	}
	q.ackedBytes = total
	q.cond.Broadcast()
	for len(q.farewells) > 0 && q.farewells[0].sent <= total {
		told = append(told, q.farewells[0].group)
		q.farewells = q.farewells[1:]
	}
	return told, true
}

// await remembers that everything sent so far ends with a farewell, and tells whether it is acknowledged already.
func (q *jobQueue) await(group peercrypto.ID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ackedBytes >= q.sent {
		return true
	}
	q.farewells = append(q.farewells, toldAt{group, q.sent})
	return false
}

// received counts a frame of the other side and returns how much of it is not processed.
func (q *jobQueue) received(size int64) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.got += size
	return q.got - q.processed
}

// done counts processed bytes and returns the total for the ACK.
func (q *jobQueue) done(size int64) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.processed += size
	return q.processed
}
