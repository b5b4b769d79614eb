// Package keys is the history of a user's keys: events that replace the key,
// authorize devices and set the recovery key, and what a set of them says. It is
// the section "Keys of users" of docs/formats.md in code.
package keys
