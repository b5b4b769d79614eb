//go:build !linux

package main

import "time"

var began = time.Now()

// threadTime is the time that passed, where that of a thread is not to be had.
func threadTime() time.Duration { return time.Since(began) }
