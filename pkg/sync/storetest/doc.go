// Package storetest has what tests of and with a groupsync.Store need: [Run],
// the conformance suite that every Store passes, and [NewMemory], a Store that
// forgets everything when it is closed.
package storetest
