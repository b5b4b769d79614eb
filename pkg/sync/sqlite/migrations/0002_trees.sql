-- Schema 2. See docs/storage.md. Never edit a released migration: add a file.
-- Trees are built from the entries after this (migrate_trees.go), which then drops entries_range.

CREATE TABLE tree (
  nid  INTEGER PRIMARY KEY,
  node BLOB NOT NULL
) STRICT;
ALTER TABLE groups ADD COLUMN operations_tree INTEGER NOT NULL DEFAULT 0;
ALTER TABLE groups ADD COLUMN data_tree       INTEGER NOT NULL DEFAULT 0;

-- When a document ends by its ttl, in unix milliseconds.
ALTER TABLE documents ADD COLUMN expires INTEGER;
UPDATE documents SET expires = cast(json_extract(json, '$.ttl') AS INTEGER)
  WHERE CASE WHEN json_valid(json) THEN json_type(json, '$.ttl') IN ('integer', 'real') AND json_extract(json, '$.ttl') BETWEEN 1 AND 9007199254740991 END;
CREATE INDEX documents_expires  ON documents (expires, did) WHERE expires IS NOT NULL;
CREATE INDEX documents_modified ON documents (gid, modified, subject);

-- Indexes of fields that the owner of the store asked for, each made as documents_custom_<xid>.
CREATE TABLE custom_indexes (
  xid    INTEGER PRIMARY KEY,
  name   TEXT NOT NULL UNIQUE,
  type   TEXT NOT NULL,
  fields TEXT NOT NULL
) STRICT;
