package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/doctor"
)

// errUnwell is returned when a check failed; the checks have been printed.
var errUnwell = errors.New("something does not work, see above")

// newDoctorCommand makes `peersignal doctor`.
func newDoctorCommand() *cobra.Command {
	var (
		config, caFile string
		asJSON, push   bool
		pushHosts      []string
		timeout        time.Duration
	)
	cmd := &cobra.Command{
		Use:   "doctor [URL]",
		Short: "Try everything that a device needs from a server, from where this runs",
		Long: `Try everything that a device needs from a server: its name, certificate,
WebSocket, authentication, the meeting of two devices, STUN and TURN over UDP,
TCP and TLS on IPv4 and IPv6, what the relay must refuse, and clocks. Each line
that is not ok says what to do. Run it where clients are, and on the server.

Without a URL it is the server that environment and configuration file describe.

Exit code 0 if everything works, 1 if something does not, 2 for a wrong command
line.`,
		Example: `  peersignal doctor https://signal.example.org
  peersignal doctor --config /etc/peersignal/config.yaml --push
  peersignal doctor https://signal.example.org --json | jq '.checks[] | select(.status == "failed")'`,
		Args: atMostOne("URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg := doctor.Config{Timeout: timeout}
			var err error
			if cfg.URL, err = doctorURL(config, args); err == nil {
				cfg.RootCAs, err = readRoots("--ca-file", caFile)
			}
			if err != nil {
				return usageError{err}
			}
			if len(pushHosts) > 0 {
				cfg.PushHosts = pushHosts
			} else if push {
				cfg.PushHosts = doctor.DefaultPushHosts()
			}
			return examine(cmd, cfg, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&config, "config", "", "configuration file of the server, without a URL")
	f.StringVar(&caFile, "ca-file", "", "certificates (PEM) that are trusted instead of the system's")
	f.BoolVar(&asJSON, "json", false, "print one JSON object at the end")
	f.BoolVar(&push, "push", false, "try the push services too: on the server's machine")
	f.StringSliceVar(&pushHosts, "push-host", nil, "try this push service instead of the usual ones (repeatable)")
	f.DurationVar(&timeout, "timeout", 5*time.Second, "how long each step may take")
	return cmd
}

// doctorURL is the argument, or how clients dial the configured server.
func doctorURL(config string, args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	s, err := serverSettings(config, config != "")
	if err != nil {
		return "", err
	}
	if len(s.names) > 0 {
		return "https://" + s.names[0], nil
	}
	return localURL(s)
}

func examine(cmd *cobra.Command, cfg doctor.Config, asJSON bool) error {
	out := cmd.OutOrStdout()
	if !asJSON {
		_, _ = fmt.Fprintf(out, "examining %s\n\n", cfg.URL)
		cfg.Report = func(c doctor.Check) { printCheck(out, c) }
	}
	checks, err := doctor.Run(cmd.Context(), cfg)
	if err != nil {
		return usageError{err}
	}
	count := map[doctor.Status]int{}
	for _, c := range checks {
		count[c.Status]++
	}
	well := count[doctor.Failed] == 0
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(struct {
			URL    string         `json:"url"`
			OK     bool           `json:"ok"`
			Checks []doctor.Check `json:"checks"`
		}{cfg.URL, well, checks}); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
	} else {
		_, _ = fmt.Fprintf(out, "\n%d ok, %d warnings, %d failed, %d skipped\n",
			count[doctor.OK], count[doctor.Warning], count[doctor.Failed], count[doctor.Skipped])
	}
	if !well {
		return errUnwell
	}
	return nil
}

func printCheck(out io.Writer, c doctor.Check) {
	mark := map[doctor.Status]string{doctor.OK: "ok  ", doctor.Warning: "warn", doctor.Failed: "FAIL", doctor.Skipped: "skip"}[c.Status]
	_, _ = fmt.Fprintf(out, "%s  %s: %s\n", mark, c.Name, c.Detail)
	if c.Advice != "" {
		_, _ = fmt.Fprintf(out, "      -> %s\n", c.Advice)
	}
}
