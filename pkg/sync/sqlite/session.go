package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// A session is one connection with its prepared statements. One goroutine uses
// it at a time.
type session struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt // at most maxStatements
}

// maxStatements is how many are kept: more than this package's own texts, but queries of documents make others.
const maxStatements = 256

// openSession takes a connection of the pool for good and sets it up.
func openSession(ctx context.Context, db *sql.DB, pragmas ...string) (*session, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, classify(err)
	}
	s := &session{conn: conn, stmts: map[string]*sql.Stmt{}}
	for _, p := range pragmas {
		if err := s.run("PRAGMA " + p); err != nil {
			return nil, errors.Join(fmt.Errorf("setting %s: %w", p, err), s.close())
		}
	}
	return s, nil
}

// close ends the connection, not just its loan.
func (s *session) close() error {
	var errs []error
	for _, stmt := range s.stmts {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, s.conn.Close())...)
}

func (s *session) prepare(text string) (*sql.Stmt, error) {
	if stmt := s.stmts[text]; stmt != nil {
		return stmt, nil
	}
	if len(s.stmts) >= maxStatements {
		for _, stmt := range s.stmts {
			_ = stmt.Close()
		}
		clear(s.stmts)
	}
	// Background: statements outlive the call, and a context that can end
	// costs a goroutine for each execution. Transactions look at theirs.
	stmt, err := s.conn.PrepareContext(context.Background(), text)
	if err != nil {
		return nil, classify(err)
	}
	s.stmts[text] = stmt
	return stmt, nil
}

// run executes a text that is used too rarely to keep.
func (s *session) run(text string) error {
	if _, err := s.conn.ExecContext(context.Background(), text); err != nil {
		return classify(err)
	}
	return nil
}

func (s *session) exec(text string, args ...any) (sql.Result, error) {
	stmt, err := s.prepare(text)
	if err != nil {
		return nil, err
	}
	result, err := stmt.ExecContext(context.Background(), args...)
	if err != nil {
		return nil, classify(err)
	}
	return result, nil
}

// each calls scan for each row, until it returns false or an error. scan must
// not use the session.
func (s *session) each(text string, args []any, scan func(*sql.Rows) (bool, error)) error {
	stmt, err := s.prepare(text)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(context.Background(), args...)
	if err != nil {
		return classify(err)
	}
	more := true
	for more && err == nil && rows.Next() {
		more, err = scan(rows)
	}
	if err := errors.Join(err, rows.Err(), rows.Close()); err != nil {
		return classify(err)
	}
	return nil
}

// one reads the first row into dest; it reports false if there is none.
func (s *session) one(text string, args []any, dest ...any) (bool, error) {
	found := false
	err := s.each(text, args, func(rows *sql.Rows) (bool, error) {
		found = true
		return false, rows.Scan(dest...)
	})
	return found, err
}
