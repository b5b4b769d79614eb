// Package sync keeps the groups and documents of one device and brings them to the same state as other devices hold
// them.
//
// An [Engine] owns a [Store]. It writes signed entries for its user, takes entries from others through one path
// (decode, signature, authorisation at the entry's place in the group's history, one transaction), folds them into
// documents and tells who watches. A [Session] is the conversation with one other device over a [Transport]. What an
// entry is and when it counts is specified in docs/formats.md; what a user notices of it in docs/sync.md.
//
// The rules that hold everywhere: verify before storing, commit before announcing, never tell a device about a group
// that it is not a member of by this device's own state, and nothing of a group is kept as joined before the user
// consented.
//
// # Session protocol peers/sync/1
//
// Two lanes, Control and Bulk, each ordered and reliable. A frame is one message: a type byte and fields. Integers are
// minimal unsigned varints of at most 63 bits; hashes and sums are 32 raw bytes; fingerprints 16; texts and byte
// strings have a varint length in front. A frame has no bytes after its fields. A type with the high bit set is
// optional: who does not know it ignores it. Any other unknown type, and a frame that can't be decoded, closes the
// session. Frames are at most 64 KiB, except that one with a single entry may be 1 MiB + 64 KiB.
//
// Control lane:
//
//	0x01 HELLO    version, features, 16 bytes of salt. First frame of both; version is 1. Feature 1: PACKED is understood; unknown ones are ignored.
//	0x02 GROUPS   n, n × (group id, flags, operations: count and fingerprint, data: count and fingerprint)
//	0x03 RECON    group id, kind, round, ranges (package recon)
//	0x04 ACK      how many bytes of the bulk lane's ENTRIES and LOG frames were processed so far, durably
//	0x05 HAVE     group id, n, n × hash: entries that somebody else wrote and that came to the sender by now
//	0x06 WANT     group id, n, n × hash: asks for entries
//	0x07 NOTFOUND group id, n, n × hash: answer to WANT
//	0x08 JOIN     group id, claim (canonical JSON) or nothing
//	0x09 REFUSED  group id, code, text: answer to JOIN
//	0x0a ACCEPT   group id, accept operation: consent to a grant, from a device that the receiver does not count as member yet
//	0x0b NAMES    n, n × user id: asks for user documents
//	0x0c USERS    n, n × signed user document
//	0x0d KNOCK    n, n × 16 bytes: the sender knows these invitations
//	0x0e OPEN     n, n × 16 bytes: so does the receiver, and its group lives here
//	0x81 NEED     canonical JSON: between devices of one user, asks for the key of the history that the receiver showed
//	0x82 GIVE     canonical JSON: that key, sealed
//	0x83 CHAIN    canonical JSON {v, events, proposals}: the user's history of keys, and what the devices are to sign
//
// Bulk lane:
//
//	0x10 ENTRIES  group id, n, n × entry
//	0x11 LOG      group id, flags, n, n × operation: the whole log in several frames
//	0x12 MARK     group id, kind, round, number of RECON frames that the sender sent in it
//	0x13 MARKED   group id, kind, round, count, fingerprint
//	0x14 PACKED   length of an ENTRIES or LOG frame of at least 1 KiB, that frame as zstd (RFC 8878)
//
// The session's salt is SHA-256 of both salts, the lower device id's first. A fingerprint is the first 16 bytes of
// SHA-256(salt, count as 8 bytes big-endian, sum). So nobody who writes entries can know the values that two honest
// devices compare.
//
// Flow. Both send HELLO, then GROUPS with each group that both users are active members of by the sender's state. What
// is equal on both sides costs these bytes and nothing else. A group that the receiver does not share with the sender
// is ignored without an answer. Flag 1 of an element asks for the receiver's element.
//
// The device with the lower id reconciles what differs, operations first: it asks with RECON frames, of which 256 or 8 MiB may be on the
// way, and the other one goes into each as soon as its own control lane has room, in as many frames as that takes (package recon).
// The round's salt is SHA-256 of the session's, "round" and its number as 8 bytes big-endian.
// A side that gets the other's list of ids for a range knows what the other lacks, and asks
// within the answer for what it lacks itself. When the exchange ends each side sends what it found lacking on the bulk
// lane: oldest first, and entries of one moment in the order of their chains, so that the receiver can judge them as
// they come. Then the lower device sends MARK on the bulk lane; the other answers, when it has processed everything
// before the MARK and as many RECON frames as it names, with MARKED behind everything that it still had to send itself,
// and with its summary. The first device compares when it has processed all before the MARKED. While a round moved
// something, another one follows; then data follows operations, also if these still differ. Equal: GROUPS tells the
// other. Not equal, and nothing moves any more: one side can't take something yet; the next try comes after a pause
// that doubles from 1 s to 60 s.
//
// A device that lacks data of a group, by the counts that both told, has it brought by one session at a time: it puts off rounds of the others, as
// lower device by not beginning them, as higher by not answering yet, until that one is done, ends, or brings fewer than 100 entries in 5 s.
// When others waited, the next round is theirs: nobody keeps a device from the others by saying that there is more.
//
// New entries follow between rounds. A device that wrote an entry sends it; a device that received it from elsewhere
// sends HAVE and the entry on WANT. Each session reads the log of its groups from a position, so a slow peer costs no
// memory. What an entry refers to and what is missing is asked for with WANT once. A group that changed since it was
// equal is compared again after a minute, should anything have been lost.
//
// At most 2 MiB of ENTRIES and LOG frames are on the way without ACK, each counted unpacked and with at least 1 KiB; sending more
// closes the session. MARK and MARKED are free. Frames for a group that is not shared (any more) are dropped without an
// answer.
//
// Joining. A device with an invitation sends KNOCK: the beginning of SHA-256(salt, "knock", ipk). Only who knows the
// invitation understands, and answers OPEN with SHA-256(salt, "open", ipk); so devices of other groups do not learn
// whom one is joining. Then it sends JOIN with its claim. An admin's device writes the add and answers with LOG (flag
// 1: first, 2: last); the joiner checks the create's hash, the owner's genesis and its own membership and stores
// everything in one transaction. REFUSED tells a code to those who proved the invitation's secret, and the same
// "refused" to everybody else. JOIN without a claim asks for the log of a group in which the sender already is an
// active member: a second device of the same user, or a join that was interrupted. LOG with flag 4 offers a group to a
// user who was added without a claim; it waits for the user's consent, and ACCEPT tells it.
//
// Own devices. A session with another device of the same user is about 0x81 to 0x83 alone while one of both has not the key that stands; the
// device has to be on the user's list of devices, by its key. docs/formats.md, section 2, has what is in these frames, docs/keys.md why. Other
// users' are ignored.
//
// Farewells. When a group is not shared any more, or the other side lists one that is not, because a membership ended,
// ENTRIES tell why. Who left sends the leave and the own operations on which it builds; to a user who was removed, the
// first revocation of each grant and its past go, so nothing newer than the membership. If nothing else is shared, the
// session ends after the ACK, at the latest after 10 s; the other side waits 2 s for that. Who left then sends JOIN
// without a claim: REFUSED confirms the leave, LOG shows a grant by which the sender still counts this user as a member
// (docs/formats.md, section 10, decision 2). It is left, too, and told in the same way. Who was removed, and not by the owner, stays on the
// topics for 7 days: a member who lists the group and has this user as a member knows that the removal is void, and answers JOIN with LOG.
package sync
