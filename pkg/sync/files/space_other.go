//go:build !linux && !darwin && !freebsd

package files

// freeSpace does not know here: a full disk is noticed when it is written.
func freeSpace(string) (int64, bool) { return 0, false }

// ignoreUnsupported: folders can't be flushed on some systems.
func ignoreUnsupported(error) error { return nil }
