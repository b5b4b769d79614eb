// Package keys is the history of a user's keys: events that replace the key,
// authorize devices and set the recovery key, what a set of them says, and what
// a device remembers of other users. It specifies what docs/formats.md has in
// section 2 under "Keys of users". It reads no clock and keeps nothing.
//
// # Events
//
// A history begins with the genesis, the user's self-certifying body, which is
// no event. Each [Event] names the one before it by hash (the first one the
// genesis hash) and has the next seq. The hash leaves "sigs" out, and so do the
// signatures: S(key, "key-event", event without sigs).
//
//	op            members      classes                  signers beside the class
//	rotate        key, reason  key, quorum, recovery    new: the new key
//	revoke        reason       key, quorum, recovery
//	addDevice     device       key                      new: the device's key
//	revokeDevice  device       key, quorum, recovery
//	setRecovery   recovery     key, recovery            new: the new recovery key; key
//
// The class is the member "by", so that an event has one class whoever signed
// it. Its signers: key, the current one; quorum, a majority of the devices, at
// least two, each as "dev:<id>"; recovery, the recovery key whose hash the
// history has. setRecovery has class recovery exactly if there was a recovery
// key. Exactly these signatures are there, in the order of "by", which is unique.
//
// After revoke the key can sign nothing more; a rotate of class quorum or
// recovery goes on. The reason (rotated, lost, compromised) is for people.
// modified never falls from one event to the next and decides nothing.
//
// # Forks
//
// Several events may follow the same one ([Fork]). The highest class stands:
// recovery before quorum before key. Of two of class quorum or recovery the one
// with the smaller hash stands. Two of class key contend: the history is frozen
// there, whatever follows either of them, until one of a higher class follows
// the same one as they do. What follows an event that lost is lost.
//
// Devices count for a quorum only along the line on which they were added. Who
// steals the key and adds devices does so by class key, in a fork that loses to
// the user's own recovery or quorum. Who holds an old key can freeze the history
// at the place where that key was current, also after it was rotated away by
// class key; a rotation by recovery or quorum is safe from that.
//
// # Bounds
//
// At most 32 devices, 33 signatures and 16 KiB an event. [Evaluate] verifies at
// each place the events that would stand there, the highest class first, and
// no more; what lost once never counts again and need not be kept.
//
// # In a group
//
// A group takes keys from its own log alone: a rekey operation carries the
// events that lead from the key it replaces to the next one, and an add carries
// those of a user who comes with a later key. docs/formats.md, section 6, tells how
// they are evaluated; the fork rule is the same. A user's device that rotates
// the key writes a rekey in each group and for each grant that has the old key,
// with what it holds of the old key's entries as the frontier, and so it does
// later when it meets such a grant.
//
// # Pins
//
// A [Pin] is what a device remembers of a user outside of groups: the genesis
// seen first, and how far it followed the history. Its transitions are pure;
// their news is what to tell a person.
//
//	Seen → Introduced   an admin of a shared group added that genesis
//	     → Verified     people compared the safety number or scanned a code
//
// The key changes with the history. A change signed by the old key alone keeps
// the trust and is marked (Rotated); a change by recovery or devices takes
// Verified back to Introduced; if an event that was followed does not stand any
// more, trust falls to Seen. A frozen or ended key is not [Pin.Usable]: nothing new
// under it counts. While it is frozen, a channel under the key before the fork is
// still served, to read; one under either of the contending keys is not. Another
// genesis for the id is a conflict: it is remembered, at most four, never used.
//
// # What users compare
//
// [SafetyNumber] is 60 digits. Each user's half is the first 30 bytes of 5,200
// rounds of SHA-512 over 0x0001, genesis hash, key and user id, with the key
// appended again in each round, as six groups of a 40-bit number modulo 100,000.
// The smaller half is first. [Code] is for machines: "peers-verify:1:" and the
// genesis hash and head of the one who shows it, then those of the other.
package keys
