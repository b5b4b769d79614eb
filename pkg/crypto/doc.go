// Package crypto holds everything that is hashed, signed, sealed or derived in
// peersignal: ids, the strict JSON reader and its canonical form, hashes, keys,
// signatures, sealed boxes, certificates and the key store.
//
// # Canonical form
//
// A signed or hashed object is JSON in the form of RFC 8785: members sorted by
// the UTF-16 code units of their names, no white space, numbers as JavaScript
// prints them. [Canonicalize] makes it from any text that the strict reader
// accepts, [CheckCanonical] accepts nothing else. What the strict reader
// refuses (see [ErrJSON]) has no canonical form, therefore no hash and no
// signature.
//
// # Text forms
//
// Keys and signatures are standard base64 with padding, as in stock documents.
// Hashes, nonces, tags and secrets of the key store are base64url without
// padding. A text is valid only if encoding the bytes again gives the same
// text, so no value has two spellings.
//
// # Signatures
//
// There are two kinds. A stock document is signed over the 64 lower-case hex
// characters of the hash of its canonical form without the member "signature"
// ([SigningKey.SignHash]). Everything else is signed over
//
//	"peers/1 " + purpose + "\n" + canonical
//
// ([SigningKey.SignPurpose]). No stock message begins like this, and no message
// of one [Purpose] can be shown as one of another. Ed25519 is that of the
// standard library (RFC 8032, cofactorless, s < L).
//
// # Self-certifying ids
//
// An id is 25 base36 characters: 10 of unix milliseconds and 15 that are random
// for stock objects and derived for users, groups and devices:
//
//	id = base36(created, 10) + base36(uint(H) mod 36^15, 15)
//	H  = scrypt("peers/id/1 "+kind+"\n"+canonical(body), "peers/id/1", N=2^14, r=8, p=1)   user, group
//	H  = SHA-256("peers/id/1 device\n"+canonical(body))                                    device
//
// with H read big-endian. The id is a name; what is pinned is the full hash of
// the body.
//
// # Secrets
//
// [SigningKey], [BoxSecretKey], [Recovery] and [Identity] print as "[redacted]"
// under every verb and refuse every encoder. ExportSeed, ExportBytes and Words
// are the only ways out.
//
// All functions are safe for concurrent use. No function keeps or changes a
// slice that it was given, and every returned slice belongs to the caller.
package crypto
