package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthTimeout is how long a server has to answer `peersignal health`.
const healthTimeout = 4 * time.Second

// newHealthCommand makes `peersignal health`, which containers run: their images have no other program that could ask.
func newHealthCommand() *cobra.Command {
	var ready bool
	health := &cobra.Command{
		Use:   "health [URL]",
		Short: "Ask a running server whether it is alive, for container health checks",
		Long: `Ask a running server whether it is alive. Without a URL it is the one on this
machine, at the --listen of environment and configuration file. Exit code 0 if
it is, 1 if not, 2 for a wrong command line.`,
		Example: `  peersignal health
  peersignal health --ready
  peersignal health https://signal.example.org`,
		Args: atMostOne("URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			base, err := healthURL(cmd, args)
			if err != nil {
				return usageError{err}
			}
			path := "/livez"
			if ready {
				path = "/readyz"
			}
			return askHealth(cmd.Context(), cmd.OutOrStdout(), base, path, len(args) == 0)
		},
	}
	health.Flags().BoolVar(&ready, "ready", false, "ask whether it takes sessions, too")
	health.Flags().String("config", "", "configuration file (YAML)")
	return health
}

// healthURL is the argument, or where this machine's server listens.
func healthURL(cmd *cobra.Command, args []string) (string, error) {
	if len(args) == 1 {
		u, err := url.Parse(args[0])
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return "", fmt.Errorf("%q is no address of a server: it begins with http:// or https://", args[0])
		}
		return u.Scheme + "://" + u.Host, nil
	}
	file := cmd.Flag("config")
	s, err := serverSettings(file.Value.String(), file.Changed)
	if err != nil {
		return "", err
	}
	return localURL(s)
}

// localURL is where this machine reaches the server that settings describe.
func localURL(s *settings) (string, error) {
	host, port, err := net.SplitHostPort(s.listen)
	if err != nil {
		return "", fmt.Errorf("the address %q of the setting listen: %w", s.listen, err)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip.Is6() && !ip.Is4In6() {
			host = "::1"
		}
	}
	scheme := "http"
	if s.secure() {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port), nil
}

// askHealth asks once. The certificate of the own server is not checked: it is for the name that clients dial.
func askHealth(ctx context.Context, out io.Writer, base, path string, own bool) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return fmt.Errorf("asking %s: %w", base+path, err)
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: own}, //nolint:gosec // see above
	}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("asking for health: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	answer := strings.TrimSpace(string(text))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", base+path, resp.Status, answer)
	}
	_, _ = fmt.Fprintln(out, answer)
	return nil
}
