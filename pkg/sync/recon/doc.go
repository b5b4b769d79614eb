// Package recon finds the differences between two ordered sets by comparing fingerprints of ranges.
//
// Two sides hold a set of references (time, hash), read through a [Source]. One of them sends the message of [Reconciler.Start]; each answers the
// other's with that of [Reconciler.Step] until a message leaves nothing open. A message is a sequence of ranges that begins at the smallest
// reference; each range begins where the one before it ended, and what lies behind the last one is not in question.
//
//	range = upper bound, mode, content
//	bound = 0 (the end) | 1 + (time - time of the bound before) , n, n bytes of hash (n <= 32; the rest is zero)
//	mode  = 0 SKIP | 1 FP: 16 bytes | 2 IDS: n, n × 8 bytes | 3 NEED: n, n × 8 bytes
//
// Integers are unsigned varints. FP and IDS are open: they ask for an answer. The answer to FP is SKIP when it is equal to one's own; IDS when
// there are at most 64 references; else up to 16 parts. The answer to IDS is NEED with those one lacks (SKIP if none) while one sends the others' lack
// by one's own means, told by [Result.Send]; or parts, when one's own range is too long to look through. NEED is final.
//
// A fingerprint is the beginning of SHA-256(salt, count, sum of the hashes modulo 2^256), an id the beginning of SHA-256(salt, hash). Both
// sides give the same salt, which must be new for each session: then nobody who adds references can aim at a collision, and what
// one salt hides the next one shows.
//
// Work and memory for one message are bounded by its length: an answer is at most [MaxMessage] bytes, and the rest of the
// universe becomes one range again when it would be longer.
package recon
