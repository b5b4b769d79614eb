package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

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
	_, _ = fmt.Fprintln(a.err, "peerd: "+strings.ReplaceAll(shownLines(text), "\n", "\n  "))
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
	root.SetFlagErrorFunc(flagError)
	commonFlags(root.PersistentFlags())
	root.AddCommand(
		a.initCmd(), a.upCmd(), a.downCmd(), a.statusCmd(), a.idCmd(), a.eventsCmd(), a.versionCmd(),
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

// args makes a wrong number of arguments, and arguments that can be no name and no id, an error of usage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if check(cmd, given) != nil {
			_, takes, _ := strings.Cut(cmd.Use, " ")
			text := fmt.Sprintf("%s takes no arguments, and not %q", cmd.CommandPath(), given)
			if takes != "" {
				text = fmt.Sprintf("%s does not take %s", cmd.CommandPath(), countOf(len(given), "argument"))
			}
			return usageError{hinted{errors.New(text),
				fmt.Sprintf("Usage: %s. See %s --help.", strings.TrimSpace(cmd.CommandPath()+" "+takes), cmd.CommandPath())}}
		}
		for i, arg := range given {
			switch {
			case arg == "":
				return usageError{fmt.Errorf("argument %d of %s is empty", i+1, cmd.CommandPath())}
			case !utf8.ValidString(arg):
				return usageError{fmt.Errorf("argument %d of %s is not UTF-8: %q", i+1, cmd.CommandPath(), arg)}
			}
		}
		return nil
	}
}

// countOf is a number with what is counted.
func countOf(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// client returns a client of the daemon.
func (a *app) client() *client.Client { return client.New(a.cfg.socket) }

// isTerminal tells whether a person is at the other end.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
