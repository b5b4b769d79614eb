// Package recon finds the differences between two ordered sets by comparing fingerprints of ranges.
//
// Two sides hold a set of references (time, hash), read through a [Source]. Each has an [Exchange]: one asks, the other one answers. A frame
// is a sequence of ranges:
//
//	frame = answers, range ...
//	range = bound, mode, content
//	bound = 0 | 1 + (time - time of the bound before), and as many bytes of hash as mode says (the rest is zero)
//	mode  = one byte: what it is in the lower two bits, the number of bytes of hash (0 to 32) above
//	what  = 0 SKIP | 1 FP: 4 bytes | 2 IDS: n, n × 4 bytes | 3 NEED: n, n × 4 bytes
//
// Integers are unsigned varints. The bound is the upper end of a range; bound 0 is above everything and comes last. The first range begins at
// the smallest reference, each other one where the one before it ended. What lies behind the last one is not in question.
//
// FP and IDS are open: they want to be gone into. FP that differs from one's own is answered by IDS, when there are at most 40 references
// in the range, or by FP of up to 16 parts. IDS is answered by NEED with those that one lacks (SKIP if none), while one sends the other side
// what it lacks by one's own means, told by [Step.Send]; or by FP of parts, when one's own range is too long to look through. NEED is final.
//
// The asking side begins with its whole set and keeps a limited number of frames on the way; the other one queues them, goes into one after the other in as
// many frames as that takes, and says in answers how many of them are done with. The exchange is over for the asking side when everything
// open that it sent is answered and it has nothing left to say. So the differences that are found lie in queues of bounded size and nothing
// is ever compared twice, however short frames are.
//
// A fingerprint is the beginning of SHA-256(salt, count, sum of the hashes modulo 2^256), an id the beginning of SHA-256(salt, hash). Both
// sides give the same salt, new for each session and made another one for each round by [Reconciler.Round]: nobody who adds references can
// aim at a collision of what is compared. By chance one of 2^32 comparisons hides a difference; the sides compare whole sets after a round, by 16
// bytes, and what one salt hides the next round shows.
//
// Work and memory are bounded whatever the other side sends: a call of [Exchange.Next] makes at most one frame out of a limited number of ranges, the
// answering side queues as many frames as may be on the way, the asking one what it asked for, up to a limit, and an exchange that takes too many
// frames for the size of the own set is refused.
package recon
