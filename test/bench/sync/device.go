package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

const patience = 20 * time.Minute

// device is one peer with its store.
type device struct {
	name, dir string
	me        *peercrypto.Identity
	store     *sqlite.Store
	p         *peer.Peer
	group     peercrypto.ID
	marks     chan float64 // delays of edits that came
	watching  context.CancelFunc
	recorded  *os.File
}

func (d *device) handle(req request) (r reply, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch req.Op {
	case "open":
		r.Times, err = d.open(req.Server)
	case "close":
		err = d.close()
	case "invite":
		r.Text, err = d.invite(ctx)
	case "join":
		err = d.join(ctx, req.Text)
	case "fill":
		r.Text, err = d.fill(ctx, req.N)
	case "record":
		err = d.record(req.N > 0)
	case "take":
		r.Times, err = d.take(ctx, req.N)
	case "put":
		r.Times, err = d.put(ctx, req.N)
	case "watch":
		err = d.watch(ctx)
	case "marks":
		r.Times, err = d.seen(ctx, req.N)
	case "bare":
		r.Times, err = bareCommits(filepath.Join(d.dir, "bare.db"), req.N)
	default:
		err = fmt.Errorf("unknown request %q", req.Op)
	}
	return r, err
}

// open returns how long opening the store and the peer took.
func (d *device) open(server string) ([]float64, error) {
	if d.me == nil {
		me, _, err := peercrypto.NewIdentity(time.Now())
		if err != nil {
			return nil, err
		}
		d.me = &me
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, err
	}
	begin := time.Now()
	var err error
	if d.store, err = sqlite.Open(filepath.Join(d.dir, "peers.db"), sqlite.Options{}); err != nil {
		return nil, err
	}
	d.p, err = peer.Open(context.Background(), peer.Config{
		Identity: *d.me, Store: d.store, Server: server, Auto: true, AllowLoopback: true, DialDelay: 300 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	return []float64{time.Since(begin).Seconds()}, err
}

func (d *device) close() error {
	if d.watching != nil {
		d.watching()
		d.watching = nil
	}
	var errs []error
	if d.p != nil {
		errs = append(errs, d.p.Close())
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	d.p, d.store = nil, nil
	return errors.Join(errs...)
}

func (d *device) invite(ctx context.Context) (string, error) {
	g, err := d.p.CreateGroup(ctx, "bench")
	if err != nil {
		return "", err
	}
	d.group = g.ID
	inv, err := d.p.Invite(ctx, g.ID, groupsync.InviteOptions{})
	return inv.Link(), err
}

func (d *device) join(ctx context.Context, link string) error {
	inv, err := entry.ParseInvitation(link)
	if err != nil {
		return err
	}
	d.group = inv.Group
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := d.p.Events(ctx)
	if err := d.p.Join(ctx, inv); err != nil {
		return err
	}
	for ev := range events {
		if _, ok := ev.(peer.Synced); ok {
			return nil
		}
	}
	return fmt.Errorf("joining: %w", ctx.Err())
}

// text fills a document so that its change has about 600 bytes with everything. Its letters are random: real texts can be compressed better.
func text() string {
	b := make([]byte, 79)
	for i := range b {
		b[i] = " etaoinshrdlucmfwypvbgkjqxz"[rand.IntN(27)]
	}
	return string(b)
}

// fill writes n documents and returns how many bytes changes have on average.
func (d *device) fill(ctx context.Context, n int) (string, error) {
	for done := 0; done < n; {
		docs := make([]json.RawMessage, min(n-done, groupsync.MaxPutMany))
		for i := range docs {
			docs[i] = fmt.Appendf(nil, `{"type":"Note","number":%d,"text":%q}`, done+i, text())
		}
		results, err := d.p.PutMany(ctx, d.group, docs)
		if err != nil {
			return "", err
		}
		for _, r := range results {
			if r.Err != nil {
				return "", r.Err
			}
		}
		done += len(docs)
	}
	size := 0
	err := d.store.View(ctx, func(r groupsync.Reader) error {
		count := 0
		err := r.Shared(groupsync.Scope{Group: d.group, Kind: entry.Data}, groupsync.Ref{}, groupsync.Ref{Modified: entry.MaxModified},
			func(rec groupsync.Record) (bool, error) {
				size += len(rec.Raw)
				count++
				return count < 1_000, nil
			})
		size /= max(count, 1)
		return err
	})
	return fmt.Sprint(size), err
}

// record begins or ends a CPU profile.
func (d *device) record(begin bool) error {
	if !begin {
		pprof.StopCPUProfile()
		return d.recorded.Close()
	}
	var err error
	if d.recorded, err = os.Create(filepath.Join(*profile, d.name+".cpu")); err != nil {
		return err
	}
	return pprof.StartCPUProfile(d.recorded)
}

// take waits until n entries are here and returns how long that took after the connection stood.
func (d *device) take(ctx context.Context, n int) ([]float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var begin time.Time
	for ev := range d.p.Events(ctx) {
		switch ev.(type) {
		case peer.DeviceConnected:
			begin = time.Now()
		case peer.Synced:
			info, err := d.p.Group(ctx, d.group)
			if err != nil {
				return nil, err
			}
			if info.Entries >= int64(n) {
				return []float64{time.Since(begin).Seconds()}, nil
			}
		}
	}
	return nil, fmt.Errorf("waiting for entries: %w", ctx.Err())
}

// put writes n documents one by one, each with the time in it, and returns how long each took.
func (d *device) put(ctx context.Context, n int) ([]float64, error) {
	times := make([]float64, n)
	for i := range times {
		begin := time.Now()
		doc := fmt.Appendf(nil, `{"type":"Mark","at":%q,"text":%q}`, fmt.Sprint(begin.UnixNano()), text())
		if _, err := d.p.Put(ctx, d.group, doc); err != nil {
			return nil, err
		}
		times[i] = time.Since(begin).Seconds()
		time.Sleep(5 * time.Millisecond)
	}
	return times, nil
}

// watch notes how old edits are when they are told.
func (d *device) watch(ctx context.Context) error {
	last, err := d.p.LastVersion(ctx, d.group)
	if err != nil {
		return err
	}
	d.marks = make(chan float64, 10_000)
	ctx, d.watching = context.WithCancel(context.Background())
	go func() {
		_ = d.p.Watch(ctx, d.group, last, func(doc groupsync.Document) error {
			now := time.Now().UnixNano()
			var mark struct {
				Type string `json:"type"`
				At   int64  `json:"at,string"`
			}
			if json.Unmarshal(doc.JSON, &mark) == nil && mark.Type == "Mark" {
				d.marks <- float64(now-mark.At) / 1e9
			}
			return nil
		})
	}()
	return nil
}

func (d *device) seen(ctx context.Context, n int) ([]float64, error) {
	times := make([]float64, n)
	for i := range times {
		select {
		case times[i] = <-d.marks:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for edits: %w", ctx.Err())
		}
	}
	return times, nil
}
