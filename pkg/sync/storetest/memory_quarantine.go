package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

func (r *memoryReader) quarantined(key peercrypto.Hash) groupsync.Quarantined {
	q, _ := r.held.get(string(key[:]))
	q.Raw, q.Waits = bytes.Clone(q.Raw), slices.Clone(q.Waits)
	return q
}

func (r *memoryReader) Waiting(group peercrypto.ID, w groupsync.Wait, fn func(groupsync.Quarantined) error) error {
	if err := r.check(); err != nil {
		return err
	}
	for _, key := range r.waiting.prefixed(string(waitKey(group, w))) {
		if err := fn(r.quarantined(key)); err != nil {
			return err
		}
	}
	return nil
}

func (r *memoryReader) Due(now int64, limit int, fn func(groupsync.Quarantined) error) error {
	if err := r.check(); err != nil {
		return err
	}
	seen := map[peercrypto.Hash]bool{}
	end := string(keyer{}.number(now + 1))
	for k, key := range r.due.from("") {
		if k >= end || len(seen) == limitOf(limit) {
			return nil
		}
		if seen[key] {
			continue
		}
		seen[key] = true
		if err := fn(r.quarantined(key)); err != nil {
			return err
		}
	}
	return nil
}

func matches(q groupsync.Quarantined, group, from peercrypto.ID) bool {
	return (group == "" || q.Group == group) && (from == "" || q.From == from)
}

func (r *memoryReader) QuarantineUsage(group, from peercrypto.ID) (groupsync.QuarantineUsage, error) {
	var u groupsync.QuarantineUsage
	for _, q := range r.held.from("") {
		if matches(q, group, from) {
			u.Items++
			u.Bytes += int64(len(q.Raw))
		}
	}
	return u, r.check()
}

func (r *memoryReader) Quarantine(group peercrypto.ID, limit int, fn func(groupsync.Quarantined) error) error {
	if err := r.check(); err != nil {
		return err
	}
	n := 0
	for _, key := range r.oldest.from("") {
		q := r.quarantined(key)
		if !matches(q, group, "") {
			continue
		}
		if err := fn(q); err != nil {
			return err
		}
		if n++; n == limitOf(limit) {
			return nil
		}
	}
	return nil
}

// dueTime reads a wait for a time.
func dueTime(w groupsync.Wait) (int64, error) {
	ms, err := strconv.ParseInt(w.Ref, 10, 64)
	if err != nil || len(w.Ref) != 13 || ms < 0 {
		return 0, errors.New("a wait for a time needs 13 digits of unix milliseconds")
	}
	return ms, nil
}

func (tx *memoryTx) PutQuarantined(q groupsync.Quarantined) error {
	err := tx.check()
	for _, w := range q.Waits {
		if w.Kind == "time" && err == nil {
			_, err = dueTime(w)
		}
	}
	switch {
	case q.Key.IsZero() || q.Group == "" || len(q.Raw) == 0:
		err = errors.New("it has no key, group or bytes")
	case len(q.Waits) == 0:
		err = errors.New("it waits for nothing")
	}
	if err != nil {
		return fmt.Errorf("quarantining entry %s: %w", q.Hash.Short(), err)
	}
	if old, ok := tx.held.get(string(q.Key[:])); ok {
		tx.release(old)
	}
	q.Raw, q.Waits = bytes.Clone(q.Raw), slices.Clone(q.Waits)
	tx.held = tx.held.with(string(q.Key[:]), q)
	tx.oldest = tx.oldest.with(string(keyer{}.number(q.Received).hash(q.Key)), q.Key)
	for _, w := range q.Waits {
		tx.waiting = tx.waiting.with(string(waitKey(q.Group, w).number(q.Received).hash(q.Key)), q.Key)
		if w.Kind == "time" {
			ms, _ := dueTime(w)
			tx.due = tx.due.with(string(keyer{}.number(ms).hash(q.Key)), q.Key)
		}
	}
	return nil
}

func (tx *memoryTx) DeleteQuarantined(key peercrypto.Hash) error {
	if q, ok := tx.held.get(string(key[:])); ok {
		tx.release(q)
	}
	return tx.check()
}

func (tx *memoryTx) release(q groupsync.Quarantined) {
	tx.held = tx.held.without(string(q.Key[:]))
	tx.oldest = tx.oldest.without(string(keyer{}.number(q.Received).hash(q.Key)))
	for _, w := range q.Waits {
		tx.waiting = tx.waiting.without(string(waitKey(q.Group, w).number(q.Received).hash(q.Key)))
		if w.Kind == "time" {
			ms, _ := dueTime(w)
			tx.due = tx.due.without(string(keyer{}.number(ms).hash(q.Key)))
		}
	}
}

func (tx *memoryTx) EvictQuarantine(group, from peercrypto.ID, maxItems, maxBytes, before int64) (int64, error) {
	u, err := tx.QuarantineUsage(group, from)
	if err != nil {
		return 0, err
	}
	var evicted int64
	for _, key := range tx.oldest.from("") {
		q, _ := tx.held.get(string(key[:]))
		over := maxItems >= 0 && u.Items > maxItems || maxBytes >= 0 && u.Bytes > maxBytes
		if !over && q.Received >= before {
			break
		}
		if matches(q, group, from) {
			tx.release(q)
			u.Items--
			u.Bytes -= int64(len(q.Raw))
			evicted++
		}
	}
	return evicted, nil
}
