// Package fold makes documents out of changes. It is section 7 of
// docs/formats.md in code, and a pure function: the same changes in the order
// (modified, hash) give the same bytes on each device. It reads no clock, keeps
// nothing and knows neither groups nor signatures.
//
// # Paths
//
//	path    = "" / first *rest
//	first   = name / bracket
//	rest    = "." name / bracket
//	name    = 1*256 bytes, none of . [ ]
//	bracket = "[" index "]" / "[" quote key quote "]"
//	index   = "0" / digits without a leading zero, at most 9
//	key     = 1*256 bytes, neither that quote nor a backslash
//
// Everything else that lodash reads in some way (a..b, a[b], a[-1], a[01],
// a["b"]c, escapes in quotes) is refused, so that no two readers can differ. It
// is the text of a segment that makes an index, not its notation: a.0, a[0] and
// a["0"] are the same path.
//
// # Documents
//
// A document is a JSON object in canonical form, at most [MaxDocument] bytes.
// Its member "modified" is the fold's: it is the highest modified of the
// subject's changes, whatever a root value says there. "signer" and "signature"
// are never part of it. It nests at most 64 levels, as all JSON here: a change
// whose path and value lead deeper is unsound.
package fold
