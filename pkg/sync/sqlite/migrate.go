package sqlite

import (
	"embed"
	"fmt"
	"io/fs"
)

const (
	// applicationID is "psig", at byte 68 of the file.
	applicationID = 0x70736967
	// schemaVersion is the number of migrations.
	schemaVersion = 3
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// A migration is a text, and what SQL can't do after it.
type migration struct {
	text string
	then func(s *session, progress func(done, total int64)) error // may be nil
}

// migrations returns all in order; the first makes schema 1 out of nothing.
func migrations() ([]migration, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, fmt.Errorf("listing migrations: %w", err)
	}
	var out []migration
	for _, name := range names {
		b, err := migrationFiles.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading migration %s: %w", name, err)
		}
		out = append(out, migration{text: string(b)})
	}
	out[1].then = buildTrees
	return out, nil
}

// migrate brings the schema from its version to the last of steps, each in a transaction of its own: a step that fails
// leaves the version before it.
func migrate(s *session, steps []migration, progress func(done, total int64)) error {
	var version int
	if _, err := s.one("PRAGMA user_version", nil, &version); err != nil {
		return fmt.Errorf("reading the schema's version: %w", err)
	}
	if version > len(steps) {
		return fmt.Errorf("schema %d, this release knows %d: %w", version, len(steps), ErrNewerSchema)
	}
	for ; version < len(steps); version++ {
		if err := step(s, steps[version], version+1, progress); err != nil {
			_ = s.run("ROLLBACK") // fails if SQLite did it already
			return fmt.Errorf("migrating to schema %d: %w", version+1, err)
		}
	}
	return nil
}

func step(s *session, m migration, version int, progress func(done, total int64)) error {
	if err := s.run("BEGIN IMMEDIATE;\n" + m.text); err != nil {
		return err
	}
	if m.then != nil {
		if err := m.then(s, progress); err != nil {
			return err
		}
	}
	// The file's ids are part of the transaction like any table.
	return s.run(fmt.Sprintf("PRAGMA application_id = %d;\nPRAGMA user_version = %d;\nCOMMIT;", applicationID, version))
}
