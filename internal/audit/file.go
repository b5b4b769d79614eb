package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// file is the log's files: it appends lines to the chain, renames what is full
// and deletes what is too old. One goroutine uses it.
type file struct {
	path     string
	maxBytes int64
	keep     int

	f        *os.File
	size     int64
	at       place
	unsynced bool
}

// recovered is what a crash had left at the end.
type recovered struct{ lines, bytes int64 }

// openFile continues the log at path or begins one. A damaged end is cut off; a
// damaged line with whole ones behind it is an error, since no crash does that.
func openFile(path string, maxBytes int64, keep int) (*file, recovered, error) {
	w := &file{path: path, maxBytes: maxBytes, keep: keep, at: beginning}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, recovered{}, err
	}
	w.f = f
	cutOff, err := w.resume()
	if err != nil {
		_ = f.Close()
		return nil, recovered{}, err
	}
	return w, cutOff, nil
}

func (w *file) resume() (recovered, error) {
	if err := lock(w.f); err != nil {
		return recovered{}, fmt.Errorf("another process writes it: %w", err)
	}
	cutOff, err := w.readOn()
	if err != nil {
		return recovered{}, err
	}
	if w.at == beginning && w.size == 0 {
		if w.at, err = w.endOfFull(); err != nil {
			return recovered{}, err
		}
	}
	if cutOff.bytes > 0 {
		if err := w.f.Truncate(w.size); err != nil {
			return recovered{}, fmt.Errorf("cutting off what a crash left: %w", err)
		}
	}
	if _, err := w.f.Seek(w.size, io.SeekStart); err != nil {
		return recovered{}, err
	}
	return cutOff, syncDir(w.path)
}

// readOn finds the end of the chain in the file, and what is behind it.
func (w *file) readOn() (recovered, error) {
	info, err := w.f.Stat()
	if err != nil {
		return recovered{}, err
	}
	var cutOff recovered
	err = scan(w.f, func(number int, end int64, text []byte) error {
		l, err := parseLine(text)
		if errors.Is(err, errNoLine) {
			cutOff.lines++
			return nil
		}
		if err == nil && cutOff.lines > 0 {
			err = errNoLine // the line before
		}
		if err == nil && (w.at != beginning || l.Seq == 1) {
			err = l.follows(w.at)
		}
		if err != nil {
			return &Mistake{w.path, number, err}
		}
		w.at, w.size = l.place(), end
		return nil
	})
	cutOff.bytes = info.Size() - w.size
	if m, ok := errors.AsType[*Mistake](err); ok && errors.Is(m.Err, errTorn) {
		cutOff.lines++
		return cutOff, nil
	}
	if err != nil {
		return cutOff, fmt.Errorf("%w; move its files away to begin a new log, after a look at them", err)
	}
	return cutOff, nil
}

// endOfFull is where the newest full file ends.
func (w *file) endOfFull() (place, error) {
	full, err := fullFiles(w.path)
	if err != nil || len(full) == 0 {
		return beginning, err
	}
	at := beginning
	newest := full[len(full)-1]
	err = readFile(newest, func(_ string, _ int, l Line) error {
		at = l.place()
		return nil
	})
	if err != nil {
		return at, fmt.Errorf("continuing from %s: %w", newest, err)
	}
	return at, nil
}

// append writes whole lines that lead to a place. When that fails the file is
// as before, as far as that can be had.
func (w *file) append(lines []byte, to place) error {
	n, err := w.f.Write(lines)
	if err != nil {
		if n > 0 {
			err = errors.Join(err, w.f.Truncate(w.size))
			_, seekErr := w.f.Seek(w.size, io.SeekStart)
			err = errors.Join(err, seekErr)
		}
		return err
	}
	w.size += int64(n)
	w.at, w.unsynced = to, true
	return nil
}

func (w *file) sync() error {
	if !w.unsynced {
		return nil
	}
	if err := w.f.Sync(); err != nil {
		return err
	}
	w.unsynced = false
	return nil
}

func (w *file) full() bool { return w.size >= w.maxBytes }

// rotate renames the file and begins the next one, and deletes what is too old.
func (w *file) rotate() error {
	if err := w.sync(); err != nil {
		return err
	}
	first, err := firstSeq(w.path)
	if err != nil {
		return err
	}
	full := fullPath(w.path, first)
	if err := os.Rename(w.path, full); err != nil {
		return err
	}
	next, err := os.OpenFile(w.path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		err = lock(next)
	}
	if err != nil {
		return errors.Join(err, os.Rename(full, w.path)) // goes on with the full one
	}
	_ = w.f.Close()
	w.f, w.size = next, 0
	return errors.Join(syncDir(w.path), w.prune())
}

func firstSeq(path string) (uint64, error) {
	var seq uint64
	stop := errors.New("one line is enough")
	err := readFile(path, func(_ string, _ int, l Line) error {
		seq = l.Seq
		return stop
	})
	if errors.Is(err, stop) {
		err = nil
	}
	return seq, err
}

func (w *file) prune() error {
	if w.keep < 0 {
		return nil
	}
	full, err := fullFiles(w.path)
	if err != nil {
		return err
	}
	var errs []error
	for len(full) > w.keep {
		if err := os.Remove(full[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		full = full[1:]
	}
	return errors.Join(errs...)
}

func (w *file) close() error { return errors.Join(w.sync(), w.f.Close()) }

// syncDir makes names in the file's folder last. Not every system can.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	_ = d.Sync()
	return nil
}
