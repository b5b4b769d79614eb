package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/internal/daemon/client"
)

func (a *app) fileCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "file", Short: "Files of groups",
		Long: `Files are stored and sent apart from documents, in verified chunks, from all
devices at once that have them, and only to who asks. A file is named by its id
(SHA-256 of the content), the begin of it (6 characters or more), or its name.`,
		Example: `  peerd file add garden plan.pdf
  peerd file list garden
  peerd file get garden plan.pdf -o plan.pdf
  peerd file status`,
	}
	needsSubcommand(cmd)
	cmd.AddCommand(
		a.fileAddCmd(), a.fileGetCmd(), a.fileListCmd(), a.fileStatusCmd(), a.fileShareCmd(),
		a.filePinCmd("pin", "Keep a file on this device, also when the group forgets it", true),
		a.filePinCmd("unpin", "Let a file go when the group forgets it", false), a.fileForgetCmd(),
	)
	return cmd
}

func filePath(group, file string, more ...string) string {
	return groupPath(group, append([]string{"files", file}, more...)...)
}

func (a *app) fileAddCmd() *cobra.Command {
	var name, typ string
	var users []string
	var public bool
	cmd := &cobra.Command{
		Use: "add GROUP FILE|-", Short: "Give a file to a group",
		Long: `Copies a file into the data folder and tells the group about it. Members fetch it
when they want it. The same content is stored once.`,
		Example: "  peerd file add garden plan.pdf\n  tar c photos | peerd file add garden - --name photos.tar",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, source, closeIn, err := a.open(args[1:])
			if err != nil {
				return err
			}
			defer closeIn()
			if name == "" && args[1] != "-" {
				name = filepath.Base(source)
			}
			if typ == "" {
				typ = mime.TypeByExtension(filepath.Ext(name))
			}
			v := url.Values{"name": {name}, "type": {typ}, "user": users}
			if public {
				v.Set("public", "1")
			}
			return a.addFile(cmd.Context(), groupPath(args[0], "files")+"?"+v.Encode(), in)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name that others see (default: that of the file)")
	cmd.Flags().StringVar(&typ, "type", "", "media type (default: by the name)")
	cmd.Flags().StringSliceVar(&users, "user", nil, "who may have it beside the members of the group")
	cmd.Flags().BoolVar(&public, "public", false, "whoever is connected with a member and has its reference may have it")
	return cmd
}

func (a *app) addFile(ctx context.Context, path string, in io.Reader) error {
	size := sizeOf(in)
	show := a.byteProgress("adding", size)
	var f api.File
	err := a.client().Upload(ctx, path, io.TeeReader(in, show), size, &f)
	show.end()
	if err != nil {
		return err
	}
	return a.print(f, func() { a.printf("%s\n", f.File) })
}

// sizeOf returns the length of a regular file, else -1.
func sizeOf(in io.Reader) int64 {
	if f, ok := in.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return info.Size()
		}
	}
	return -1
}

type getOptions struct {
	output    string
	force     bool
	fetchOnly bool
}

func (a *app) fileGetCmd() *cobra.Command {
	var o getOptions
	cmd := &cobra.Command{
		Use: "get [GROUP] FILE|REFERENCE", Short: "Fetch a file and write it",
		Long: `Fetches a file into the data folder, unless it is there, and writes it. When it is
interrupted the daemon goes on; the same command waits for it again. A reference
(peers:file#…) needs no group: it is for files that are shared with you or public.`,
		Example: "  peerd file get garden plan.pdf\n  peerd file get garden plan.pdf -o - | less\n  peerd file get 'peers:file#…' -o plan.pdf",
		Args:    args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return a.getByRef(cmd.Context(), args[0], o)
			}
			f, err := a.fetch(cmd.Context(), filePath(args[0], args[1], "fetch"), nil)
			if err != nil {
				return err
			}
			return a.save(cmd.Context(), filePath(args[0], f.File, "content"), f, o)
		},
	}
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "file or folder to write, - for standard output (default: its name, here)")
	cmd.Flags().BoolVar(&o.force, "force", false, "replace a file that exists")
	cmd.Flags().BoolVar(&o.fetchOnly, "fetch-only", false, "only into the data folder")
	return cmd
}

func (a *app) getByRef(ctx context.Context, ref string, o getOptions) error {
	body, err := json.Marshal(api.FetchRef{Ref: ref})
	if err != nil {
		return err
	}
	f, err := a.fetch(ctx, "/files/fetch", strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	return a.save(ctx, client.Path("files", f.File, "content"), f, o)
}

// fetch follows a fetch until the whole file is there.
func (a *app) fetch(ctx context.Context, path string, body io.Reader) (api.File, error) {
	var f api.File
	show := a.byteProgress("fetching", -1)
	err := a.client().Lines(ctx, http.MethodPost, path, body, func(line []byte) error {
		if err := json.Unmarshal(line, &f); err != nil {
			return fmt.Errorf("reading peerd's answer: %w", err)
		}
		show.reach(f.Have, f.Size, "from "+countOf(f.Sources, "device"))
		return nil
	})
	show.end()
	if err == nil && !f.Complete {
		err = client.ErrEnded
	}
	if errors.Is(err, client.ErrEnded) {
		return f, hinted{err, "What was fetched stays. Start it with `peerd up`, and repeat the command."}
	}
	if err != nil && ctx.Err() != nil {
		err = hinted{fmt.Errorf("interrupted: %w", err), "The daemon goes on fetching; the same command waits for it again."}
	}
	return f, err
}

// save writes a file that is complete.
func (a *app) save(ctx context.Context, path string, f api.File, o getOptions) error {
	if o.fetchOnly {
		return a.print(f, func() {})
	}
	if o.output == "-" {
		return a.client().Download(ctx, path, a.out)
	}
	target := o.output
	if info, err := os.Stat(target); target == "" || err == nil && info.IsDir() {
		target = filepath.Join(target, safeName(f.Name, f.File))
	}
	if _, err := os.Lstat(target); err == nil && !o.force {
		return hinted{fmt.Errorf("writing %s: it exists", target), "Name another one with -o, or use --force."}
	}
	if err := a.writeTo(ctx, path, target); err != nil {
		return err
	}
	return a.print(f, func() { a.printf("%s\n", target) })
}

// writeTo writes a file that appears only when it is whole.
func (a *app) writeTo(ctx context.Context, path, target string) error {
	tmp, err := os.CreateTemp(filepath.Dir(target), ".peerd-file-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", target, err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	err = a.client().Download(ctx, path, tmp)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", target, err)
	}
	if err := os.Rename(tmp.Name(), target); err != nil {
		return fmt.Errorf("writing %s: %w", target, err)
	}
	return nil
}

// safeName makes the name of a file out of what its author called it: no
// folders, nothing hidden, nothing that a system treats specially.
func safeName(name, id string) string {
	clean := strings.Map(func(r rune) rune {
		if !plain(r) || strings.ContainsRune(`/\:*?"<>|`, r) {
			return '_'
		}
		return r
	}, name)
	clean = strings.Trim(clean, " .")
	if strings.HasPrefix(clean, "-") {
		clean = "_" + clean[1:] // a program would take it for an option
	}
	if clean == "" {
		return id
	}
	return clean
}

func (a *app) fileListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list GROUP", Aliases: []string{"ls"}, Short: "List the files of a group", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var list []api.File
			if err := a.client().Do(cmd.Context(), "GET", groupPath(args[0], "files"), nil, &list); err != nil {
				return err
			}
			return a.print(list, func() { a.showFiles(list) })
		},
	}
}

func (a *app) fileStatusCmd() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the files on this device", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var local api.LocalFiles
			if err := a.client().Do(cmd.Context(), "GET", "/files", nil, &local); err != nil {
				return err
			}
			return a.print(local, func() {
				a.showFiles(local.Files)
				limit := ""
				if local.Quota > 0 {
					limit = " of " + bytesText(local.Quota)
				}
				a.printf("files: %d, %s%s\n", len(local.Files), bytesText(local.Used), limit)
			})
		},
	}
}

func (a *app) showFiles(list []api.File) {
	a.table(func(w io.Writer) {
		row(w, "FILE", "SIZE", "HERE", "NAME", "NOTES")
		for _, f := range list {
			row(w, f.File[:min(16, len(f.File))], bytesText(f.Size), hereText(f), orDash(f.Name), fileNotes(f))
		}
	})
}

func bytesText(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func hereText(f api.File) string {
	switch {
	case f.Complete:
		return "yes"
	case f.Have == 0 && !f.Fetching:
		return "no"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(f.Have)/float64(max(f.Size, 1)))
}

func fileNotes(f api.File) string {
	var out []string
	add := func(when bool, text string) {
		if when {
			out = append(out, text)
		}
	}
	add(f.Fetching && f.Sources > 0, fmt.Sprintf("fetching from %d", f.Sources))
	add(f.Fetching && f.Sources == 0, "nobody who has it is connected, or it waits for its turn")
	add(f.Pinned, "pinned")
	add(f.Public, "public")
	add(len(f.Users) > 0, fmt.Sprintf("shared with %d more", len(f.Users)))
	add(f.Error != "", f.Error)
	return strings.Join(out, "; ")
}

func (a *app) fileShareCmd() *cobra.Command {
	var in api.ShareFile
	cmd := &cobra.Command{
		Use: "share GROUP FILE", Short: "Change who may have a file beside the members",
		Long: `Replaces the list of users who may have the file, and prints the reference that
they need: peerd file get REFERENCE. Without --user and --public only members may.`,
		Example: "  peerd file share garden plan.pdf --user bob",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var f api.File
			if err := a.client().Do(cmd.Context(), "POST", filePath(args[0], args[1], "share"), in, &f); err != nil {
				return err
			}
			return a.print(f, func() { a.printf("%s\n", f.Ref) })
		},
	}
	cmd.Flags().StringSliceVar(&in.Users, "user", nil, "user who may have it")
	cmd.Flags().BoolVar(&in.Public, "public", false, "whoever is connected with a member and has its reference may have it")
	return cmd
}

func (a *app) filePinCmd(use, short string, pinned bool) *cobra.Command {
	return &cobra.Command{
		Use: use + " GROUP FILE", Short: short, Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.client().Do(cmd.Context(), "POST", filePath(args[0], args[1], "pin"), api.PinFile{Pinned: pinned}, nil); err != nil {
				return err
			}
			return a.print(struct{}{}, func() {})
		},
	}
}

func (a *app) fileForgetCmd() *cobra.Command {
	var everybody bool
	cmd := &cobra.Command{
		Use: "forget [GROUP] FILE", Short: "Remove a file from this device, and end its fetch",
		Long: `Removes the copy on this device. With --for-everybody the group forgets the file
too; copies that others have stay until their devices evict them.`,
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := client.Path("files", args[0])
			if len(args) == 2 {
				path = filePath(args[0], args[1])
			} else if everybody {
				return usageError{errors.New("--for-everybody needs a group")}
			}
			if everybody {
				path += "?document=1"
			}
			if err := a.client().Do(cmd.Context(), "DELETE", path, nil, nil); err != nil {
				return err
			}
			return a.print(struct{}{}, func() {})
		},
	}
	cmd.Flags().BoolVar(&everybody, "for-everybody", false, "also delete the document that tells the group about it")
	return cmd
}
