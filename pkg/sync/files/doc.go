// Package files keeps files by their content: each is named by the SHA-256 of
// its bytes, held on disk, and read, written and passed on in chunks that are
// verified one by one. It knows nothing about groups, documents or networks.
//
// # The tree
//
// A file is cut into chunks of 256 KiB; the last one may be shorter, an empty
// file has none. The hash of a chunk is SHA-256(0x00 ‖ chunk). 1,024 hashes of
// consecutive chunks make a page, the last one may be shorter; the hash of a
// page is SHA-256(0x01 ‖ hashes). The hashes of all pages are the top, and
//
//	root = SHA-256("peers/file/1\n" ‖ size as 8 bytes, big endian ‖ top)
//
// The shape of the tree follows from the size alone, and the root from the
// content alone: there is one root for each content. Who trusts (root, size)
// can verify the top (at most 128 KiB), with it any page (at most 32 KiB), and
// with that any chunk, from whomever they come and in any order.
//
// The root is not the file's id, which is the plain SHA-256 of the content, as
// of stock peers. Somebody has to vouch that both belong together; a complete
// file is checked against its id once more before it counts ([ErrContent]).
//
// # On disk
//
// A [Store] owns a folder:
//
//	content/ab/ab12…/data, tree, pin    a complete file
//	partial/ab12…-cd34…/data, tree, map, want    a file being fetched: id and begin of the root
//	tmp/…    a file being added; removed when the store is opened
//
// A file becomes complete by one rename of its folder. The map of a partial
// file has two bits for a chunk: "written", set right after the chunk was, and
// "durable", set after the data was flushed to the disk. A store that is opened
// again trusts durable chunks and verifies the merely written ones from disk: a
// kill loses nothing, a power cut what the disk lost.
package files
