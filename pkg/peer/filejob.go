package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/files"
	"github.com/peersignal/peersignal/pkg/sync/files/exchange"
)

// How long a device is left alone that could not be a source.
const (
	retryNone = 20 * time.Second
	retryBusy = 5 * time.Second
	retryLost = 2 * time.Second
	retryBad  = 10 * time.Minute
	// lookEvery is how often connections are looked at for new sources.
	lookEvery = time.Second
	// maxSources bounds the sources of a file: each may have a window of chunks
	// in memory.
	maxSources = 6
)

// fileJob fetches one file from whoever is connected and has it.
type fileJob struct {
	work    *fileWork
	partial *files.Partial
	ref     files.Ref
	group   peercrypto.ID // "": any device may be asked
	fetch   *exchange.Fetch
	ctx     context.Context
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed at the end
	err     error         // valid then

	mu      sync.Mutex
	after   map[*connection]time.Time // when a connection may be tried (again)
	running int                       // sources
	wg      sync.WaitGroup            // sources
}

func newFileJob(w *fileWork, partial *files.Partial, group peercrypto.ID) *fileJob {
	j := &fileJob{
		work: w, partial: partial, ref: partial.Ref(), group: group, fetch: exchange.NewFetch(partial, w.down),
		done: make(chan struct{}), after: map[*connection]time.Time{},
	}
	j.ctx, j.cancel = context.WithCancelCause(w.peer.ctx)
	return j
}

func (j *fileJob) sources() int { return j.fetch.Sources() }

// run returns nil when the file is complete.
func (j *fileJob) run() error {
	defer j.cancel(nil)
	for {
		err := j.gather()
		if err == nil {
			err = j.partial.Finish()
		}
		var damaged *files.DamagedError
		switch {
		case errors.As(err, &damaged), errors.Is(err, files.ErrIncomplete):
			j.fetch.Again() // a chunk from before was spoilt on disk
		case errors.Is(err, files.ErrContent):
			return j.blame(err)
		default:
			return err
		}
	}
}

// blame names the document that is wrong.
func (j *fileJob) blame(err error) error {
	if j.group == "" {
		return fmt.Errorf("the reference of file %s is wrong: %w", j.ref.ID.Short(), err)
	}
	return fmt.Errorf("document %s in group %s is wrong: %w", FileDocumentID(j.group, j.ref.ID), j.group, err)
}

// gather runs sources until all chunks are here.
func (j *fileJob) gather() error {
	ctx, stop := context.WithCancel(j.ctx)
	defer j.wg.Wait()
	defer stop()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	report := time.NewTicker(progressEvery)
	defer report.Stop()
	last := int64(-1)
	for {
		j.look(ctx)
		select {
		case <-j.fetch.Done():
			return j.fetch.Err()
		case <-ticker.C:
		case <-report.C:
			if have := j.partial.Have(); have != last {
				last = have
				j.work.peer.hub.publish(FileProgress{File: j.work.state(FileInfo{Ref: j.ref, Group: j.group})})
			}
		case <-j.ctx.Done():
			return context.Cause(j.ctx)
		}
	}
}

// hurry lets every device be asked at once that did not have the file, or was
// busy: somebody waits, and maybe knows that it was shared meanwhile.
func (j *fileJob) hurry() {
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	for c, after := range j.after {
		if after.Before(now.Add(retryNone)) {
			j.after[c] = now
		}
	}
}

// look starts a source for each connection that may be one and is none.
func (j *fileJob) look(ctx context.Context) {
	now := time.Now()
	j.mu.Lock()
	for c := range j.after {
		if c.ctx.Err() != nil {
			delete(j.after, c)
		}
	}
	j.mu.Unlock()
	for _, c := range j.work.peer.connections() {
		user := c.conn.Remote().UserID
		if j.group != "" && !j.work.peer.engine.Shares(j.group, user) || !j.work.peer.knows(user) {
			continue
		}
		j.mu.Lock()
		after, tried := j.after[c]
		if tried && now.Before(after) || j.running >= maxSources {
			j.mu.Unlock()
			continue
		}
		j.running++
		j.after[c] = now.Add(24 * 365 * time.Hour) // while it runs
		j.mu.Unlock()
		j.wg.Go(func() { j.source(ctx, c) })
	}
}

// source fetches from one connection, and decides when it may be tried again.
func (j *fileJob) source(ctx context.Context, c *connection) {
	st, err := c.conn.OpenStream(ctx, streamFiles)
	if err == nil {
		err = j.fetch.Source(ctx, string(c.conn.Remote().DeviceID), st)
	}
	delay := retryLost
	switch {
	case errors.Is(err, exchange.ErrNone), errors.Is(err, exchange.ErrNothing):
		delay = retryNone
	case errors.Is(err, exchange.ErrBusy):
		delay = retryBusy
	case errors.Is(err, exchange.ErrBadData), errors.Is(err, exchange.ErrProtocol):
		delay = retryBad
		j.work.peer.log.Warn("a device sent data that is not of the file", "file", j.ref.ID.Short(), "device", c.conn.Remote().DeviceID.Short(), "error", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.running--
	if c.ctx.Err() != nil {
		delete(j.after, c) // the connection is over
		return
	}
	j.after[c] = time.Now().Add(delay)
}

// connections returns those that stand.
func (p *Peer) connections() []*connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*connection
	for _, d := range p.devices {
		if d.conn != nil {
			out = append(out, d.conn)
		}
	}
	return out
}
