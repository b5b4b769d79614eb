// Package group holds the log of one group and evaluates it. It is sections 5
// (soundness) and 6 (evaluation) of docs/formats.md in code.
//
// A [Log] takes in what is sound: what its own bytes and its past justify. Its
// [State] says which of it counts, and is a function of the set of operations in
// the log: neither the order of arrival nor a clock nor anything local plays a
// part. The package reads no clock and keeps nothing on disk.
//
// # How it is computed
//
// Grants are judged in the order of their rank. Whether an entry counts depends
// on its author's grant, on revocations and checkpoints by more senior grants,
// which are settled by then, and on the author's own rekeys and leaves, so one
// pass is enough.
//
// The judgement is kept and corrected. An operation by an active grant that
// nothing revokes is judged alone. Others queue the grants that they concern: a
// removal the one that it names and its successors, a void grant those that it
// made, and so on; the queue is worked off by rank, and each grant is judged at
// most once. What is shared is counted by reasons, so that it follows. A state is
// a snapshot of persistent maps and costs nothing to make; [State.Changed] finds
// what it says differently from another one without comparing the rest.
//
// The one costly question is whether an operation lies in another's past. Each
// operation knows the length of the prefix of the log that its past certainly
// holds ("low"); in a log with few concurrent authors that is nearly all of it,
// and the rest is found by walking. The past of a revocation is remembered.
//
// An operation costs O(log n) in a log of n, a revocation also the number of
// operations of those whom it hits, directly or through the grants that they
// made. Only admins can make that slow, and a user whose own keys change.
//
// # Keys
//
// Entries are made under a grant or under the rekey that set their key, which is
// then their "as". A rekey makes no principal: rank, consent and revocations are
// the grant's. [State.Principal], [State.Free] and [State.JudgeData] take either.
//
// # Ownership
//
// A Log belongs to one goroutine at a time. [CheckData] and the methods that say
// so only read and may run at once from many goroutines while nobody changes the
// log. A State is immutable and safe for concurrent use, also after the log went on.
package group
