package sqlite

import (
	"context"
	"sync/atomic"
)

// The log is folded into the file beside the writer: a commit that had to do it took more than ten times as long as others.
const (
	// foldAfter is about how many pages are in the log when that begins.
	foldAfter = 2000
	// maxUnfolded is how many are in it when the writer does it after all, because it is faster or readers held the log.
	maxUnfolded = 8_000
	// A commit writes about pagesOfCommit pages and one for each bytesOfPage bytes: indexes take their part of a page.
	pagesOfCommit = 16
	bytesOfPage   = 2000
)

// A folder is who folds the log: at most one goroutine at a time, which ends with its work.
type folder struct {
	pages   int         // in the log, about; who has the writing session owns it
	busy    atomic.Bool // who set it owns session
	session *session    // opened when first needed
}

// wrote counts what a transaction wrote, while it runs.
func (s *Store) wrote(bytes int) {
	s.folder.pages += pagesOfCommit + bytes/bytesOfPage
	if s.folder.pages < foldAfter || !s.folder.busy.CompareAndSwap(false, true) {
		return
	}
	s.folder.pages = 0
	s.running.Go(func() { // the transaction that calls is counted, so Close is still waiting
		defer s.folder.busy.Store(false)
		// Without it the log grows until the writer does it: what hinders both is told by transactions.
		_ = s.fold()
	})
}

// fold brings what is in the log into the file, as far as no reader needs the old pages.
func (s *Store) fold() (err error) {
	if s.folder.session == nil {
		if s.folder.session, err = openSession(context.Background(), s.db, append(s.pragmas(), "synchronous = FULL", "cache_size = -256")...); err != nil {
			return err
		}
	}
	return s.folder.session.run("PRAGMA wal_checkpoint(PASSIVE)")
}
