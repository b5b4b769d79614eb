// Package entry reads, checks and signs the two kinds of entry that make a
// group: operations, which are about members, and data changes, which make
// documents. It is sections 5 and 7 of docs/formats.md as far as an entry can be
// judged from its own bytes. What needs an entry's past is package group.
//
// [Decode] accepts exactly the bytes that encoding the decoded values gives
// again, so a member that is unknown, missing, null or spelled in another way
// never passes. The hash leaves the signature out and names the entry.
//
// Errors: [ErrUnsound] is for good. [ErrUnknownVersion] says that a later
// release may accept the entry, so it must be neither admitted nor remembered.
// Error texts never contain a part of the entry.
//
// All functions are safe for concurrent use. An [Entry] is not changed after
// Decode returned it and may then be shared.
package entry
