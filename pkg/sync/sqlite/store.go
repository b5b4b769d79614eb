package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// A Store is a groupsync.Store in one file. It is safe for concurrent use.
type Store struct {
	path string
	db   *sql.DB
	o    Options
	lock *fileLock
	life int64 // tells this opening of the file from others, most probably

	writer chan *session // holds the writing session while nobody uses it
	kept   *tx           // the last transaction, if it was committed; who has the writing session owns it
	folder folder
	slots  chan struct{} // one for each View that runs

	mu      sync.Mutex
	idle    []*session // reading sessions that nobody uses
	closed  bool
	running sync.WaitGroup // transactions; grows only under mu while !closed

	closing  sync.Once
	closeErr error
}

var _ groupsync.Store = (*Store)(nil)

func newStore(path string, db *sql.DB, o Options) *Store {
	return &Store{
		path: path, db: db, o: o, life: rand.Int64N(1 << 31),
		writer: make(chan *session, 1), slots: make(chan struct{}, o.Readers),
	}
}

// Common to all connections. SQLite's own foreign keys stay off: the engine
// decides what belongs together. Tables of the file must not call functions.
func (s *Store) pragmas() []string {
	return []string{
		fmt.Sprintf("busy_timeout = %d", s.o.BusyTimeout.Milliseconds()),
		"foreign_keys = OFF", "trusted_schema = OFF", "temp_store = MEMORY",
	}
}

// start opens the writing connection and migrates. It writes nothing else: what
// is in a store on a full disk can still be read.
func (s *Store) start() error {
	steps, err := migrations()
	if err != nil {
		return err
	}
	w, err := openSession(context.Background(), s.db, append(s.pragmas(),
		"journal_mode = WAL", "synchronous = FULL", "cache_size = -16384",
		fmt.Sprintf("wal_autocheckpoint = %d", maxUnfolded), "journal_size_limit = 67108864")...)
	if err != nil {
		return err
	}
	s.writer <- w
	if err := migrate(w, steps, s.o.Progress); err != nil {
		return err
	}
	if s.o.MaxBytes > 0 {
		var page int64
		if _, err := w.one("PRAGMA page_size", nil, &page); err != nil {
			return err
		}
		if err := w.run(fmt.Sprintf("PRAGMA max_page_count = %d", max(s.o.MaxBytes/page, 1))); err != nil {
			return err
		}
	}
	return nil
}

// Path returns the absolute path of the file.
func (s *Store) Path() string { return s.path }

// Update runs fn in one read-write transaction; see groupsync.Store. It is on
// the disk when Update returns nil. fn must not call Update.
func (s *Store) Update(ctx context.Context, fn func(tx groupsync.Tx) error) error {
	if err := s.begin(); err != nil {
		return fmt.Errorf("updating the store: %w", err)
	}
	defer s.running.Done()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("updating the store: %w", err)
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("updating the store: %w", ctx.Err())
	case w := <-s.writer:
		defer func() { s.writer <- w }()
		return s.update(ctx, w, fn)
	}
}

func (s *Store) update(ctx context.Context, w *session, fn func(tx groupsync.Tx) error) (err error) {
	if _, err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("updating the store: %w", err)
	}
	t := s.newTx(w)
	committed := false
	defer func() { // also when fn panics
		t.ended.Store(true)
		if !committed {
			_, _ = w.exec("ROLLBACK") // fails if SQLite did it already
		}
	}()
	if err := fn(t); err != nil {
		return err
	}
	if err := errors.Join(t.broken, ctx.Err()); err != nil {
		return fmt.Errorf("updating the store: %w", err)
	}
	if err := t.flush(); err != nil {
		return fmt.Errorf("updating the store: %w", err)
	}
	if _, err := w.exec("COMMIT"); err != nil {
		return fmt.Errorf("committing to the store: %w", err)
	}
	committed = true
	s.kept = t
	s.wrote(t.bytes)
	return nil
}

// What a transaction remembers for the next one; with more it would only be memory.
const (
	keepNodes  = 128
	keepGroups = 64
	keepChains = 1024
)

// newTx begins with what the transaction before knew, which saves a handful of reads for each small one. A transaction that is not
// committed leaves nothing.
func (s *Store) newTx(w *session) *tx {
	t, old := &tx{reader: newReader(w, s.life)}, s.kept
	s.kept = nil
	if old == nil {
		return t
	}
	t.position, t.version, t.recent, t.lastNode = old.position, old.version, old.recent, old.lastNode
	if len(old.groups) <= keepGroups {
		t.groups, t.names = old.groups, old.names
	}
	if len(old.nodes) <= keepNodes {
		t.nodes = old.nodes
	}
	if len(old.chains) <= keepChains {
		t.chains = old.chains
	}
	return t
}

// View runs fn on one snapshot; see groupsync.Store. It waits only when
// Options.Readers others run.
func (s *Store) View(ctx context.Context, fn func(r groupsync.Reader) error) error {
	if err := s.begin(); err != nil {
		return fmt.Errorf("reading the store: %w", err)
	}
	defer s.running.Done()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("reading the store: %w", err)
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("reading the store: %w", ctx.Err())
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	}
	c, err := s.reading()
	if err != nil {
		return fmt.Errorf("reading the store: %w", err)
	}
	defer s.done(c)
	return s.view(c, fn)
}

func (s *Store) view(c *session, fn func(r groupsync.Reader) error) error {
	if _, err := c.exec("BEGIN"); err != nil {
		return fmt.Errorf("reading the store: %w", err)
	}
	defer func() { _, _ = c.exec("ROLLBACK") }() // nothing was written
	r := newReader(c, s.life)
	defer r.ended.Store(true)
	// The first statement takes the snapshot: let it be this moment's.
	var one int
	if _, err := c.one("SELECT 1 FROM counters", nil, &one); err != nil {
		return fmt.Errorf("reading the store: %w", err)
	}
	return fn(r)
}

// reading returns an idle session or a new one; there are as many as slots.
func (s *Store) reading() (*session, error) {
	s.mu.Lock()
	if n := len(s.idle); n > 0 {
		c := s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		return c, nil
	}
	s.mu.Unlock()
	return openSession(context.Background(), s.db, append(s.pragmas(), "query_only = ON", "cache_size = -8192")...)
}

func (s *Store) done(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, c)
}

func (s *Store) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return groupsync.ErrStoreClosed
	}
	s.running.Add(1)
	return nil
}

// Close waits for running transactions, folds the log into the file and lets
// other processes in. It is idempotent; later transactions fail with
// groupsync.ErrStoreClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.running.Wait()
	s.closing.Do(func() {
		if s.closeErr = errors.Join(s.closeFiles(), s.lock.unlock()); s.closeErr != nil {
			s.closeErr = fmt.Errorf("closing the store %s: %w", s.path, s.closeErr)
		}
	})
	return s.closeErr
}

// closeFiles needs that no transaction runs.
func (s *Store) closeFiles() error {
	var errs []error
	for _, c := range s.idle {
		errs = append(errs, c.close())
	}
	if s.folder.session != nil {
		errs = append(errs, s.folder.session.close())
	}
	select {
	case w := <-s.writer: // last: the last connection folds the log in
		errs = append(errs, w.close())
	default: // it was never opened
	}
	return errors.Join(append(errs, s.db.Close())...)
}
