package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/load"
	"github.com/peersignal/peersignal/pkg/wire"
)

const loadHelp = `Put a signaling server under load, and measure what its clients see.

Scenarios:
  pairs      devices in pairs send each other offers and answers, as fast as they
             are answered, or --rate messages a second
  groups     devices in groups leave their group and join it again, --rate a second
  newcomers  --count devices join one group of all the others, one after the other
  idle       devices connect, hold their topics, and are silent
  auth       --devices at a time connect, authenticate and leave, again and again
  storm      all connections are cut at once, --count times, and all come back

A server's default limits are for people, not for a load. To measure the machine
and not the limits start the server with, for instance,
  peersignal --messages-per-10s 1000000 --offers-per-minute 1000000

Exit codes: 0 when all is well, 1 when no device could connect or there were more
errors than --max-errors, 2 when the command line is wrong.`

const loadExamples = `  peersignal load http://localhost:8080 --devices 2000 --duration 30s
  peersignal load https://signal.example.org --scenario pairs --rate 200
  peersignal load --scenario idle --devices 20000 --server-pid $(pidof -s peersignal)
  peersignal load --scenario auth --devices 32 --json -`

// loadFlags are the flags that are no field of load.Config.
type loadFlags struct {
	scenario  string
	json      string
	ca        string
	maxErrors uint64
	insecure  bool
	quiet     bool
	resume    bool
	ramp      time.Duration
}

// newLoadCommand is `peersignal load`.
func newLoadCommand() *cobra.Command {
	var cfg load.Config
	var f loadFlags
	cmd := &cobra.Command{
		Use: "load [URL]", Short: "Put a server under load and measure it", Long: loadHelp, Example: loadExamples,
		Args: atMostOne("URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.URL = "http://localhost:8080"
			if len(args) == 1 {
				cfg.URL = args[0]
			}
			return runLoad(cmd, cfg, f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.scenario, "scenario", string(load.Pairs), "pairs, groups, newcomers, idle, auth or storm")
	fs.IntVar(&cfg.Devices, "devices", 100, "devices that are connected at a time")
	fs.IntVar(&cfg.GroupsOf, "groups-of", 0, "devices of a group (default 10; newcomers: all)")
	fs.IntVar(&cfg.Topics, "topics", 5, "topics of each device")
	fs.IntVar(&cfg.Size, "size", 1600, "bytes of an offer or answer")
	fs.Float64Var(&cfg.Rate, "rate", 0, "messages (pairs) or changes (groups) a second in all (default: as fast as answered; groups: 100)")
	fs.IntVar(&cfg.Count, "count", 0, "newcomers (default 100) or storms (default 1)")
	fs.IntVar(&cfg.Burst, "burst", 1, "newcomers that join at the same time")
	fs.DurationVar(&cfg.Duration, "duration", 10*time.Second, "how long it is measured at most")
	fs.DurationVar(&cfg.Warmup, "warmup", 0, "how long it goes on before it is measured")
	fs.Float64Var(&cfg.ConnectRate, "connections-per-second", 0, "most connections a second (default: no limit)")
	fs.DurationVar(&f.ramp, "ramp", 0, "connect all devices evenly within this time, instead of --connections-per-second")
	fs.IntVar(&cfg.Connecting, "connecting", 64, "devices that connect at the same time")
	fs.DurationVar(&cfg.ConnectTimeout, "connect-timeout", 20*time.Second, "for one device to connect and to publish its topics")
	fs.StringSliceVar(&cfg.From, "from", nil, "local address to connect from (repeatable; one holds about 28,000 connections)")
	fs.IntVar(&cfg.ServerPID, "server-pid", 0, "process of the server, on this machine, to measure its processor time and memory")
	fs.Uint64Var(&f.maxErrors, "max-errors", 0, "how many errors are no failure")
	fs.StringVar(&f.json, "json", "", "file for the report as JSON, - for standard output instead of text")
	fs.StringVar(&f.ca, "ca-file", "", "file with certificates (PEM) to trust instead of the system's")
	fs.BoolVar(&f.insecure, "insecure", false, "accept any certificate, and http to another machine")
	fs.BoolVar(&f.resume, "resume", true, "devices resume their sessions and acknowledge what arrives, as peerd does")
	fs.BoolVar(&f.quiet, "quiet", false, "no line of progress")
	return cmd
}

func runLoad(cmd *cobra.Command, cfg load.Config, f loadFlags) error {
	raw := cfg.URL
	if f.insecure && strings.HasPrefix(raw, "http:") || f.insecure && strings.HasPrefix(raw, "ws:") {
		raw = strings.TrimSuffix(raw, "?insecure=1") + "?insecure=1"
	}
	name, dialled, err := wire.CanonicalServer(raw)
	if err != nil && !f.insecure && (strings.HasPrefix(raw, "http:") || strings.HasPrefix(raw, "ws:")) {
		err = fmt.Errorf("%w (here: --insecure)", err)
	}
	if err != nil {
		return usageError{err}
	}
	for _, flag := range []string{"devices", "groups-of", "topics", "size", "count", "burst", "duration", "connecting"} {
		if set := cmd.Flags().Lookup(flag); set.Changed && (set.Value.String() == "0" || set.Value.String() == "0s") {
			return usageError{fmt.Errorf("--%s must be more than 0", flag)}
		}
	}
	cfg.URL, cfg.Dialect, cfg.Scenario = strings.TrimSuffix(dialled, wire.Path), load.Peersignal{Server: name, NoResume: !f.resume}, load.Scenario(f.scenario)
	if cfg.TLS, err = loadTLS(f); err != nil {
		return usageError{err}
	}
	if f.ramp < 0 || f.ramp > 0 && cfg.ConnectRate > 0 {
		return usageError{errors.New("--ramp is a time, and stands instead of --connections-per-second")}
	}
	if f.ramp > 0 {
		cfg.ConnectRate = float64(cfg.Devices) / f.ramp.Seconds()
	}
	stopTelling := func() {}
	if !f.quiet {
		cfg.Progress, stopTelling = tellProgress(cmd.ErrOrStderr())
	}
	report, err := load.Run(cmd.Context(), cfg)
	stopTelling()
	if errors.Is(err, load.ErrConfig) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if err := writeReport(cmd.OutOrStdout(), report, f.json); err != nil {
		return err
	}
	if report.Errors > f.maxErrors {
		return fmt.Errorf("there were %d errors, more than --max-errors %d", report.Errors, f.maxErrors)
	}
	return nil
}

func loadTLS(f loadFlags) (*tls.Config, error) {
	roots, err := readRoots("--ca-file", f.ca)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: f.insecure, RootCAs: roots}, nil
}

// tellProgress writes one line over the other on a terminal, else below it.
func tellProgress(to io.Writer) (progress func(string), stop func()) {
	file, ok := to.(*os.File)
	if !ok || !isatty.IsTerminal(file.Fd()) {
		return func(line string) { _, _ = fmt.Fprintln(to, line) }, func() {}
	}
	return func(line string) { _, _ = fmt.Fprintf(to, "\r\x1b[K%s", line) }, func() { _, _ = fmt.Fprint(to, "\r\x1b[K") }
}

// writeReport prints the report, or writes it as JSON to a file, or instead.
func writeReport(out io.Writer, report *load.Report, file string) error {
	if file != "-" {
		if err := report.Print(out); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
	}
	if file == "" {
		return nil
	}
	content, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	content = append(content, '\n')
	if file == "-" {
		_, err = out.Write(content)
	} else {
		err = os.WriteFile(file, content, 0o644)
	}
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}
