package files

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// shut ends the use of a partial file for all. It is idempotent.
func (p *Partial) shut(reason error) error {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	return p.shutLocked(reason)
}

// shutLocked is shut with the store's mutex held.
func (p *Partial) shutLocked(reason error) error {
	p.mu.Lock()
	if p.end != nil || errors.Is(reason, ErrClosed) && !errors.Is(reason, errFinished) && p.users > 0 && !p.store.closed {
		p.mu.Unlock() // somebody was faster, or begins again
		return nil
	}
	p.end = reason
	p.mu.Unlock()
	close(p.wake)
	p.flushed.Wait()
	err := p.flush()
	p.closeFiles()
	if e := p.store.partial[keyOf(p.ref)]; e != nil && e.p == p {
		e.p, e.have = nil, p.Have()
	}
	return err
}

// Finish makes a file with all its chunks complete, after a check of the whole
// content against the id. ErrContent means that the reference was wrong: then
// everything of it is thrown away. The Partial can't be used afterwards but for
// Close; another caller's Finish may have been first, which is no error.
func (p *Partial) Finish() error {
	if err := p.finish(); err != nil {
		return fmt.Errorf("finishing file %s: %w", p.ref.ID.Short(), classify(err))
	}
	return nil
}

func (p *Partial) finish() error {
	if p.finished() {
		return nil
	}
	if !p.Complete() {
		return ErrIncomplete
	}
	id, err := p.sum()
	if p.finished() {
		return nil
	}
	if err == nil {
		err = p.flush()
	}
	if err != nil {
		return err
	}
	s := p.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.usable() != nil {
		return p.endedOtherwise()
	}
	if id != p.ref.ID {
		err := p.shutLocked(ErrContent)
		s.dropPartialLocked(keyOf(p.ref))
		return errors.Join(ErrContent, err, os.RemoveAll(p.dir))
	}
	_ = p.shutLocked(errFinished)
	return s.completeLocked(p.ref, p.dir)
}

// endedOtherwise returns why the file was closed, nil when it is complete.
func (p *Partial) endedOtherwise() error {
	if p.finished() {
		return nil
	}
	return p.usable()
}

// errFinished ends the use of a partial file that is complete now.
var errFinished = fmt.Errorf("%w: it is complete now", ErrClosed)

func (p *Partial) finished() bool { return errors.Is(p.usable(), errFinished) }

// sum returns the hash of the whole content; what was hashed on the way is
// not read again.
func (p *Partial) sum() (ID, error) {
	p.hashing.Lock()
	defer p.hashing.Unlock()
	if err := p.digestFrom(p.ref.Chunks()); err != nil {
		return ID{}, err
	}
	if p.hashed < p.ref.Chunks() {
		return ID{}, ErrIncomplete
	}
	return ID(p.whole.Sum(nil)), nil
}

// completeLocked makes the folder of a partial file that of a complete one.
func (s *Store) completeLocked(ref Ref, dir string) error {
	var kept marks
	if e := s.partial[keyOf(ref)]; e != nil {
		kept = e.marks
	}
	s.dropPartialLocked(keyOf(ref))
	if c := s.complete[ref.ID]; c != nil {
		return errors.Join(c.marks.addAll(s.contentDir(ref.ID), kept), os.RemoveAll(dir))
	}
	to := s.contentDir(ref.ID)
	err := os.MkdirAll(filepath.Dir(to), dirMode)
	if err == nil {
		err = os.RemoveAll(to) // damaged, if there is something
	}
	if err == nil {
		err = os.Rename(dir, to)
	}
	if err != nil {
		s.setPartialLocked(&partialEntry{ref: ref, have: ref.Size, marks: kept})
		return err
	}
	s.setCompleteLocked(&content{ref: ref, added: s.o.Now(), marks: kept})
	_ = os.Remove(filepath.Join(to, nameMap))
	_ = os.Remove(filepath.Join(to, nameWant))
	return errors.Join(syncDir(filepath.Dir(to)), syncDir(filepath.Dir(filepath.Dir(to))), syncDir(filepath.Join(s.dir, dirPartial)))
}

// Demote makes a complete file with a damaged chunk a partial one that lacks it,
// so that it can be fetched from others. want is kept with it. Readers that have
// it open go on with what they have.
func (s *Store) Demote(damaged *DamagedError, want []byte) error {
	if err := s.demote(damaged, want); err != nil {
		return fmt.Errorf("giving up a damaged copy of file %s: %w", damaged.ID.Short(), classify(err))
	}
	return nil
}

func (s *Store) demote(damaged *DamagedError, want []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.complete[damaged.ID]
	if c == nil {
		return nil // somebody was faster
	}
	ref, from := c.ref, s.contentDir(damaged.ID)
	bits := NewBitmap(ref)
	bits.Fill(ref)
	if damaged.Chunk >= 0 && damaged.Chunk < ref.Chunks() {
		bits.Clear(damaged.Chunk)
	}
	// Other chunks may be damaged too: the check of the whole file finds them.
	if err := os.WriteFile(filepath.Join(from, nameMap), slices.Concat(bits, bits), fileMode); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(from, nameWant), want, fileMode); err != nil {
		return err
	}
	to := s.partialDir(ref)
	if e := s.partial[keyOf(ref)]; e != nil {
		return fmt.Errorf("%w: it is being fetched already", ErrClosed)
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(to, namePin))
	s.dropCompleteLocked(damaged.ID)
	s.setPartialLocked(&partialEntry{ref: ref, want: want, have: heldBytes(ref, bits), marks: c.marks})
	return errors.Join(syncDir(filepath.Dir(from)), syncDir(filepath.Dir(to)))
}
