//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// A result is what became of a case.
type result struct {
	s                            scenario
	nat                          string // as measured
	pair                         string // path, and each side's candidate type
	connect, sync, edit, recover time.Duration
	note                         string
	complaints                   []string // demands that were missed although the case could go on
	skipped                      string
	known                        bool // failed, as expected
	err                          error
	logs                         string // folder, when it failed, and:
	tails                        string // the ends of what is in it
}

func (r *result) complain(format string, args ...any) {
	r.complaints = append(r.complaints, fmt.Sprintf(format, args...))
}

func (r *result) verdict() error {
	if len(r.complaints) == 0 {
		return nil
	}
	return errors.New(strings.Join(r.complaints, "; "))
}

func (r *result) word() string {
	switch {
	case r.skipped != "":
		return "skipped"
	case r.err != nil:
		return "FAILED"
	case r.known:
		return "known"
	}
	return "ok"
}

// line is printed as soon as a case has ended.
func (r *result) line() string {
	text := fmt.Sprintf("%-7s %s", r.word(), r.s.name)
	switch {
	case r.skipped != "":
		return text + ": " + r.skipped
	case r.known:
		return text + ": " + r.s.known
	case r.err != nil:
		if r.logs != "" {
			return fmt.Sprintf("%s: %v\n        logs are in %s and end so:\n%s", text, r.err, r.logs, r.tails)
		}
		return fmt.Sprintf("%s: %v", text, r.err)
	}
	return text
}

func printTable(out io.Writer, results []result) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "CASE\tNAT MEASURED\tPATH, CANDIDATES OF A / OF B\tCONNECT\tSYNC 200\tEDITS\tRECOVER\tVERDICT\tNOTES")
	for _, r := range results {
		row := []string{
			r.s.name, r.nat, r.pair, seconds(r.connect), seconds(r.sync), seconds(r.edit), seconds(r.recover), r.word(), r.note,
		}
		for i, cell := range row {
			if cell == "" && i < len(row)-1 {
				row[i] = "-"
			}
		}
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush()
}

func seconds(d time.Duration) string {
	if d == 0 {
		return ""
	}
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
