package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
	"github.com/peersignal/peersignal/pkg/sync/files"
	"github.com/peersignal/peersignal/pkg/sync/files/exchange"
)

// streamFiles is the name of a stream on which the device that opens it fetches
// one file.
const streamFiles = "files"

const (
	progressEvery = 500 * time.Millisecond
	collectEvery  = time.Hour
	roomEvery     = time.Minute
	// openRate and openBurst bound the files that a device may ask for.
	openRate, openBurst = 25, 50
)

// fileWork is what a peer does about files.
type fileWork struct {
	peer   *Peer
	store  *files.Store
	limits FileLimits
	server *exchange.Server
	down   *rate.Limiter

	mu      sync.Mutex
	jobs    map[files.Ref]*fileJob
	queue   []*fileJob // wait for their turn, in order
	running int
	failed  map[files.Ref]error // of the last fetch

	madeRoom time.Time // the last time, see makeRoom
}

func newFileWork(p *Peer) *fileWork {
	l := p.cfg.FileLimits
	w := &fileWork{
		peer: p, store: p.cfg.Files, limits: l, down: exchange.Limit(l.DownloadRate),
		jobs: map[files.Ref]*fileJob{}, failed: map[files.Ref]error{},
	}
	w.server = exchange.NewServer(exchange.ServerConfig{
		Store: w.store, Rate: l.UploadRate, PeerRate: l.PeerUploadRate, MaxStreams: l.MaxUploads, Damaged: w.damaged,
	})
	return w
}

// start goes on with what was being fetched when the peer ended.
func (w *fileWork) start() {
	for _, info := range w.store.List() {
		var want fileWant
		if !info.Complete && json.Unmarshal(info.Want, &want) == nil {
			_, _ = w.begin(info.Ref, want.Group)
		}
	}
	w.peer.goRun(w.collectLoop)
}

func (w *fileWork) collectLoop() {
	ticker := time.NewTicker(collectEvery)
	defer ticker.Stop()
	for {
		w.collect()
		select {
		case <-ticker.C:
		case <-w.peer.ctx.Done():
			return
		}
	}
}

// collect evicts files that no group names any more.
func (w *fileWork) collect() {
	named, err := w.peer.named(w.peer.ctx)
	if err != nil {
		return // the next time, or the peer ends
	}
	n, bytes, err := w.store.Collect(w.limits.EvictAfter, named)
	if n > 0 || err != nil {
		w.peer.log.Info("files that no group names were removed", "files", n, "bytes", bytes, "error", err)
	}
}

// makeRoom evicts when the quota has no room for so many bytes, or, when that is
// unknown, is nearly used up; not more often than roomEvery.
func (w *fileWork) makeRoom(size int64) {
	used, quota := w.store.Usage()
	if quota == 0 || size >= 0 && used+size <= quota || size < 0 && used <= quota/10*9 {
		return
	}
	w.mu.Lock()
	now := time.Now()
	again := now.Sub(w.madeRoom) >= roomEvery
	if again {
		w.madeRoom = now
	}
	w.mu.Unlock()
	if again {
		w.collect()
	}
}

// serve gives a file over a stream that the other device opened.
func (w *fileWork) serve(c *connection, s *link.Stream) {
	if err := c.asks.Wait(c.ctx); err != nil {
		_ = s.Close()
		return
	}
	r := c.conn.Remote()
	var group peercrypto.ID
	allow := func(ref files.Ref) bool { return w.peer.mayRead(c.ctx, r.UserID, ref, &group) }
	if err := w.server.Serve(c.ctx, string(r.DeviceID), allow, s); err != nil && c.ctx.Err() == nil {
		w.peer.log.Debug("giving a file ended", "device", r.DeviceID.Short(), "reason", err)
	}
}

// damaged fetches a file anew of which a chunk on disk is not what it was.
func (w *fileWork) damaged(d *files.DamagedError) {
	info, ok := w.store.Stat(d.ID)
	if !ok || !info.Complete {
		return
	}
	w.peer.log.Error("a file is damaged on disk and is fetched anew", "file", d.ID.Short(), "chunk", d.Chunk)
	for _, group := range w.peer.engine.Joined() {
		if doc, _, err := w.peer.fileDocOf(w.peer.ctx, group, d.ID); err == nil && doc.ref() == info.Ref {
			_, _ = w.repair(d, info.Ref, group)
			return
		}
	}
	_, _ = w.repair(d, info.Ref, "")
}

// repair gives a damaged copy up and begins to fetch what it lacks.
func (w *fileWork) repair(d *files.DamagedError, ref files.Ref, group peercrypto.ID) (*fileJob, error) {
	if err := w.store.Demote(d, fileWant{Group: group}.encode()); err != nil {
		return nil, err
	}
	return w.begin(ref, group)
}

// info describes a file of a group.
func (w *fileWork) info(group peercrypto.ID, d fileDoc, modified time.Time) FileInfo {
	return w.state(FileInfo{
		Ref: d.ref(), Group: group, Document: d.ID, Modified: modified,
		FileMeta: FileMeta{Name: d.Name, Type: d.FileType, Users: d.ShareUsers, Public: d.IsPublic},
	})
}

// state adds what this device has of a file.
func (w *fileWork) state(info FileInfo) FileInfo {
	if held, ok := w.store.Stat(info.ID); ok && (held.Complete || held.Ref == info.Ref) {
		info.Complete, info.Have, info.Pinned = held.Complete, held.Have, held.Pinned
	}
	w.mu.Lock()
	job := w.jobs[info.Ref]
	info.Err = w.failed[info.Ref]
	w.mu.Unlock()
	if job != nil {
		info.Fetching, info.Sources = true, job.sources()
	}
	return info
}

// fileWant is kept with a partial file, so that its fetch goes on.
type fileWant struct {
	Group peercrypto.ID `json:"group"`
}

func (f fileWant) encode() []byte {
	b, _ := json.Marshal(f) // always has a form
	return b
}

// fetch begins or joins a fetch and waits for its end.
func (w *fileWork) fetch(ctx context.Context, ref files.Ref, group peercrypto.ID, progress func(FileInfo)) error {
	if info, ok := w.store.Stat(ref.ID); !ok || !info.Complete && info.Ref != ref {
		w.makeRoom(ref.Size)
	}
	job, err := w.begin(ref, group)
	if errors.Is(err, files.ErrComplete) {
		return w.giveIn(group, ref)
	}
	if err == nil {
		err = w.giveIn(group, ref)
	}
	if err != nil {
		return err
	}
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		if progress != nil {
			progress(w.state(FileInfo{Ref: ref, Group: group}))
		}
		select {
		case <-job.done:
			return job.err
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-w.peer.ctx.Done():
			return ErrClosed
		}
	}
}

// giveIn notes that this user has a file for a group: devices of its members may
// have it from here. One that is not on this device is noted when it is fetched.
func (w *fileWork) giveIn(group peercrypto.ID, ref files.Ref) error {
	if group == "" {
		return nil
	}
	if err := w.store.Mark(ref, string(group)); !errors.Is(err, files.ErrNotFound) {
		return err
	}
	return nil
}

// begin makes a job, or returns the one that there is.
func (w *fileWork) begin(ref files.Ref, group peercrypto.ID) (*fileJob, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if job := w.jobs[ref]; job != nil {
		job.hurry()
		return job, nil
	}
	partial, err := w.store.Begin(ref, fileWant{Group: group}.encode())
	if err != nil {
		return nil, err
	}
	job := newFileJob(w, partial, group)
	delete(w.failed, ref)
	w.jobs[ref] = job
	w.queue = append(w.queue, job)
	w.nextLocked()
	return job, nil
}

// nextLocked starts jobs whose turn it is.
func (w *fileWork) nextLocked() {
	for w.running < w.limits.MaxFetches && len(w.queue) > 0 {
		job := w.queue[0]
		w.queue = w.queue[1:]
		w.running++
		if !w.peer.goRun(func() { w.run(job) }) {
			w.running--
			w.endLocked(job, ErrClosed)
		}
	}
}

// run runs a job and then lets the next one in.
func (w *fileWork) run(job *fileJob) {
	err := job.run()
	w.mu.Lock()
	w.running--
	w.endLocked(job, err)
	w.nextLocked()
	w.mu.Unlock()
	if err != nil && w.peer.ctx.Err() == nil {
		w.peer.log.Warn("fetching a file failed", "file", job.ref.ID.Short(), "error", err)
	}
	w.peer.hub.publish(FileProgress{File: w.state(FileInfo{Ref: job.ref, Group: job.group})})
}

// endLocked takes a job off the table, once.
func (w *fileWork) endLocked(job *fileJob, err error) {
	if w.jobs[job.ref] != job {
		return
	}
	_ = job.partial.Close()
	delete(w.jobs, job.ref)
	if err != nil {
		w.failed[job.ref] = err
	}
	job.err = err
	close(job.done)
}

// forget ends the jobs of a file and removes it.
func (w *fileWork) forget(id files.ID) error {
	w.mu.Lock()
	var ending []*fileJob
	for ref, job := range w.jobs {
		if ref.ID == id {
			ending = append(ending, job)
			job.cancel(errForgotten)
		}
	}
	for i := 0; i < len(w.queue); {
		if job := w.queue[i]; job.ref.ID == id {
			w.queue = append(w.queue[:i], w.queue[i+1:]...)
			w.endLocked(job, errForgotten)
			continue
		}
		i++
	}
	w.mu.Unlock()
	for _, job := range ending {
		<-job.done
	}
	w.mu.Lock()
	for ref := range w.failed {
		if ref.ID == id {
			delete(w.failed, ref)
		}
	}
	w.mu.Unlock()
	return w.store.Forget(id)
}

var errForgotten = fmt.Errorf("fetching was ended: %w", context.Canceled)
