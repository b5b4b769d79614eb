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
	schemaVersion = 1
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrations returns the texts in order; the first makes schema 1 out of nothing.
func migrations() ([]string, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, fmt.Errorf("listing migrations: %w", err)
	}
	var texts []string
	for _, name := range names {
		b, err := migrationFiles.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading migration %s: %w", name, err)
		}
		texts = append(texts, string(b))
	}
	return texts, nil
}

// migrate brings the schema from its version to the last of texts, each step in
// a transaction of its own: a step that fails leaves the version before it.
func migrate(s *session, texts []string) error {
	var version int
	if _, err := s.one("PRAGMA user_version", nil, &version); err != nil {
		return fmt.Errorf("reading the schema's version: %w", err)
	}
	if version > len(texts) {
		return fmt.Errorf("schema %d, this release knows %d: %w", version, len(texts), ErrNewerSchema)
	}
	for ; version < len(texts); version++ {
		// The file's ids are part of the transaction like any table.
		step := fmt.Sprintf("BEGIN IMMEDIATE;\n%s\nPRAGMA application_id = %d;\nPRAGMA user_version = %d;\nCOMMIT;",
			texts[version], applicationID, version+1)
		if err := s.run(step); err != nil {
			_ = s.run("ROLLBACK") // fails if SQLite did it already
			return fmt.Errorf("migrating to schema %d: %w", version+1, err)
		}
	}
	return nil
}
