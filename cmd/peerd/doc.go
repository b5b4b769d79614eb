package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/internal/daemon/client"
)

// query adds parameters that are set to a path.
func query(path string, pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	if len(v) == 0 {
		return path
	}
	return path + "?" + v.Encode()
}

func (a *app) putCmd() *cobra.Command {
	var typ, id string
	cmd := &cobra.Command{
		Use: "put GROUP [FILE|-]", Short: "Store one document",
		Long: `Stores a JSON object, at most 1 MiB, and prints its id. With an id, its own or
--id, the document becomes exactly this object.`,
		Example: `  echo '{"type":"Note","text":"hello"}' | peerd put garden
  peerd put garden note.json --id 00kqn91s56yt2gu3yf5vnbg67`,
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := a.readDocument(args[1:])
			if err != nil {
				return err
			}
			var d api.Document
			path := query(groupPath(args[0], "docs"), "type", typ, "id", id)
			if err := a.client().Do(cmd.Context(), "POST", path, client.Raw(body), &d); err != nil {
				return err
			}
			return a.print(d, func() { a.printf("%s\n", d.ID) })
		},
	}
	cmd.Flags().StringVar(&typ, "type", "", "type of a document that has none")
	cmd.Flags().StringVar(&id, "id", "", "id of the document to replace")
	return cmd
}

// readDocument reads the text of one document. It is sent as it is: the daemon's
// strict reader says what is wrong with it.
func (a *app) readDocument(args []string) ([]byte, error) {
	in, name, closeIn, err := a.open(args)
	if err != nil {
		return nil, err
	}
	defer closeIn()
	body, err := io.ReadAll(io.LimitReader(in, api.MaxBody+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(body) > api.MaxBody {
		return nil, fmt.Errorf("the document in %s is too large: at most 1 MiB", name)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, fmt.Errorf("there is no document in %s", name)
	}
	return body, nil
}

// open opens the file that the first argument names; none and - are standard input.
func (a *app) open(args []string) (io.Reader, string, func(), error) {
	if len(args) == 0 || args[0] == "-" {
		return a.in, "standard input", func() {}, nil
	}
	f, err := os.Open(args[0])
	if err != nil {
		return nil, "", nil, usageError{err}
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, "", nil, usageError{errors.Join(fmt.Errorf("%s is a folder", args[0]), f.Close())}
	}
	return f, args[0], func() { _ = f.Close() }, nil
}

func (a *app) getCmd() *cobra.Command {
	var firstSeen bool
	cmd := &cobra.Command{
		Use: "get GROUP ID", Short: "Print one document", Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			tie := ""
			if firstSeen {
				tie = "local"
			}
			var d api.Document
			if err := a.client().Do(cmd.Context(), "GET", query(groupPath(args[0], "docs", args[1]), "tie", tie), nil, &d); err != nil {
				return err
			}
			if d.Tied {
				a.note("peerd: other devices may show something else\n")
			}
			return a.print(d, func() { a.showDocument(d.Doc) })
		},
	}
	cmd.Flags().BoolVar(&firstSeen, "first-seen", false, "of changes of the same millisecond show the one that came here first")
	return cmd
}

// showDocument indents for a person and leaves bytes as they are for a program.
func (a *app) showDocument(doc json.RawMessage) {
	var b bytes.Buffer
	if !isTerminal(a.out) || json.Indent(&b, doc, "", "  ") != nil {
		b.Reset()
		b.Write(doc)
	}
	b.WriteByte('\n')
	_, _ = b.WriteTo(a.exact())
}

func (a *app) lsCmd() *cobra.Command {
	var typ, after string
	var limit int
	cmd := &cobra.Command{
		Use: "ls GROUP", Short: "List documents in the order of their ids",
		Example: "  peerd ls garden --type Note\n  peerd ls garden --json --limit 10",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := query(groupPath(args[0], "docs"), "type", typ, "after", after, "limit", fmt.Sprint(limit))
			return a.client().Lines(cmd.Context(), "GET", path, nil, func(line []byte) error {
				if a.cfg.json {
					return a.line("%s\n", line)
				}
				var d api.Document
				if err := json.Unmarshal(line, &d); err != nil {
					return fmt.Errorf("reading peerd's answer: %w", err)
				}
				return a.line("%s  %s  %s\n", d.ID, when(d.Modified), d.Type)
			})
		},
	}
	cmd.Flags().StringVar(&typ, "type", "", "only documents of this type")
	cmd.Flags().StringVar(&after, "after", "", "only ids greater than this one")
	cmd.Flags().IntVar(&limit, "limit", 0, "at most so many (0: all)")
	return cmd
}

func when(ms int64) string { return time.UnixMilli(ms).Format("2006-01-02 15:04:05") }

func (a *app) rmCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rm GROUP ID...", Short: "Delete documents, for everybody", Args: args(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, id := range args[1:] {
				if err := a.client().Do(cmd.Context(), "DELETE", groupPath(args[0], "docs", id), nil, nil); err != nil {
					return err
				}
			}
			return a.print(struct{}{}, func() {})
		},
	}
}

func (a *app) watchCmd() *cobra.Command {
	var after int64
	cmd := &cobra.Command{
		Use: "watch GROUP", Short: "Print documents as they change",
		Long: `Prints each document that is written or deleted, here or by others, until it is
interrupted. With --json each line has a version, from which --after goes on
without missing anything.`,
		Example: "  peerd watch garden\n  peerd watch garden --json --after 0",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			from := ""
			if cmd.Flags().Changed("after") {
				from = fmt.Sprint(after)
			}
			path := query(groupPath(args[0], "watch"), "after", from)
			err := a.client().Lines(cmd.Context(), "GET", path, nil, a.showChange)
			if cmd.Context().Err() != nil {
				return nil // interrupted, as it should be
			}
			return err
		},
	}
	cmd.Flags().Int64Var(&after, "after", 0, "begin behind this version; 0 is everything (default: from now on)")
	return cmd
}

func (a *app) showChange(line []byte) error {
	if a.cfg.json {
		return a.line("%s\n", line)
	}
	var d api.Document
	if err := json.Unmarshal(line, &d); err != nil {
		return fmt.Errorf("reading peerd's answer: %w", err)
	}
	what := d.Type
	if d.Deleted {
		what = "(deleted)"
	}
	return a.line("%s  %s  %s  %s\n", when(d.Modified), d.ID, what, d.Doc)
}

func (a *app) eventsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "events", Short: "Print what happens, as JSON lines", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := a.client().Lines(cmd.Context(), "GET", "/events", nil, func(line []byte) error {
				return a.line("%s\n", line)
			})
			if cmd.Context().Err() != nil {
				return nil
			}
			return err
		},
	}
}

func (a *app) quarantineCmd() *cobra.Command {
	var group string
	cmd := &cobra.Command{
		Use: "quarantine", Short: "List entries of others that can't be judged yet",
		Long: `Entries that refer to something that this device does not have yet, or whose time
has not come. They are neither shown nor passed on, and are dropped after 14 days.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var items []api.Quarantined
			if err := a.client().Do(cmd.Context(), "GET", query("/quarantine", "group", group), nil, &items); err != nil {
				return err
			}
			return a.print(items, func() {
				a.table(func(w io.Writer) {
					row(w, "RECEIVED", "GROUP", "FROM", "ENTRY", "BYTES", "WAITS FOR")
					for _, q := range items {
						row(w, when(q.Received), q.Group, q.From, q.Hash, q.Bytes, fmt.Sprint(q.Waits))
					}
				})
			})
		},
	}
	cmd.Flags().StringVar(&group, "group", "", "only of this group")
	return cmd
}
