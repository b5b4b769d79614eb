// Package audit writes a log that shows when it was tampered with: JSON lines,
// each of which holds the hash of the one before.
//
// A line ends with its own hash, over all that stands before it:
//
//	{"seq":7,"time":"2026-01-02T03:04:05.678Z","kind":"kicked",…,"prev":"<hash of line 6>","hash":"<hash of this line>"}
//
// docs/operations.md specifies the bytes. The chain goes on over restarts and
// from file to file. It shows lines that were altered, removed, put in or put
// elsewhere; that the last lines are missing, or that everything from some line
// on was written anew, shows only in comparison with a hash that was kept
// elsewhere.
//
// Log writes: one goroutine, Run, takes events from a bounded queue, so that
// Record never blocks. What does not fit is counted, and a line tells of it.
// Verify and Read are for the files, also while they are written.
package audit
