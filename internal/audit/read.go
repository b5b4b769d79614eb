package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// Mistake is the first line of a log that is not what was written there.
type Mistake struct {
	File string
	Line int   // its number in the file, from 1
	Err  error // what is wrong
}

// Error implements error.
func (m *Mistake) Error() string { return fmt.Sprintf("%s, line %d: %v", m.File, m.Line, m.Err) }

// Unwrap returns what is wrong.
func (m *Mistake) Unwrap() error { return m.Err }

// errTorn is a last line without its line feed: it is being written, or a crash
// cut it off.
var errTorn = errors.New("the last line is not whole: the server is writing it, or crashed while it did; it cuts the line at its next start")

// scan calls each for the lines of a file, with its line feed cut off, until
// that returns an error or the file ends. number counts from 1, end is where
// the line ends in the file. A last line without a line feed is errTorn.
func scan(r io.Reader, each func(number int, end int64, text []byte) error) error {
	b := bufio.NewReaderSize(r, maxLine)
	var end int64
	for number := 1; ; number++ {
		text, err := b.ReadSlice('\n')
		end += int64(len(text))
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return &Mistake{Line: number, Err: errNoLine}
		case errors.Is(err, io.EOF) && len(text) == 0:
			return nil
		case errors.Is(err, io.EOF):
			return &Mistake{Line: number, Err: errTorn}
		case err != nil:
			return err
		}
		if err := each(number, end, bytes.TrimSuffix(text, []byte("\n"))); err != nil {
			return err
		}
	}
}

// Report is what Verify found in files that are in order.
type Report struct {
	Files       int
	First, Last Line // zero when there is no line
	// Torn says that the last line is not whole, as it is while it is written.
	Torn bool
}

// Verify checks the chain through the files of one log, in any order, and that
// none between them is missing. The error is a *Mistake when the log is not
// what was written. The first line's predecessor is not checked unless it is
// line 1: older files may have been deleted.
func Verify(files ...string) (Report, error) {
	r := Report{}
	at := beginning
	err := eachLine(files, func(file string, number int, l Line) error {
		first := r.First.Seq == 0
		if first {
			r.First = l
		}
		if !first || l.Seq == 1 {
			if err := l.follows(at); err != nil {
				return &Mistake{file, number, err}
			}
		}
		at, r.Last = l.place(), l
		return nil
	}, &r)
	return r, err
}

// Read calls each for the lines of the files of one log, oldest first. Each
// line's own hash is checked, the chain is not: that is for Verify.
func Read(each func(Line) error, files ...string) error {
	return eachLine(files, func(_ string, _ int, l Line) error { return each(l) }, &Report{})
}

// eachLine parses the files in the order of their first lines.
func eachLine(files []string, each func(file string, number int, l Line) error, r *Report) error {
	sorted, err := inOrder(files)
	if err != nil {
		return err
	}
	for i, name := range sorted {
		r.Files++
		err := readFile(name, each)
		m, isMistake := errors.AsType[*Mistake](err)
		switch {
		case err == nil:
		case isMistake && errors.Is(m.Err, errTorn) && i == len(sorted)-1:
			r.Torn = true
		default:
			return err
		}
	}
	return nil
}

func readFile(name string, each func(file string, number int, l Line) error) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	defer func() { _ = f.Close() }()
	err = scan(f, func(number int, _ int64, text []byte) error {
		l, err := parseLine(text)
		if err != nil {
			return &Mistake{name, number, err}
		}
		return each(name, number, l)
	})
	if m, ok := errors.AsType[*Mistake](err); ok && m.File == "" {
		m.File = name
	}
	return err
}

// inOrder sorts files by the number of their first line; empty ones are last.
func inOrder(files []string) ([]string, error) {
	type start struct {
		name string
		seq  uint64
	}
	var all []start
	for _, name := range files {
		s := start{name, ^uint64(0)}
		stop := errors.New("one line is enough")
		err := readFile(name, func(_ string, _ int, l Line) error {
			s.seq = l.Seq
			return stop
		})
		if m, ok := errors.AsType[*Mistake](err); err != nil && !errors.Is(err, stop) && (!ok || !errors.Is(m.Err, errTorn)) {
			return nil, err
		}
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b start) int { return cmp.Compare(a.seq, b.seq) })
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = s.name
	}
	return out, nil
}
