//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench-signaling: needs Linux: it reads /proc and pins processes to processors")
	os.Exit(1)
}
