//go:build !linux

package load

import (
	"errors"
	"runtime"
)

func readProcess(int) (sample, error) {
	return sample{}, errors.New("processes cannot be measured on " + runtime.GOOS)
}

// ownCPU is not known here.
func ownCPU() float64 { return 0 }
