//go:build linux || darwin || freebsd

package files

import "golang.org/x/sys/unix"

// freeSpace returns the bytes that this user may still write.
func freeSpace(dir string) (int64, bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true //nolint:unconvert // other systems have other types
}

func ignoreUnsupported(err error) error { return err }
