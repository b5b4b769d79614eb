package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Defaults and bounds of Config.
const (
	DefaultMaxBytes = 64 << 20
	DefaultKeep     = 8
	DefaultQueue    = 16384

	// MinMaxBytes is the least MaxBytes: a file holds some lines.
	MinMaxBytes = 4 * maxLine
)

// Config configures a Log. Zero means the default.
type Config struct {
	// Path is the file that is written. When it is full it is renamed to
	// Path.N, N the number of its first line in twelve digits.
	Path string
	// MaxBytes is when a file is full; DefaultMaxBytes, at least MinMaxBytes.
	MaxBytes int64
	// Keep is how many full files are kept; DefaultKeep, negative: all.
	Keep int
	// Queue is how many events can wait to be written; DefaultQueue.
	Queue int
	// Kinds are the kinds of events that metrics tell apart; others count as
	// "other".
	Kinds []string
	// Detail is told in the line of a start, for instance the version.
	Detail string

	Registerer prometheus.Registerer // of peersignal_audit_*; nil: none
	Logger     *slog.Logger          // nil: discard
	Now        func() time.Time      // nil: time.Now
}

// syncEvery is how long a written line can wait for the disk.
const syncEvery = 200 * time.Millisecond

func (c Config) withDefaults() (Config, error) {
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.Keep == 0 {
		c.Keep = DefaultKeep
	}
	if c.Queue == 0 {
		c.Queue = DefaultQueue
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	switch {
	case c.Path == "":
		return c, errors.New("configuring the audit log: it has no path")
	case c.MaxBytes < MinMaxBytes:
		return c, fmt.Errorf("configuring the audit log: files of %d bytes, the least is %d", c.MaxBytes, MinMaxBytes)
	case c.Queue < 0:
		return c, errors.New("configuring the audit log: a queue of less than no events")
	}
	return c, nil
}

// Files are the files of a log, oldest first, the one that is written last.
// Without any the error is fs.ErrNotExist.
func Files(path string) ([]string, error) {
	full, err := fullFiles(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err == nil {
		return append(full, path), nil
	} else if !errors.Is(err, fs.ErrNotExist) || len(full) == 0 {
		return nil, fmt.Errorf("finding the audit log: %w", err)
	}
	return full, nil
}

const seqDigits = 12

func fullPath(path string, first uint64) string {
	return fmt.Sprintf("%s.%0*d", path, seqDigits, first)
}

// fullFiles are the renamed files of a log, oldest first.
func fullFiles(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("finding the audit log: %w", err)
	}
	var out []string
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+".")
		if ok && len(digits) >= seqDigits && strings.Trim(digits, "0123456789") == "" {
			out = append(out, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return out, nil
}
