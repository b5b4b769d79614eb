package peer

import (
	"context"
	"errors"
	"fmt"
	"io"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/files"
)

// FileReader reads a file that is on this device. Every chunk is verified; one
// that was spoilt on the disk is fetched from other devices while Read waits,
// until the context of OpenFile ends. It is for one goroutine.
type FileReader struct {
	work  *fileWork
	ctx   context.Context
	group peercrypto.ID
	f     *files.File
	at    int64
}

// OpenFile opens a file of a group that is on this device as a whole, else it
// returns ErrFileRemote. Close it.
func (p *Peer) OpenFile(ctx context.Context, group peercrypto.ID, id files.ID) (*FileReader, error) {
	if p.files == nil {
		return nil, ErrNoFiles
	}
	if _, _, err := p.fileDocOf(ctx, group, id); err != nil {
		return nil, err
	}
	return p.files.open(ctx, group, id)
}

// OpenFileRef is OpenFile for a file that was fetched by its reference.
func (p *Peer) OpenFileRef(ctx context.Context, id files.ID) (*FileReader, error) {
	if p.files == nil {
		return nil, ErrNoFiles
	}
	return p.files.open(ctx, "", id)
}

func (w *fileWork) open(ctx context.Context, group peercrypto.ID, id files.ID) (*FileReader, error) {
	f, err := w.store.Open(id)
	if errors.Is(err, files.ErrNotFound) {
		return nil, fmt.Errorf("opening file %s: %w", id.Short(), ErrFileRemote)
	}
	if err != nil {
		return nil, err
	}
	return &FileReader{work: w, ctx: ctx, group: group, f: f}, nil
}

// Size returns the length of the file in bytes.
func (r *FileReader) Size() int64 { return r.f.Ref().Size }

// Read reads the next bytes.
func (r *FileReader) Read(b []byte) (int, error) {
	for {
		n, err := r.f.Read(b)
		r.at += int64(n)
		var damaged *files.DamagedError
		if err == nil || errors.Is(err, io.EOF) || !errors.As(err, &damaged) {
			return n, err
		}
		if err := r.repair(damaged); err != nil {
			return n, errors.Join(damaged, err)
		}
	}
}

// repair fetches what is damaged and opens the file anew.
func (r *FileReader) repair(damaged *files.DamagedError) error {
	ref := r.f.Ref()
	if _, err := r.work.repair(damaged, ref, r.group); err != nil && !errors.Is(err, files.ErrComplete) {
		return err
	}
	if err := r.work.fetch(r.ctx, ref, r.group, nil); err != nil {
		return err
	}
	f, err := r.work.store.Open(ref.ID)
	if err != nil {
		return err
	}
	_ = r.f.Close()
	r.f = f
	_, err = f.Seek(r.at, io.SeekStart)
	return err
}

// Seek sets where Read goes on.
func (r *FileReader) Seek(offset int64, whence int) (int64, error) {
	at, err := r.f.Seek(offset, whence)
	if err == nil {
		r.at = at
	}
	return at, err
}

// Close gives the file back. It is idempotent.
func (r *FileReader) Close() error { return r.f.Close() }
