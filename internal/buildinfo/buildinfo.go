// Package buildinfo holds what the two programs say about themselves.
package buildinfo

import "runtime/debug"

// Version is set by the linker (see the Makefile); "dev" in a build without it.
var Version = "dev"

// Go returns the version of Go that built the program.
func Go() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.GoVersion
	}
	return "unknown"
}
