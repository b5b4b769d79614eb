// Recon measures the reconciliation of two SQLite stores that differ in some places beside negentropy, the set
// reconciliation of Nostr, on the same sets in the same run: bytes each way, round trips, CPU of both sides, memory.
//
// A module of its own keeps the comparison's dependencies out of the main one. `make bench-recon` runs it.
package main
