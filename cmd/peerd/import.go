package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/internal/daemon/client"
)

func (a *app) importCmd() *cobra.Command {
	var typ, key string
	cmd := &cobra.Command{
		Use: "import GROUP FILE|-", Short: "Store a stream of documents",
		Long: `Reads JSON objects, one behind the other (NDJSON too), and stores them, 1,000 in a
transaction. Every document gets an id that depends only on the group, its type
and the value of --key (without --key: its own id, else its content), so an
import can be repeated or resumed: what is there already stays unchanged.`,
		Example: `  peerd import garden records.ndjson --type Record --key number
  go list -json std | peerd import garden - --type Package --key ImportPath`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, name, closeIn, err := a.open(args[1:])
			if err != nil {
				return err
			}
			defer closeIn()
			path := query(groupPath(args[0], "docs"), "type", typ, "key", key)
			return a.importFrom(cmd.Context(), path, in, name)
		},
	}
	cmd.Flags().StringVar(&typ, "type", "", "type of documents that have none")
	cmd.Flags().StringVar(&key, "key", "", "member whose value identifies a document in its type")
	return cmd
}

func (a *app) importFrom(ctx context.Context, path string, in io.Reader, name string) error {
	show := a.progress(in)
	var last api.Import
	// The transport must not close standard input or wait for its end.
	err := a.client().Lines(ctx, http.MethodPut, path, io.NopCloser(io.TeeReader(in, show)), func(line []byte) error {
		if err := json.Unmarshal(line, &last); err != nil {
			return fmt.Errorf("reading peerd's answer: %w", err)
		}
		show.counts(last)
		return nil
	})
	show.end()
	if err == nil && !last.Done {
		err = client.ErrEnded
	}
	if err != nil {
		next := "The same command goes on where this one ended."
		if failed, ok := errors.AsType[*api.Error](err); ok && failed.Code == api.CodeInvalid {
			next = "Correct it and repeat the command."
		}
		return hinted{fmt.Errorf("importing %s: %w", name, err), fmt.Sprintf("%s stored safely. %s", countAre(last.Read), next)}
	}
	return a.print(last, func() { a.printf("%s\n", countLine(last)) })
}

// countAre is the beginning of a sentence about so many documents.
func countAre(n int) string {
	if n == 1 {
		return "1 document is"
	}
	return fmt.Sprintf("%d documents are", n)
}

func countLine(i api.Import) string {
	return fmt.Sprintf("%d documents: %d new, %d changed, %d unchanged", i.Read, i.New, i.Changed, i.Unchanged)
}

// A progress shows how far an import is: a bar for a person, else a line every
// few seconds.
type progress struct {
	bar  *progressbar.ProgressBar
	note func(string, ...any)
	last time.Time
}

const progressEvery = 2 * time.Second

func (a *app) progress(in io.Reader) *progress {
	p := &progress{note: a.note, last: time.Now()}
	if !isTerminal(a.err) {
		return p
	}
	size := int64(-1)
	if f, ok := in.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
	}
	p.bar = progressbar.NewOptions64(size, progressbar.OptionSetWriter(a.err), progressbar.OptionShowBytes(true),
		progressbar.OptionSetDescription("importing"), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	return p
}

// Write counts bytes that were sent.
func (p *progress) Write(b []byte) (int, error) {
	if p.bar != nil {
		_ = p.bar.Add(len(b))
	}
	return len(b), nil
}

func (p *progress) counts(i api.Import) {
	switch {
	case i.Done:
	case p.bar != nil:
		p.bar.Describe(fmt.Sprintf("%d stored", i.Read))
	case time.Since(p.last) >= progressEvery:
		p.last = time.Now()
		p.note("%s\n", countLine(i))
	}
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}

func (a *app) exportCmd() *cobra.Command {
	return &cobra.Command{
		Use: "export GROUP [FILE]", Short: "Write all documents as NDJSON",
		Long: `Writes the documents of a group, one a line, in the order of their ids and in
canonical form: replicas that hold the same give the same bytes.`,
		Example: "  peerd export garden | sha256sum\n  peerd export garden garden.ndjson",
		Args:    args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := groupPath(args[0], "export")
			if len(args) == 1 || args[1] == "-" {
				return a.client().Copy(cmd.Context(), path, a.exact())
			}
			return a.exportTo(cmd.Context(), path, args[1])
		},
	}
}

// exportTo writes a file that appears only when it is complete.
func (a *app) exportTo(ctx context.Context, path, file string) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".peerd-export-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	err = a.client().Copy(ctx, path, tmp)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}
