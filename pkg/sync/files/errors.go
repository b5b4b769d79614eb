package files

import (
	"errors"
	"fmt"
	"syscall"
)

// Errors of this package. They are wrapped with what was being done.
var (
	// ErrNotFound means that the file is not held here, or not as a whole.
	ErrNotFound = errors.New("the file is not here")
	// ErrRef means that the text or the size of a reference breaks a rule.
	ErrRef = errors.New("not a file reference")
	// ErrTooLarge means that a file is larger than [MaxSize] or Options.MaxSize.
	ErrTooLarge = errors.New("the file is too large")
	// ErrChunk means that a chunk is not the one that the tree names.
	ErrChunk = errors.New("chunk does not fit its hash")
	// ErrTree means that a page or the top is not the one that the root names.
	ErrTree = errors.New("part of the hash tree does not fit the root")
	// ErrNoPage means that the page of the tree that is needed first is not here yet.
	ErrNoPage = errors.New("the chunk's page of the hash tree is not here")
	// ErrContent means that the content that a root names does not have the
	// file's id: whoever vouched for both was wrong, and no source can help.
	ErrContent = errors.New("the root names other content than the file's id")
	// ErrQuota means that Options.Quota has no room and nothing can be evicted.
	ErrQuota = errors.New("the quota for files is used up; forget some, or raise it")
	// ErrNoSpace means that the disk is full. What is there stays, and goes on
	// when there is room.
	ErrNoSpace = errors.New("the disk has no room for the file")
	// ErrComplete means that the whole file is here already.
	ErrComplete = errors.New("the file is complete already")
	// ErrIncomplete means that chunks are missing.
	ErrIncomplete = errors.New("the file is not complete")
	// ErrClosed means that the store, the file or the partial file was closed.
	ErrClosed = errors.New("closed")
)

// DamagedError says that a chunk on disk is not what was stored: the disk
// failed, or another program wrote. [Store.Demote] makes it fetchable again.
type DamagedError struct {
	ID    ID
	Chunk int
	Cause error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("file %s is damaged on disk at chunk %d: %v", e.ID.Short(), e.Chunk, e.Cause)
}

func (e *DamagedError) Unwrap() error { return e.Cause }

// classify adds the sentinel of a full disk.
func classify(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("%w (%w)", ErrNoSpace, err)
	}
	return err
}
