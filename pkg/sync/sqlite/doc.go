// Package sqlite is the durable groupsync.Store: one SQLite file that any SQLite
// tool can open. docs/storage.md is its manual: files, schema, durability,
// locks, and queries to look into it.
//
// # How it works
//
// One connection writes; [Store.Update] hands it from transaction to
// transaction. Others read, each on the snapshot of its [Store.View]; the
// write-ahead log lets both go on at once. What a committed transaction knew of
// counters, groups and trees is remembered for the next one; a rollback
// forgets it, so there is nothing to undo in memory.
//
// No callback runs while a statement is open: results are read in pages of
// bounded size first. So callbacks may use the same Reader or Tx, and write.
//
// An error of SQLite inside of a transaction breaks it: SQLite may have rolled
// it back already, and what followed would be outside of any. Every later call
// of that transaction then returns the first error, and so does Update.
//
// A View holds its snapshot, and the log can't be cut off before it: long ones
// make the log grow. Views must not wait for Views inside of them, nor Updates
// for Updates.
package sqlite
