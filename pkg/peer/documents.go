package peer

import (
	"context"
	"encoding/json"
	"io"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// Put stores a document, a JSON object with a member "type" and, unless it is
// new, "id". The document becomes exactly this object; only differences are
// written, and nothing is when there are none. It is durable when Put returns.
func (p *Peer) Put(ctx context.Context, group peercrypto.ID, doc json.RawMessage) (groupsync.Document, error) {
	return p.engine.Put(ctx, group, doc)
}

// PutMany is Put for at most 1,000 documents in one transaction. A document
// that can't be stored has PutFailed as its result and does not affect others.
func (p *Peer) PutMany(ctx context.Context, group peercrypto.ID, docs []json.RawMessage) ([]groupsync.PutResult, error) {
	return p.engine.PutMany(ctx, group, docs)
}

// Get returns a document, or groupsync.ErrNotFound.
func (p *Peer) Get(ctx context.Context, group, id peercrypto.ID) (groupsync.Document, error) {
	return p.engine.Get(ctx, group, id)
}

// GetFirstSeen is Get with another rule for changes of the same moment: the one
// that came to this device first wins. tied tells that the result differs from
// Get's; it may be a deleted document then. See groupsync.Engine.GetFirstSeen.
func (p *Peer) GetFirstSeen(ctx context.Context, group, id peercrypto.ID) (doc groupsync.Document, tied bool, err error) {
	return p.engine.GetFirstSeen(ctx, group, id)
}

// List calls fn for the documents that q selects, at most q.Limit (0 means
// 1,000). To get all, ask again with After as the last id.
func (p *Peer) List(ctx context.Context, q groupsync.DocumentQuery, fn func(groupsync.Document) error) error {
	return p.engine.List(ctx, q, fn)
}

// Delete deletes a document, or returns groupsync.ErrNotFound.
func (p *Peer) Delete(ctx context.Context, group, id peercrypto.ID) error {
	return p.engine.Delete(ctx, group, id)
}

// Watch calls fn for each document of a group with a version above after,
// tombstones too, in the order of versions, and then for each new version. Of
// versions of one document that follow each other quickly only the last may be
// seen. It ends with ctx, the peer, or the first error of fn.
func (p *Peer) Watch(ctx context.Context, group peercrypto.ID, after int64, fn func(groupsync.Document) error) error {
	return p.engine.Watch(ctx, group, after, fn)
}

// Export writes the live documents of a group as NDJSON in the order of their
// ids: equal groups give equal bytes.
func (p *Peer) Export(ctx context.Context, group peercrypto.ID, w io.Writer) error {
	return p.engine.Export(ctx, group, w)
}

// Quarantine lists entries of others that can't be judged yet, oldest first;
// group "" means all. They are neither shown nor passed on.
func (p *Peer) Quarantine(ctx context.Context, group peercrypto.ID, limit int) ([]groupsync.Quarantined, error) {
	return p.engine.Quarantine(ctx, group, limit)
}

// LastVersion returns the highest version that a document of a group has: where
// a watch for new changes only begins.
func (p *Peer) LastVersion(ctx context.Context, group peercrypto.ID) (int64, error) {
	return p.engine.LastVersion(ctx, group)
}

// Find returns one page of what q selects and the cursor of the next one. With
// conditions or an order, an index has to answer it: groupsync.ErrNoIndex
// otherwise.
func (p *Peer) Find(ctx context.Context, q groupsync.DocumentQuery) (groupsync.Page, error) {
	return p.engine.Find(ctx, q)
}

// WatchQuery tells what q selects, then groupsync.Ready, and then what enters,
// changes in or leaves the result. It ends with ctx, the peer, or the first
// error of fn.
func (p *Peer) WatchQuery(ctx context.Context, q groupsync.DocumentQuery, fn func(groupsync.Change) error) error {
	return p.engine.WatchQuery(ctx, q, fn)
}

// EnsureIndex makes an index over fields of the documents of a type, or another
// one in place of that of the same name.
func (p *Peer) EnsureIndex(ctx context.Context, s groupsync.IndexSpec) error {
	return p.engine.EnsureIndex(ctx, s)
}

// DropIndex removes an index, or returns groupsync.ErrNotFound.
func (p *Peer) DropIndex(ctx context.Context, name string) error {
	return p.engine.DropIndex(ctx, name)
}

// Indexes lists the indexes over fields, by name.
func (p *Peer) Indexes(ctx context.Context) ([]groupsync.IndexSpec, error) {
	return p.engine.Indexes(ctx)
}
