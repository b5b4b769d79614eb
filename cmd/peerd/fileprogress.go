package main

import (
	"time"

	"github.com/schollz/progressbar/v3"
)

// A byteProgress shows how far a file is: a bar for a person, else a line every
// few seconds.
type byteProgress struct {
	what string
	bar  *progressbar.ProgressBar // nil where nobody watches
	note func(string, ...any)
	done int64
	last time.Time
}

// byteProgress begins to show; size -1 is unknown.
func (a *app) byteProgress(what string, size int64) *byteProgress {
	p := &byteProgress{what: what, note: a.note, last: time.Now()}
	if isTerminal(a.err) {
		p.bar = progressbar.NewOptions64(size, progressbar.OptionSetWriter(a.err), progressbar.OptionShowBytes(true),
			progressbar.OptionSetDescription(what), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	return p
}

// Write counts bytes.
func (p *byteProgress) Write(b []byte) (int, error) {
	p.done += int64(len(b))
	if p.bar != nil {
		_ = p.bar.Add(len(b))
	}
	return len(b), nil
}

// reach says how far it is, and more about it.
func (p *byteProgress) reach(have, size int64, more string) {
	p.done = have
	switch {
	case p.bar != nil:
		p.bar.ChangeMax64(max(size, 1))
		p.bar.Describe(p.what + " " + more)
		_ = p.bar.Set64(have)
	case time.Since(p.last) >= progressEvery:
		p.last = time.Now()
		p.note("%s: %s of %s, %s\n", p.what, bytesText(have), bytesText(size), more)
	}
}

func (p *byteProgress) end() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
