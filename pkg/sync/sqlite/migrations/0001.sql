-- Schema 1. See docs/storage.md. Never edit a released migration: add a file.

-- Numbers that rise for ever: position (of entries), version (of documents).
CREATE TABLE counters (
  name  TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT;
INSERT INTO counters (name, value) VALUES ('position', 0), ('version', 0);

-- One row a group, also of groups of which only entries or documents are stored
-- (known = 0). The counts and sums describe the shared entries of either kind.
CREATE TABLE groups (
  gid            INTEGER PRIMARY KEY,
  id             TEXT    NOT NULL UNIQUE,
  known          INTEGER NOT NULL DEFAULT 0,
  joined         INTEGER NOT NULL DEFAULT 0,
  gone           INTEGER NOT NULL DEFAULT 0,
  meta           BLOB,
  operations     INTEGER NOT NULL DEFAULT 0,
  operations_sum BLOB    NOT NULL DEFAULT (zeroblob(32)),
  data           INTEGER NOT NULL DEFAULT 0,
  data_sum       BLOB    NOT NULL DEFAULT (zeroblob(32)),
  documents      INTEGER NOT NULL DEFAULT 0,
  tombstones     INTEGER NOT NULL DEFAULT 0
) STRICT;

-- A chain is what one device wrote under one grant; kind 1 is operations, 2 data.
CREATE TABLE chains (
  cid        INTEGER PRIMARY KEY,
  grant_hash BLOB    NOT NULL,
  device     TEXT    NOT NULL,
  kind       INTEGER NOT NULL,
  UNIQUE (grant_hash, device, kind)
) STRICT;

-- Every entry that was ever accepted, with its signed bytes. life is drawn anew
-- whenever the store is opened, and origin counts only in the same life.
CREATE TABLE entries (
  eid      INTEGER PRIMARY KEY,
  hash     BLOB    NOT NULL UNIQUE,
  gid      INTEGER NOT NULL,
  kind     INTEGER NOT NULL,
  modified INTEGER NOT NULL,
  subject  TEXT    NOT NULL,
  cid      INTEGER NOT NULL,
  seq      INTEGER NOT NULL,
  prev     BLOB,
  valid    INTEGER NOT NULL,
  shared   INTEGER NOT NULL,
  position INTEGER NOT NULL,
  origin   INTEGER NOT NULL,
  life     INTEGER NOT NULL,
  raw      BLOB    NOT NULL
) STRICT;
CREATE INDEX entries_range      ON entries (gid, kind, modified, hash) WHERE shared = 1;
CREATE INDEX entries_position   ON entries (gid, position)             WHERE shared = 1;
CREATE INDEX entries_operations ON entries (gid, modified, hash)       WHERE kind = 1;
CREATE INDEX entries_subject    ON entries (gid, subject, modified)    WHERE kind = 2 AND valid = 1;
CREATE INDEX entries_chain      ON entries (cid, seq);

CREATE TABLE documents (
  did           INTEGER PRIMARY KEY,
  gid           INTEGER NOT NULL,
  subject       TEXT    NOT NULL,
  type          TEXT    NOT NULL,
  modified      INTEGER NOT NULL,
  deleted       INTEGER NOT NULL,
  json          TEXT,
  last_modified INTEGER NOT NULL,
  last_hash     BLOB    NOT NULL,
  version       INTEGER NOT NULL,
  UNIQUE (gid, subject)
) STRICT;
CREATE INDEX documents_version ON documents (gid, version);
CREATE INDEX documents_type    ON documents (gid, type, subject);

-- Entries that can't be judged yet, what each waits for, and how much is held of
-- whom. Groups are named by id: strangers' groups get no row in groups.
CREATE TABLE quarantine (
  qid      INTEGER PRIMARY KEY,
  key      BLOB    NOT NULL UNIQUE,
  grp      TEXT    NOT NULL,
  sender   TEXT    NOT NULL,
  received INTEGER NOT NULL,
  hash     BLOB    NOT NULL,
  raw      BLOB    NOT NULL
) STRICT;
CREATE INDEX quarantine_age    ON quarantine (received, key);
CREATE INDEX quarantine_group  ON quarantine (grp, received, key);
CREATE INDEX quarantine_sender ON quarantine (grp, sender, received, key);

CREATE TABLE quarantine_waits (
  qid  INTEGER NOT NULL,
  grp  TEXT    NOT NULL,
  kind TEXT    NOT NULL,
  ref  TEXT    NOT NULL,
  UNIQUE (qid, kind, ref)
) STRICT;
CREATE INDEX quarantine_waits_for ON quarantine_waits (grp, kind, ref);
CREATE INDEX quarantine_waits_due ON quarantine_waits (ref) WHERE kind = 'time';

CREATE TABLE quarantine_usage (
  grp    TEXT    NOT NULL,
  sender TEXT    NOT NULL,
  items  INTEGER NOT NULL,
  bytes  INTEGER NOT NULL,
  UNIQUE (grp, sender)
) STRICT;

-- Small named values of the program that owns the store.
CREATE TABLE settings (
  bucket TEXT NOT NULL,
  key    TEXT NOT NULL,
  value  BLOB NOT NULL,
  UNIQUE (bucket, key)
) STRICT;
