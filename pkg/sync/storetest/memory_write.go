package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"

	"encoding/binary"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// maxModified is what no time of an entry reaches: JSON has no such integers.
const maxModified = 1 << 53

type memoryTx struct{ memoryReader }

// count adds a hash to a summary, or takes it away with n = -1.
func count(s *groupsync.Summary, h peercrypto.Hash, n int64) {
	s.Count += n
	var carry uint64
	for i := len(h) - 8; i >= 0; i -= 8 {
		a, b := binary.BigEndian.Uint64(s.Sum[i:]), binary.BigEndian.Uint64(h[i:])
		if n > 0 {
			a, carry = bits.Add64(a, b, carry)
		} else {
			a, carry = bits.Sub64(a, b, carry)
		}
		binary.BigEndian.PutUint64(s.Sum[i:], a)
	}
}

func checkRecord(r groupsync.Record) error {
	switch {
	case r.Kind != entry.Operation && r.Kind != entry.Data:
		return errors.New("it is neither an operation nor data")
	case r.Modified < 0 || r.Modified >= maxModified:
		return errors.New("its time is out of range")
	case r.Hash.IsZero() || r.Group == "":
		return errors.New("it has no hash or group")
	}
	return nil
}

func checkFlags(valid, shared bool) error {
	if valid && !shared {
		return errors.New("valid entries are shared")
	}
	return nil
}

func (tx *memoryTx) PutGroup(g groupsync.GroupRecord) error {
	if g.ID == "" {
		return errors.New("storing a group: it has no id")
	}
	row, _ := tx.groups.get(string(g.ID))
	g.Meta = bytes.Clone(g.Meta)
	row.GroupRecord, row.known = g, true
	tx.groups = tx.groups.with(string(g.ID), row)
	return tx.check()
}

func (tx *memoryTx) PutRecord(r groupsync.Record) error {
	err := errors.Join(checkRecord(r), checkFlags(r.Valid, r.Shared))
	old, known := tx.records.get(string(r.Hash[:]))
	if err == nil && !known && len(r.Raw) == 0 {
		err = errors.New("it has no bytes")
	}
	if err == nil {
		err = tx.check()
	}
	if err != nil {
		return fmt.Errorf("storing entry %s: %w", r.Hash.Short(), err)
	}
	if known {
		if r.Raw != nil {
			old.Raw = bytes.Clone(r.Raw)
		}
		tx.flag(old, r.Valid, r.Shared)
		return nil
	}
	valid, shared := r.Valid, r.Shared
	r.Raw, r.Valid, r.Shared, r.Position = bytes.Clone(r.Raw), false, false, 0
	downwards := chainKey(r.As, r.Dev, r.Kind).number(math.MaxInt64 - r.Seq).hash(r.Hash)
	tx.chains = tx.chains.with(string(downwards), r.Hash)
	if r.Kind == entry.Operation {
		tx.ops = tx.ops.with(refKey(keyer{}.text(string(r.Group)), r.Ref), r.Hash)
	} else {
		tx.grants = tx.grants.with(string(keyer{}.hash(r.As).hash(r.Hash)), r.Hash)
	}
	row, _ := tx.groups.get(string(r.Group))
	row.setApart(r.Kind, 1) // until flag
	tx.groups = tx.groups.with(string(r.Group), row)
	tx.flag(r, valid, shared)
	return nil
}

func (tx *memoryTx) SetFlags(h peercrypto.Hash, valid, shared bool) error {
	r, ok := tx.records.get(string(h[:]))
	err := checkFlags(valid, shared)
	if !ok {
		err = errors.New("it is not stored")
	}
	if err == nil {
		err = tx.check()
	}
	if err != nil {
		return fmt.Errorf("flagging entry %s: %w", h.Short(), err)
	}
	tx.flag(r, valid, shared)
	return nil
}

// flag stores r with other flags and keeps what depends on them.
func (tx *memoryTx) flag(r groupsync.Record, valid, shared bool) {
	scope := groupsync.Scope{Group: r.Group, Kind: r.Kind}
	group := keyer{}.text(string(r.Group))
	row, _ := tx.groups.get(string(r.Group))
	if shared != r.Shared {
		if shared {
			tx.position++
			r.Position = tx.position
			tx.log = tx.log.with(string(group.number(r.Position)), r.Hash)
			tx.shared = tx.shared.with(refKey(scopeKey(scope), r.Ref), r.Ref)
			count(&row.roots[r.Kind], r.Hash, 1)
			row.setApart(r.Kind, -1)
		} else {
			tx.log = tx.log.without(string(group.number(r.Position)))
			tx.shared = tx.shared.without(refKey(scopeKey(scope), r.Ref))
			count(&row.roots[r.Kind], r.Hash, -1)
			row.setApart(r.Kind, 1)
			r.Position = 0
		}
		tx.groups = tx.groups.with(string(r.Group), row)
	}
	r.Valid, r.Shared = valid, shared
	if r.Kind == entry.Data {
		key := refKey(keyer{}.text(string(r.Group)).text(string(r.Subject)), r.Ref)
		if valid {
			tx.subject = tx.subject.with(key, r.Hash)
		} else {
			tx.subject = tx.subject.without(key)
		}
	}
	tx.records = tx.records.with(string(r.Hash[:]), r)
}

func (tx *memoryTx) PutDocument(d groupsync.Document) (int64, error) {
	err := tx.check()
	switch {
	case d.Group == "" || d.Subject == "":
		err = errors.New("it has no group or subject")
	case d.Deleted && (d.JSON != nil || d.Type != ""):
		err = errors.New("it is deleted and has content")
	case !d.Deleted && len(d.JSON) == 0:
		err = errors.New("it has no content and is not deleted")
	}
	if err != nil {
		return 0, fmt.Errorf("storing document %s: %w", d.Subject.Short(), err)
	}
	if err := tx.DeleteDocument(d.Group, d.Subject); err != nil {
		return 0, err
	}
	tx.version++
	d.Version, d.JSON = tx.version, bytes.Clone(d.JSON)
	tx.docs = tx.docs.with(docKey(d.Group, d.Subject), d)
	tx.changed = tx.changed.with(string(keyer{}.text(string(d.Group)).number(d.Version)), d.Subject)
	if key, ok := expireKey(d); ok {
		tx.expires = tx.expires.with(key, docKey(d.Group, d.Subject))
	}
	tx.countDocument(d, 1)
	return d.Version, nil
}

func (tx *memoryTx) DeleteDocument(group, subject peercrypto.ID) error {
	d, ok := tx.docs.get(docKey(group, subject))
	if !ok {
		return tx.check()
	}
	tx.docs = tx.docs.without(docKey(group, subject))
	tx.changed = tx.changed.without(string(keyer{}.text(string(group)).number(d.Version)))
	if key, ok := expireKey(d); ok {
		tx.expires = tx.expires.without(key)
	}
	tx.countDocument(d, -1)
	return tx.check()
}

func (tx *memoryTx) countDocument(d groupsync.Document, n int64) {
	row, _ := tx.groups.get(string(d.Group))
	switch {
	case !d.Deleted:
		row.live += n
	case d.Last.Modified != 0:
		row.deleted += n
	}
	tx.groups = tx.groups.with(string(d.Group), row)
}

func (tx *memoryTx) PutValue(bucket, key string, value []byte) error {
	k := string(keyer{}.text(bucket).last(key))
	if value == nil {
		tx.values = tx.values.without(k)
	} else {
		tx.values = tx.values.with(k, bytes.Clone(value))
	}
	return tx.check()
}

func (tx *memoryTx) PurgeGroup(id peercrypto.ID) error {
	if err := tx.check(); err != nil {
		return err
	}
	group := string(keyer{}.text(string(id)))
	for _, r := range tx.records.from("") {
		if r.Group != id {
			continue
		}
		tx.flag(r, false, false)
		tx.records = tx.records.without(string(r.Hash[:]))
		tx.chains = tx.chains.without(string(chainKey(r.As, r.Dev, r.Kind).number(math.MaxInt64 - r.Seq).hash(r.Hash)))
		tx.grants = tx.grants.without(string(keyer{}.hash(r.As).hash(r.Hash)))
		tx.ops = tx.ops.without(refKey(keyer{}.text(string(id)), r.Ref))
	}
	for key := range tx.docs.prefixed(group) {
		if err := tx.DeleteDocument(id, peercrypto.ID(strings.TrimPrefix(key, group))); err != nil {
			return err
		}
	}
	for _, q := range tx.held.from("") {
		if q.Group == id {
			tx.release(q)
		}
	}
	tx.groups = tx.groups.without(string(id))
	return nil
}
