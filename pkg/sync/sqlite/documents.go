package sqlite

import (
	"database/sql"
	"errors"
	"fmt"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

const documentColumns = "SELECT subject, type, modified, deleted, json, last_modified, last_hash, version FROM documents "

// scanDocument reads documentColumns and, into more, what the statement has behind them.
func scanDocument(rows *sql.Rows, group peercrypto.ID, more ...any) (groupsync.Document, error) {
	d := groupsync.Document{Group: group}
	var last sql.RawBytes
	err := rows.Scan(append([]any{(*string)(&d.Subject), &d.Type, &d.Modified, &d.Deleted, &d.JSON, &d.Last.Modified, &last, &d.Version}, more...)...)
	return d, errors.Join(err, setHash(&d.Last.Hash, last))
}

// Document reads one document or tombstone.
func (r *reader) Document(group, subject peercrypto.ID) (d groupsync.Document, found bool, err error) {
	g, err := r.group(group)
	if err == nil && g != nil {
		err = r.each(documentColumns+"WHERE gid = ? AND subject = ?", []any{g.gid, string(subject)}, func(rows *sql.Rows) (bool, error) {
			found = true
			d, err = scanDocument(rows, group)
			return false, err
		})
	}
	if err != nil {
		return groupsync.Document{}, false, fmt.Errorf("reading document %s: %w", subject.Short(), err)
	}
	return d, found, nil
}

// PutDocument stores a document and gives it a version.
func (t *tx) PutDocument(d groupsync.Document) (int64, error) {
	version, err := t.putDocument(d)
	if err != nil {
		return 0, fmt.Errorf("storing document %s: %w", d.Subject.Short(), err)
	}
	return version, nil
}

func (t *tx) putDocument(d groupsync.Document) (int64, error) {
	switch {
	case d.Group == "" || d.Subject == "":
		return 0, errors.New("it has no group or subject")
	case d.Deleted && (d.JSON != nil || d.Type != ""):
		return 0, errors.New("it is deleted and has content")
	case !d.Deleted && len(d.JSON) == 0:
		return 0, errors.New("it has no content and is not deleted")
	}
	g, err := t.ensureGroup(d.Group)
	if err != nil {
		return 0, err
	}
	if err := t.next(&t.version, "version"); err != nil {
		return 0, err
	}
	var text any // NULL when deleted
	if !d.Deleted {
		text = string(d.JSON)
	}
	values := []any{d.Type, d.Modified, d.Deleted, text, d.Last.Modified, d.Last.Hash[:], t.version.value, expires(d.JSON), g.gid, string(d.Subject)}
	result, err := t.exec(`INSERT INTO documents (type, modified, deleted, json, last_modified, last_hash, version, expires, gid, subject)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (gid, subject) DO NOTHING`, values...)
	if err != nil {
		return 0, err
	}
	if n, err := result.RowsAffected(); err != nil {
		return 0, err
	} else if n == 0 {
		var was groupsync.Document
		if _, err := t.one("SELECT deleted, last_modified FROM documents WHERE gid = ? AND subject = ?", values[8:], &was.Deleted, &was.Last.Modified); err != nil {
			return 0, err
		}
		g.countDocument(was, -1)
		if _, err := t.exec(`UPDATE documents SET type = ?, modified = ?, deleted = ?, json = ?, last_modified = ?, last_hash = ?,
			version = ?, expires = ? WHERE gid = ? AND subject = ?`, values...); err != nil {
			return 0, err
		}
	}
	g.countDocument(d, 1)
	return t.version.value, nil
}

func (g *groupRow) countDocument(d groupsync.Document, n int64) {
	g.changed = true
	switch {
	case !d.Deleted:
		g.live += n
	case d.Last.Modified != 0: // else it is none for who never had what became void
		g.deleted += n
	}
}

// DeleteDocument forgets a document or tombstone, if it is there.
func (t *tx) DeleteDocument(group, subject peercrypto.ID) error {
	d, found, err := t.Document(group, subject)
	if err != nil || !found {
		return err
	}
	g, err := t.group(group)
	if err == nil {
		_, err = t.exec("DELETE FROM documents WHERE gid = ? AND subject = ?", g.gid, string(subject))
	}
	if err != nil {
		return fmt.Errorf("forgetting document %s: %w", subject.Short(), err)
	}
	g.countDocument(d, -1)
	return nil
}

// expires is the column of that name.
func expires(document []byte) any {
	if ttl, ok := groupsync.TTL(document); ok {
		return ttl
	}
	return nil
}
