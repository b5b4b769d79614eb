package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/buildinfo"
	"github.com/peersignal/peersignal/internal/daemon/client"
)

// An app is one run of the program, with what it reads and writes.
type app struct {
	in       io.Reader
	out, err io.Writer
	cfg      settings // valid when a command runs
}

// run executes a command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code, text := explain(err)
	_, _ = fmt.Fprintln(a.err, "peerd: "+strings.ReplaceAll(text, "\n", "\n  "))
	return code
}

const rootLong = `peerd keeps the data of your groups on this machine and in sync with the
devices of the other members, directly over WebRTC.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 daemon not running, 4 not found,
5 not allowed, 6 in use, 7 wrong or missing passphrase.`

const rootExample = `  peerd init --name alice
  peerd up --server https://signal.example.org
  peerd group create garden && peerd group invite garden
  peerd join 'peers:join#…' --wait`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "peerd", Short: "Your groups' data, on your machine, in sync", Long: rootLong, Example: rootExample,
		Version: buildinfo.Version, SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) (err error) {
			a.cfg, err = load(cmd)
			return err
		},
	}
	needsSubcommand(root)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	commonFlags(root.PersistentFlags())
	root.AddCommand(
		a.initCmd(), a.upCmd(), a.downCmd(), a.statusCmd(), a.idCmd(), a.eventsCmd(),
		a.groupCmd(), a.joinCmd(), a.leaveCmd(),
		a.putCmd(), a.getCmd(), a.lsCmd(), a.rmCmd(), a.findCmd(), a.indexCmd(), a.watchCmd(),
		a.importCmd(), a.exportCmd(), a.quarantineCmd(), a.fileCmd(), a.notifyCmd(), a.inboxCmd(),
		a.keyCmd(), a.deviceCmd(), a.recoverCmd(),
	)
	addExamples(root)
	return root
}

// needsSubcommand makes a command that only holds others tell what it has.
func needsSubcommand(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		text := fmt.Sprintf("%s has no command %q", cmd.CommandPath(), args[0])
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			text += "\nDid you mean " + strings.Join(near, " or ") + "?"
		}
		return usageError{errors.New(text)}
	}
}

// args makes a wrong number of arguments an error of usage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			return usageError{fmt.Errorf("%w\nUsage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}

// client returns a client of the daemon.
func (a *app) client() *client.Client { return client.New(a.cfg.socket) }

// printf writes to standard output; a reader that went away is no failure.
func (a *app) printf(format string, v ...any) { _, _ = fmt.Fprintf(a.out, format, v...) }

// note writes to standard error what is not the result.
func (a *app) note(format string, v ...any) { _, _ = fmt.Fprintf(a.err, format, v...) }

// print shows a result: as JSON with --json, else by show.
func (a *app) print(v any, show func()) error {
	if !a.cfg.json {
		show()
		return nil
	}
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// isTerminal tells whether a person is at the other end.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
