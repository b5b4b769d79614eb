package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// maxBatch is how many events are written at once, at most.
const maxBatch = 256

// Log is an open audit log.
type Log struct {
	cfg     Config
	metrics *metrics
	events  chan Event
	lost    atomic.Uint64 // since the last line that told of it

	// head is the newest line on disk, for Head.
	head atomic.Pointer[place]
	size atomic.Int64

	runOnce sync.Once

	// The rest is Run's; Open and Close use it before and instead of Run.
	file    *file
	broken  bool // writing fails, which has been logged
	stuck   bool // beginning the next file fails, which has been logged
	pending time.Time
}

// Open opens the log and writes the line of a start, so that a log that cannot
// be written shows at the start. The caller must call Run or Close.
func Open(cfg Config) (*Log, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	l := &Log{cfg: cfg, events: make(chan Event, cfg.Queue)}
	var cutOff recovered
	if l.file, cutOff, err = openFile(cfg.Path, cfg.MaxBytes, cfg.Keep); err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	l.note()
	if l.metrics, err = newMetrics(l); err != nil {
		_ = l.file.close()
		return nil, err
	}
	if err := l.begin(cutOff); err != nil {
		_ = l.file.close()
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	return l, nil
}

func (l *Log) begin(cutOff recovered) error {
	if l.file.full() {
		if err := l.file.rotate(); err != nil {
			return err
		}
	}
	events := []Event{{Time: l.cfg.Now(), Kind: KindStarted, Detail: l.cfg.Detail}}
	if cutOff.bytes > 0 {
		text := fmt.Sprintf("%d bytes of %d damaged lines were cut off at the end", cutOff.bytes, cutOff.lines)
		l.cfg.Logger.Warn("the audit log ended in the middle of a line, which was cut off", "bytes", cutOff.bytes, "lines", cutOff.lines)
		events = append([]Event{{Time: l.cfg.Now(), Kind: KindRecovered, Detail: text}}, events...)
	}
	if err := l.write(events); err != nil {
		return err
	}
	return l.file.sync()
}

// Record queues an event. It never blocks: an event that finds the queue full
// is lost, which is counted and told in the log.
func (l *Log) Record(e Event) {
	select {
	case l.events <- e:
	default:
		l.lose(lostQueueFull, 1)
	}
}

func (l *Log) lose(reason string, n int) {
	l.lost.Add(uint64(n))
	l.metrics.lost.WithLabelValues(reason).Add(float64(n))
}

// Head is the number and the hash of the newest line: what is worth to be kept
// elsewhere.
func (l *Log) Head() (seq uint64, hash string) {
	p := l.head.Load()
	return p.seq, p.hash
}

// Run writes until ctx ends, then what is still queued and the line of a stop,
// and closes the file. It can be called once, instead of Close.
func (l *Log) Run(ctx context.Context) error {
	err := errors.New("running the audit log: it is closed")
	l.runOnce.Do(func() { err = l.run(ctx) })
	return err
}

// Close closes a log that Run was not called for.
func (l *Log) Close() error {
	var err error
	l.runOnce.Do(func() { err = l.file.close() })
	return err
}

func (l *Log) run(ctx context.Context) error {
	timer := time.NewTimer(syncEvery)
	timer.Stop()
	for {
		select {
		case e := <-l.events:
			l.store(l.batch(e))
			if l.file.unsynced && l.pending.IsZero() {
				l.pending = time.Now()
				timer.Reset(syncEvery)
			}
		case <-timer.C:
			l.pending = time.Time{}
			l.sync()
		case <-ctx.Done():
			timer.Stop()
			return l.finish()
		}
	}
}

// finish writes what is queued, and the line of a stop.
func (l *Log) finish() error {
	for {
		select {
		case e := <-l.events:
			l.store(l.batch(e))
			continue
		default:
		}
		break
	}
	l.store([]Event{{Time: l.cfg.Now(), Kind: KindStopped}})
	if err := l.file.close(); err != nil {
		return fmt.Errorf("closing the audit log: %w", err)
	}
	return nil
}

// batch adds to an event those that are queued.
func (l *Log) batch(first Event) []Event {
	events := []Event{first}
	for len(events) < maxBatch {
		select {
		case e := <-l.events:
			events = append(events, e)
		default:
			return events
		}
	}
	return events
}

// store writes events; those that cannot be written are lost.
func (l *Log) store(events []Event) {
	if err := l.write(events); err != nil {
		l.lose(lostWriteError, len(events))
		if !l.broken {
			l.cfg.Logger.Error("the audit log cannot be written; events are lost until it can", "error", err)
		}
		l.broken = true
		return
	}
	if l.broken {
		l.cfg.Logger.Info("the audit log is written again")
	}
	l.broken = false
	if l.file.full() {
		l.rotate()
	}
}

// rotate begins the next file, or goes on with the full one.
func (l *Log) rotate() {
	err := l.file.rotate()
	if err != nil {
		l.metrics.failures.Inc()
		if !l.stuck {
			l.cfg.Logger.Error("the audit log cannot begin its next file; it goes on with the full one", "error", err)
		}
	}
	l.stuck = err != nil
	l.note()
}

// write appends events, and before them how many were lost.
func (l *Log) write(events []Event) error {
	at := l.file.at
	var lines []byte
	lost := l.lost.Load()
	if lost > 0 {
		lines, at = appendLine(lines, at, Event{
			Time: l.cfg.Now(), Kind: KindLost, Detail: fmt.Sprintf("%d events were lost before this line", lost),
		})
	}
	for _, e := range events {
		lines, at = appendLine(lines, at, e)
	}
	if err := l.file.append(lines, at); err != nil {
		l.metrics.failures.Inc()
		return err
	}
	l.lost.Add(-lost)
	for _, e := range events {
		l.metrics.written(e.Kind)
	}
	l.note()
	return nil
}

func (l *Log) sync() {
	if err := l.file.sync(); err != nil {
		l.metrics.failures.Inc()
		l.cfg.Logger.Error("the audit log cannot be put on disk", "error", err)
	}
}

// note publishes what other goroutines ask for.
func (l *Log) note() {
	at := l.file.at
	l.head.Store(&at)
	l.size.Store(l.file.size)
}
