package load

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ticks of processor time a second, in /proc.
const ticks = 100

func readProcess(pid int) (sample, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return sample{}, err
	}
	_, rest, _ := strings.Cut(string(content), ") ") // behind the name
	fields := strings.Fields(rest)
	if len(fields) < 22 {
		return sample{}, fmt.Errorf("/proc/%d/stat has only %d fields", pid, len(fields))
	}
	var n [3]int
	for i, at := range []int{11, 12, 21} { // user and system time, resident pages
		if n[i], err = strconv.Atoi(fields[at]); err != nil {
			return sample{}, err
		}
	}
	return sample{pid: pid, cpu: float64(n[0]+n[1]) / ticks, rss: n[2] * os.Getpagesize()}, nil
}

// ownCPU is the processor time that this process has used, in seconds.
func ownCPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return (time.Duration(u.Utime.Nano()) + time.Duration(u.Stime.Nano())).Seconds()
}
