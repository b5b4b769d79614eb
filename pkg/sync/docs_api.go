package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/fold"
)

// MaxPutMany is how many documents PutMany takes.
const MaxPutMany = 1_000

// Put stores a document: a JSON object with a type, and with an id unless a new one is to be made. It replaces the current document as a whole,
// signed as the smallest set of changes that does so; "modified", "signer" and "signature" in it are ignored. A document that is already
// equal writes nothing. Put returns after the durable commit.
func (e *Engine) Put(ctx context.Context, group peercrypto.ID, doc json.RawMessage) (Document, error) {
	var out Document
	err := e.write(ctx, group, entry.Write, func(b *batch) error {
		var err error
		if out, _, err = b.put(doc); err != nil {
			return fmt.Errorf("storing a document in group %s: %w", group.Short(), err)
		}
		return nil
	})
	return out, err
}

// PutMany stores at most 1,000 documents in one transaction; see Put. A document that is invalid fails alone, in its result; the error
// is for all: nothing was stored then. Calling it again with the same documents (that have ids) writes nothing.
func (e *Engine) PutMany(ctx context.Context, group peercrypto.ID, docs []json.RawMessage) ([]PutResult, error) {
	if len(docs) > MaxPutMany {
		return nil, fmt.Errorf("storing %d documents: at most %d in one call: %w", len(docs), MaxPutMany, ErrLimit)
	}
	out := make([]PutResult, len(docs))
	err := e.write(ctx, group, entry.Write, func(b *batch) error {
		for i, raw := range docs {
			doc, status, err := b.put(raw)
			if err != nil && !errors.Is(err, ErrInvalidDocument) {
				return fmt.Errorf("storing documents in group %s: %w", group.Short(), err)
			}
			out[i] = PutResult{Status: status, Subject: doc.Subject, Version: doc.Version, Err: err}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// header is what a document must have.
type header struct {
	ID    peercrypto.ID `json:"id"`
	Group peercrypto.ID `json:"group"`
	Type  string        `json:"type"`
}

func invalidDocument(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalidDocument}, args...)...)
}

// prepare completes a document and checks what it says about itself.
func (b *batch) prepare(raw json.RawMessage) (json.RawMessage, peercrypto.ID, error) {
	var h header
	if err := peercrypto.UnmarshalLenientFields(raw, &h); err != nil {
		return nil, "", invalidDocument("%w", err)
	}
	if h.Group != "" && h.Group != b.g.id {
		return nil, h.ID, invalidDocument("it says that it belongs to group %s", h.Group.Short())
	}
	if h.Type == fold.TypeDeleted {
		return nil, h.ID, invalidDocument("the type %q is reserved; delete the document instead", h.Type)
	}
	if err := fold.CheckType(h.Type); err != nil {
		return nil, h.ID, invalidDocument("%w", err)
	}
	made := h.ID == ""
	if made {
		h.ID = peercrypto.NewID(time.UnixMilli(b.now))
	} else if _, err := peercrypto.ParseID(string(h.ID)); err != nil {
		return nil, "", invalidDocument("its id: %w", err)
	} else if err := h.ID.CheckTime(time.UnixMilli(b.now)); err != nil {
		return nil, h.ID, invalidDocument("its id: %w", err)
	}
	if !made && h.Group != "" {
		return raw, h.ID, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, h.ID, invalidDocument("%w", err)
	}
	members["id"], members["group"] = quoteID(h.ID), quoteID(b.g.id)
	full, err := json.Marshal(members)
	return full, h.ID, err
}

func quoteID(id peercrypto.ID) json.RawMessage { return json.RawMessage(`"` + string(id) + `"`) }

func (b *batch) put(raw json.RawMessage) (Document, PutStatus, error) {
	full, id, err := b.prepare(raw)
	if err != nil {
		return Document{Group: b.g.id, Subject: id}, PutFailed, err
	}
	doc, _, err := b.tx.Document(b.g.id, id)
	if err != nil {
		return doc, PutFailed, err
	}
	doc.Group, doc.Subject = b.g.id, id
	if err := checkSize(full); err != nil {
		return doc, PutFailed, err
	}
	changes, err := fold.Diff(b.g.id, id, doc.JSON, full)
	if err != nil {
		return doc, PutFailed, invalidDocument("%w", err)
	}
	if len(changes) == 0 {
		return doc, PutUnchanged, nil
	}
	if err := fold.CheckChanges(b.g.id, id, changes); err != nil {
		return doc, PutFailed, invalidDocument("%w", err)
	}
	status := PutChanged
	if doc.JSON == nil {
		status = PutCreated
	}
	if doc, err = b.change(doc, changes, false); err != nil {
		return doc, PutFailed, err
	}
	return doc, status, nil
}

// checkSize refuses what the fold would ignore because of its size.
func checkSize(full json.RawMessage) error {
	const room = 64 // for "modified", which the fold adds
	size := len(full)
	if size > fold.MaxDocument-room && size < 8*fold.MaxDocument {
		canonical, err := peercrypto.Canonicalize(full)
		if err != nil {
			return invalidDocument("%w", err)
		}
		size = len(canonical)
	}
	if size > fold.MaxDocument-room {
		return invalidDocument("it has %d bytes; at most %d", size, fold.MaxDocument-room)
	}
	return nil
}

// Delete deletes a document; a tombstone stays. Deleting what is not there is ErrNotFound.
func (e *Engine) Delete(ctx context.Context, group, subject peercrypto.ID) error {
	return e.write(ctx, group, entry.Write, func(b *batch) error {
		doc, ok, err := b.tx.Document(group, subject)
		if err == nil && (!ok || doc.Deleted) {
			err = ErrNotFound
		}
		if err == nil {
			_, err = b.change(doc, nil, true)
		}
		if err != nil {
			return fmt.Errorf("deleting document %s: %w", subject.Short(), err)
		}
		return nil
	})
}
