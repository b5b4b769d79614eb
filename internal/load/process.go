package load

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A probe looks at the server's process; one without a process sees nothing.
type probe struct {
	pid  int
	mu   sync.Mutex
	last sample
}

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
	first, err := readProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("looking at the server's process %d: %w", pid, err)
	}
	return &probe{pid: pid, last: first}, nil
}

func (p *probe) sample() sample {
	if p.pid == 0 {
		return sample{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now, err := readProcess(p.pid); err == nil {
		p.last = now
	} // else it has ended, which the connections tell as well, or this process has too many files open
	return p.last
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
