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
// on its author's grant and on revocations and checkpoints by more senior grants
// only, which are settled by then, so one pass is enough.
//
// The one costly question is whether an operation lies in another's past. Each
// operation knows the length of the prefix of the log that its past certainly
// holds ("low"); in a log with few concurrent authors that is nearly all of it,
// and the rest is found by walking. The past of a revocation is remembered.
//
// Evaluation takes O(n log n) for n operations, plus for each revocation the
// number of operations of those whom it hits. Only admins can make it slow.
//
// # Ownership
//
// A Log belongs to one goroutine at a time. [CheckData] and the methods that say
// so only read and may run at once from many goroutines while nobody changes the
// log. A State is immutable and safe for concurrent use, also after the log went on.
package group
