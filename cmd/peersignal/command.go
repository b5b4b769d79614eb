package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/peersignal/peersignal/internal/buildinfo"
)

// newCommand makes the command line. `peersignal` is `peersignal serve`.
func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "peersignal",
		Short:         "Signaling server with an embedded STUN/TURN relay",
		Version:       buildinfo.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArguments,
		RunE:          serveCommand,
	}
	root.SetVersionTemplate(versionLine() + "\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see peersignal --help", err)}
	})
	addFlags(root.Flags())
	serve := &cobra.Command{
		Use: "serve", Short: "Serve until SIGTERM or SIGINT (what peersignal alone does)", Args: noArguments, RunE: serveCommand,
	}
	addFlags(serve.Flags())
	version := &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArguments,
		Run: func(cmd *cobra.Command, _ []string) {
			_, _ = fmt.Fprintln(cmd.OutOrStdout(), versionLine())
		},
	}
	root.AddCommand(serve, version)
	return root
}

func versionLine() string {
	return "peersignal " + buildinfo.Version + " (" + buildinfo.Go() + ")"
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%q is neither a command nor a flag; see peersignal --help", args[0])}
	}
	return nil
}

func serveCommand(cmd *cobra.Command, _ []string) error {
	s, err := loadSettings(cmd.Flags())
	if err != nil {
		return usageError{err}
	}
	return serve(cmd.Context(), s, cmd.OutOrStdout(), cmd.ErrOrStderr())
}

func addFlags(f *pflag.FlagSet) {
	f.String("config", "", "YAML file with settings, keys named as these flags")
	f.String("listen", ":8080", "address for HTTP and WebSocket; put TLS before it in production")
	f.String("metrics-listen", "", "address for /metrics alone (default: on --listen)")
	f.StringSlice("name", nil, "host:port that clients dial; the first is canonical (repeatable; default: localhost and own addresses)")
	f.StringSlice("allow-origin", nil, "host of web pages that may connect, besides the dialled one (repeatable)")
	f.StringSlice("trusted-proxy", nil, "network (CIDR) whose X-Forwarded-For is believed (repeatable)")
	f.Bool("turn", true, "run the embedded STUN/TURN relay")
	f.StringSlice("turn-listen", []string{":3478"}, "address for STUN/TURN over UDP and TCP (repeatable)")
	f.String("turn-host", "", "host that clients are told for TURN (default: the one that they dialled)")
	f.String("turn-relay-ip", "", "address of this machine that relays (default: derived)")
	f.String("turn-public-ip", "", "address that clients are told for relays, when this machine is behind NAT")
	f.String("turn-ports", "49152-65535", "range of relay ports, min-max")
	f.StringSlice("turn-allow-peer", nil, "network (CIDR) that may be relayed to although it is denied by default (repeatable)")
	f.StringSlice("ice-server", nil, "further stun: URL for clients (repeatable; with credentials: ice-servers in --config)")
	f.Int("max-sessions", 0, "most sessions (default 50000)")
	f.Int("max-sessions-per-address", 0, "most sessions of one IPv4 address or IPv6 /64 (default 64, -1: no limit)")
	f.Int("max-devices-per-user", 0, "most connected devices of one user (default 8)")
	f.Int("messages-per-10s", 0, "most messages of one session in 10 s (default 200)")
	f.Int("offers-per-minute", 0, "most offers from one device to another in a minute (default 20)")
	f.String("log-format", "text", "text or json")
	f.String("log-level", "info", "debug, info, warn or error")
}
