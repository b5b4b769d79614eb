package load

import (
	"context"
	"fmt"
	"time"
)

// A probe looks at the server's process; one without a process sees nothing.
type probe struct{ pid int }

// A sample is what a process has used.
type sample struct {
	pid int
	cpu float64 // seconds
	rss int     // bytes
}

func newProbe(pid int) (*probe, error) {
	if pid == 0 {
		return &probe{}, nil
	}
	if _, err := readProcess(pid); err != nil {
		return nil, fmt.Errorf("looking at the server's process %d: %w", pid, err)
	}
	return &probe{pid}, nil
}

func (p *probe) sample() sample {
	if p.pid == 0 {
		return sample{}
	}
	s, err := readProcess(p.pid)
	if err != nil {
		return sample{pid: p.pid} // it has ended, which the connections tell as well
	}
	return s
}

// settle waits until the process does not work any more, or 3 s.
func (p *probe) settle(ctx context.Context) {
	last := p.sample()
	for range 30 {
		if p.pid == 0 || !pause(ctx, 100*time.Millisecond) {
			return
		}
		now := p.sample()
		if now.cpu-last.cpu < 0.005 {
			return
		}
		last = now
	}
}
