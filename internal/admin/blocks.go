package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// Blocker keeps people out, in memory. Its errors are mistakes of the request.
type Blocker interface {
	Block(Block) (ended int, err error)
	Unblock(Block) (found bool, err error)
	Blocked() []Block
	// SetBlocks replaces all; an error means that nothing has changed.
	SetBlocks([]Block) (ended int, err error)
}

// maxBlockFile bounds what is read.
const maxBlockFile = 64 << 20

// blockFileVersion is the format of the file: {"version": 1, "blocks": […]}.
const blockFileVersion = 1

type blockFile struct {
	Version int     `json:"version"`
	Blocks  []Block `json:"blocks"`
}

// Blocklist is a Blocker whose blocks outlive the process, in a file.
type Blocklist struct {
	to Blocker

	mu   sync.Mutex // over a change and its writing
	path string     // "": nothing is kept
}

// NewBlocklist reads the file, if there is one, and puts its blocks in force.
// Without a path nothing is kept.
func NewBlocklist(path string, to Blocker) (*Blocklist, error) {
	l := &Blocklist{to: to, path: path}
	_, err := l.Reload()
	return l, err
}

// Kept reports whether blocks outlive the process.
func (l *Blocklist) Kept() bool { return l.path != "" }

// Check reads a block file without putting it in force.
func Check(path string) error {
	_, err := readBlocks(path)
	return err
}

// Reload reads the file again and puts in force what it says now. A file that
// cannot be read changes nothing.
func (l *Blocklist) Reload() (ended int, err error) {
	if l.path == "" {
		return 0, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	list, err := readBlocks(l.path)
	if err != nil {
		return 0, err
	}
	if ended, err = l.to.SetBlocks(list); err != nil {
		return 0, fmt.Errorf("reading the block file %s: %w", l.path, err)
	}
	return ended, nil
}

// Block puts a block in force and keeps it, in that order: when it cannot be
// kept the error says so, and it is in force.
func (l *Blocklist) Block(b Block) (ended int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ended, err = l.to.Block(b); err != nil {
		return 0, mistake("%v", err)
	}
	if err := l.save(); err != nil {
		return ended, fmt.Errorf("the block is in force until the server stops, but it could not be kept: %w", err)
	}
	return ended, nil
}

// Unblock lifts a block, also in the file.
func (l *Blocklist) Unblock(b Block) (found bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if found, err = l.to.Unblock(b); err != nil {
		return false, mistake("%v", err)
	}
	if err := l.save(); err != nil {
		return found, fmt.Errorf("the block is lifted until the server starts again; the file could not be written: %w", err)
	}
	return found, nil
}

func readBlocks(path string) ([]Block, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		// The first block makes the file, and can't make its folder.
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("reading the block file %s: its folder is missing: %w", path, err)
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the block file: %w", err)
	}
	defer func() { _ = f.Close() }()
	var file blockFile
	d := json.NewDecoder(io.LimitReader(f, maxBlockFile))
	d.DisallowUnknownFields()
	switch err := d.Decode(&file); {
	case err != nil:
		return nil, fmt.Errorf("reading the block file %s: %w", path, err)
	case d.More():
		return nil, fmt.Errorf("reading the block file %s: it has more than one JSON value", path)
	case file.Version != blockFileVersion:
		return nil, fmt.Errorf("reading the block file %s: it has version %d, and not %d", path, file.Version, blockFileVersion)
	}
	return file.Blocks, nil
}

// save replaces the file by one with what is in force now. A crash leaves the
// old one or the new one.
func (l *Blocklist) save() (err error) {
	if l.path == "" {
		return nil
	}
	list := l.to.Blocked()
	if list == nil {
		list = []Block{}
	}
	b, err := json.MarshalIndent(blockFile{blockFileVersion, list}, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(l.path), filepath.Base(l.path)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), l.path); err != nil {
		return err
	}
	if d, err := os.Open(filepath.Dir(l.path)); err == nil {
		_ = d.Sync() // not every system can
		_ = d.Close()
	}
	return nil
}
