//go:build unix

package main

import "syscall"

// privateFiles makes everything that the daemon creates the user's alone.
func privateFiles() { syscall.Umask(0o077) }
