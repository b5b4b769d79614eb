//go:build unix

package daemon

import (
	"fmt"
	"os"
	"syscall"
)

func ownUID() int { return os.Getuid() }

// checkPrivate refuses a folder that others could enter or replace.
func checkPrivate(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("looking at the folder of the API socket: %w", err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Getuid() {
		return fmt.Errorf("the folder of the API socket, %s, belongs to another user: choose another path (--api)", dir)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("the folder of the API socket, %s, is open to others: chmod 700 %s", dir, dir)
	}
	return nil
}
