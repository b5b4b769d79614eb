// Package exchange moves files between devices chunk by chunk, over ordered
// streams of messages that somebody else brings. A [Server] gives what a store
// has to those who may have it; a [Fetch] gets what a store lacks, from any
// number of sources at once, and believes none of them: each chunk is verified
// before it is written.
//
// # Messages
//
// One stream carries one file. The first byte of a message is its type;
// numbers are 4 bytes, big endian, unless said otherwise. The fetcher asks:
//
//	1 open   version 1, id (32 bytes), root (32), size (8)
//	2 top    the hashes of the pages
//	3 page   number of a page: its hashes
//	4 chunk  number of a chunk
//	5 have   the bitmap again
//
// The server answers in the order of the questions:
//
//	129 have   to open and have: a bit for each chunk, the first one in the lowest bit of the first byte
//	130 top    the hashes
//	131 page   number, hashes
//	132 chunk  number, bytes
//	133 lacks  to top, page and chunk: it is not here (any more); type and number of the question
//	134 none   to open: the file is not here, or not for you; the stream ends
//	135 busy   to open: later; the stream ends
//
// Open comes first and once. Whether a file does not exist, is not here or is
// not for the asker can't be told apart. Anything else ends the stream. A
// fetcher has at most [MaxWindow] chunks outstanding of one source; a server
// answers one question after the other, as fast as the answers are taken.
package exchange
