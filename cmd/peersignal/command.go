package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/buildinfo"
)

const serveExamples = `  peersignal
  peersignal --name signal.example.org --tls-cert chain.pem --tls-key key.pem
  peersignal --config /etc/peersignal/config.yaml`

const serveHelp = `Signaling server with an embedded STUN/TURN relay. It serves until SIGTERM or
SIGINT; SIGHUP reads its configuration again.

These are the settings that most need. All are in peersignal config doc; each is
a flag, a variable (PEERSIGNAL_TURN_PUBLIC_IP) and a key of the --config file.`

// newCommand makes the command line. `peersignal` is `peersignal serve`.
func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "peersignal",
		Short:         "Signaling server with an embedded STUN/TURN relay",
		Long:          serveHelp,
		Example:       serveExamples,
		Version:       buildinfo.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArguments,
		RunE:          serveCommand,
	}
	root.SetVersionTemplate(versionLine() + "\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see peersignal --help", flagError(err))}
	})
	addFlags(root.Flags())
	serve := &cobra.Command{
		Use: "serve", Short: "Serve until SIGTERM or SIGINT (what peersignal alone does)", Long: serveHelp, Example: serveExamples,
		Args: noArguments, RunE: serveCommand,
	}
	addFlags(serve.Flags())
	version := &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArguments,
		Run: func(cmd *cobra.Command, _ []string) {
			_, _ = fmt.Fprintln(cmd.OutOrStdout(), versionLine())
		},
	}
	root.AddCommand(serve, newConfigCommand(), newAdminCommand(), newAuditCommand(), newLoadCommand(), newDoctorCommand(), newPushKeyCommand(), newHealthCommand(), version)
	return root
}

func versionLine() string {
	return "peersignal " + buildinfo.Version + " (" + buildinfo.Go() + ")"
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var commands []string
	for _, c := range cmd.Commands() {
		commands = append(commands, c.Name())
	}
	return usageError{fmt.Errorf("%q is neither a command nor a flag%s; see peersignal --help",
		args[0], didYouMean(args[0], commands))}
}

func serveCommand(cmd *cobra.Command, _ []string) error {
	return serve(cmd.Context(), cmd.Flags(), cmd.OutOrStdout(), cmd.ErrOrStderr())
}
