package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/audit"
)

// newAuditCommand makes `peersignal audit`.
func newAuditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit", Short: "Verify and read an audit log", Args: noArguments,
		Example: "  peersignal audit verify /var/lib/peersignal/audit.jsonl\n" +
			"  peersignal audit show --since 1h --kind refused /var/lib/peersignal/audit.jsonl",
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("audit needs one of verify and show; see peersignal audit --help")}
		},
	}
	cmd.AddCommand(newAuditVerifyCommand(), newAuditShowCommand())
	return cmd
}

const auditVerifyHelp = `Check that an audit log is what the server wrote: that no line was altered,
removed, put in or put elsewhere. FILE is what --audit-file says, and stands for
the full files beside it, too; or name all files of one log, in any order.

Who can write the log can write it anew from some line on, or take its end off,
and nothing in it shows that. It shows in a comparison with a line that was noted
elsewhere (peersignal admin status tells the newest one): --head SEQ:HASH.

Exit codes: 0 in order, 1 not, 2 the command line is wrong.`

func newAuditVerifyCommand() *cobra.Command {
	head, complete := "", false
	cmd := &cobra.Command{
		Use: "verify FILE…", Short: "Find what was altered, removed or put elsewhere", Long: auditVerifyHelp,
		Example: "  peersignal audit verify audit.jsonl\n  peersignal audit verify --head 1207:9d6856… audit.jsonl",
		Args:    someFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			return verifyAudit(cmd.OutOrStdout(), args, head, complete)
		},
	}
	cmd.Flags().StringVar(&head, "head", "", "line that was noted elsewhere: its number, a colon, its hash")
	cmd.Flags().BoolVar(&complete, "complete", false, "the log has to begin with line 1: no old file was deleted")
	return cmd
}

func someFiles(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError{errors.New("say which files: what --audit-file of the server is")}
	}
	return nil
}

// allFiles adds to what a server writes the full files beside it.
func allFiles(args []string) ([]string, error) {
	if len(args) > 1 {
		return args, nil
	}
	files, err := audit.Files(args[0])
	if err != nil {
		return nil, usageError{err}
	}
	return files, nil
}

func verifyAudit(out io.Writer, args []string, head string, complete bool) error {
	noted, err := parseHead(head)
	if err != nil {
		return usageError{err}
	}
	files, err := allFiles(args)
	if err != nil {
		return err
	}
	r, err := audit.Verify(files...)
	switch {
	case err != nil:
		return err
	case r.Last.Seq == 0:
		return errors.New("there is no line in it")
	case complete && r.First.Seq != 1:
		return fmt.Errorf("it begins with line %d: what was before is missing", r.First.Seq)
	}
	if noted.Seq != 0 {
		if err := checkHead(files, r, noted); err != nil {
			return err
		}
	}
	text := fmt.Sprintf("in order: %d lines from %d (%s) to %d (%s)", r.Last.Seq-r.First.Seq+1, r.First.Seq,
		r.First.Time.Format(time.RFC3339), r.Last.Seq, r.Last.Time.Format(time.RFC3339))
	if r.First.Seq != 1 {
		text += "; what was before line " + strconv.FormatUint(r.First.Seq, 10) + " is not there"
	}
	if r.Torn {
		text += "; behind them is the beginning of a line, which is being written or was when the server crashed"
	}
	_, err = fmt.Fprintf(out, "%s\nhead %d:%s\n", text, r.Last.Seq, r.Last.Hash)
	return err
}

func parseHead(text string) (l audit.Line, err error) {
	if text == "" {
		return l, nil
	}
	seq, hash, _ := strings.Cut(text, ":")
	if l.Seq, err = strconv.ParseUint(seq, 10, 64); err != nil || l.Seq == 0 || len(hash) != 64 {
		return l, errors.New("--head is not a number, a colon and 64 hexadecimal digits, as peersignal audit verify prints it")
	}
	l.Hash = hash
	return l, nil
}

// checkHead looks for a line that was noted elsewhere.
func checkHead(files []string, r audit.Report, noted audit.Line) error {
	if noted.Seq < r.First.Seq || noted.Seq > r.Last.Seq {
		return fmt.Errorf("line %d, which was noted, is not there: the log has lines %d to %d", noted.Seq, r.First.Seq, r.Last.Seq)
	}
	return audit.Read(func(l audit.Line) error {
		if l.Seq == noted.Seq && !strings.EqualFold(l.Hash, noted.Hash) {
			return fmt.Errorf("line %d is another than was noted: the log was written anew, up to this line or before it", l.Seq)
		}
		return nil
	}, files...)
}

// auditFilter chooses lines.
type auditFilter struct {
	since  string
	kinds  []string
	device string
	user   string
	json   bool
}

func newAuditShowCommand() *cobra.Command {
	f := auditFilter{}
	cmd := &cobra.Command{
		Use: "show FILE…", Short: "Print the lines that are asked for",
		Long: "Print the lines of an audit log that are asked for. It reads, and does not verify: that is peersignal audit verify.",
		Example: "  peersignal audit show --since 24h audit.jsonl\n  peersignal audit show --kind kicked,blocked audit.jsonl\n" +
			"  peersignal audit show --since 2026-01-02T03:00:00Z --device ID --json audit.jsonl",
		Args: someFiles,
		RunE: func(cmd *cobra.Command, args []string) error { return f.show(cmd.OutOrStdout(), args, time.Now()) },
	}
	cmd.Flags().StringVar(&f.since, "since", "", "time like 2026-01-02T03:04:05Z, or how long ago, like 24h")
	cmd.Flags().StringSliceVar(&f.kinds, "kind", nil, "kinds of events, like refused (repeatable)")
	cmd.Flags().StringVar(&f.device, "device", "", "id of a device")
	cmd.Flags().StringVar(&f.user, "user", "", "public key of a user")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON lines without the chain")
	return cmd
}

func (f auditFilter) show(out io.Writer, args []string, now time.Time) error {
	since, err := parseSince(f.since, now)
	if err != nil {
		return usageError{err}
	}
	known := append([]string{audit.KindStarted, audit.KindStopped, audit.KindRecovered, audit.KindLost}, auditKinds()...)
	for _, kind := range f.kinds {
		if !slices.Contains(known, kind) {
			return usageError{fmt.Errorf("--kind %.40q is none of %s", kind, strings.Join(known, ", "))}
		}
	}
	files, err := allFiles(args)
	if err != nil {
		return err
	}
	print := f.printer(out)
	return audit.Read(func(l audit.Line) error {
		if l.Time.Before(since) || len(f.kinds) > 0 && !slices.Contains(f.kinds, l.Kind) ||
			f.device != "" && f.device != l.Device || f.user != "" && f.user != l.User {
			return nil
		}
		return print(l)
	}, files...)
}

func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("--since %.40q is neither a time like 2026-01-02T03:04:05Z nor how long ago, like 24h", text)
	}
	return t, nil
}

// printer prints a line at a time: a log can be long.
func (f auditFilter) printer(out io.Writer) func(audit.Line) error {
	if f.json {
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		return func(l audit.Line) error {
			return enc.Encode(map[string]any{
				"seq": l.Seq, "time": l.Time, "kind": l.Kind, "session": l.Session, "device": l.Device, "user": l.User,
				"address": l.Address, "code": l.Code, "detail": l.Detail,
			})
		}
	}
	return func(l audit.Line) error {
		columns := []string{strconv.FormatUint(l.Seq, 10), l.Time.Format("2006-01-02T15:04:05.000Z"), l.Kind}
		for _, c := range []struct{ name, value string }{
			{"code", l.Code}, {"device", l.Device}, {"user", l.User}, {"address", l.Address}, {"session", l.Session}, {"detail", l.Detail},
		} {
			if c.value != "" {
				columns = append(columns, c.name+"="+c.value)
			}
		}
		w := &strings.Builder{}
		line(w, columns...)
		_, err := io.WriteString(out, strings.ReplaceAll(w.String(), "\t", "  "))
		return err
	}
}
