-- Schema 3. See docs/storage.md. Never edit a released migration: add a file.
-- Entries are found by hash through two tables instead of a unique index: hashes have no order, so each batch rewrote most pages of it.

CREATE TABLE entries_3 (
  eid      INTEGER PRIMARY KEY,
  hash     BLOB    NOT NULL,
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
INSERT INTO entries_3 SELECT eid, hash, gid, kind, modified, subject, cid, seq, prev, valid, shared, position, origin, life, raw FROM entries ORDER BY eid;
DROP TABLE entries;
ALTER TABLE entries_3 RENAME TO entries;
CREATE INDEX entries_position   ON entries (gid, position)          WHERE shared = 1;
CREATE INDEX entries_operations ON entries (gid, modified, hash)    WHERE kind = 1;
CREATE INDEX entries_subject    ON entries (gid, subject, modified) WHERE kind = 2 AND valid = 1;
CREATE INDEX entries_chain      ON entries (cid, seq);

-- Each entry has one row in one of these: first in hashes_recent, which is small, and is moved into hashes with many others.
-- key is the beginning of the hash.
CREATE TABLE hashes_recent (
  key BLOB    NOT NULL,
  eid INTEGER NOT NULL,
  PRIMARY KEY (key, eid)
) STRICT, WITHOUT ROWID;
CREATE TABLE hashes (
  key BLOB    NOT NULL,
  eid INTEGER NOT NULL,
  PRIMARY KEY (key, eid)
) STRICT, WITHOUT ROWID;
INSERT INTO hashes SELECT substr(hash, 1, 8), eid FROM entries ORDER BY 1, 2;

-- How much data of a group is stored and not shared.
ALTER TABLE groups ADD COLUMN unshared INTEGER NOT NULL DEFAULT 0;
UPDATE groups SET unshared = n FROM (SELECT gid AS g, count(*) AS n FROM entries WHERE kind = 2 AND shared = 0 GROUP BY gid) WHERE g = groups.gid;
