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
SIGINT; SIGHUP reads its configuration again. All settings are in peersignal
config doc; each is a flag, a variable (PEERSIGNAL_TURN_PUBLIC_IP) and a key of
the --config file.`

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
	root.SetFlagErrorFunc(flagError)
	addFlags(root.Flags(), firstFlags)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.InitDefaultVersionFlag()
	root.Flags().Lookup("version").Hidden = true
	serve := &cobra.Command{
		Use: "serve", Short: "What peersignal alone does; its --help shows more flags", Long: serveHelp, Example: serveExamples,
		Args: noArguments, RunE: serveCommand,
	}
	addFlags(serve.Flags(), usualFlags)
	version := &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArguments, Example: "  peersignal version",
		Run: func(cmd *cobra.Command, _ []string) {
			_, _ = fmt.Fprintln(cmd.OutOrStdout(), versionLine())
		},
	}
	root.SetHelpCommand(newHelpCommand())
	root.AddCommand(serve, newConfigCommand(), newAdminCommand(), newAuditCommand(), newLoadCommand(), newDoctorCommand(), newPushKeyCommand(), newHealthCommand(), version)
	return root
}

// newHelpCommand is cobra's help, which exits with 0 for what is no command.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Help about a command", Example: "  peersignal help admin block",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return noArguments(about, args[len(args)-max(len(rest), 1):])
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

func versionLine() string {
	return "peersignal " + buildinfo.Version + " (" + buildinfo.Go() + ")"
}

func serveCommand(cmd *cobra.Command, _ []string) error {
	return serve(cmd.Context(), cmd.Flags(), cmd.OutOrStdout(), cmd.ErrOrStderr())
}
