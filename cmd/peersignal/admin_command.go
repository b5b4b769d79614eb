package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/peersignal/peersignal/internal/admin"
)

// systemSocket is where the systemd unit of peersignal has its admin socket.
const systemSocket = "/run/peersignal/" + adminSocketName

const adminHelp = `Operate a running server.

The server is the one that --socket leads to. Without it that is admin-socket of
the environment and of --config, else ` + systemSocket + `. A server on
another machine is asked with --url and a token.

Exit codes: 0 done, 1 not done, 2 the command line is wrong, 3 no server listens
there.`

const adminExamples = `  peersignal admin status
  peersignal admin sessions --user KEY
  peersignal admin block --network 192.0.2.0/24 --for 24h --reason flood
  peersignal admin reload
  peersignal admin status --url https://ops.example.org --token-file token`

// adminCLI is what the commands of admin have in common.
type adminCLI struct {
	socket, url, tokenFile, config string
	json                           bool
	out                            io.Writer
}

// newAdminCommand makes `peersignal admin`.
func newAdminCommand() *cobra.Command {
	a := &adminCLI{}
	cmd := &cobra.Command{
		Use: "admin", Short: "Operate a running server: status, sessions, kick, block, drain, reload", Long: adminHelp,
		Example: adminExamples, Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("admin needs a command, for instance status; see peersignal admin --help")}
		},
		PersistentPreRun: func(cmd *cobra.Command, _ []string) { a.out = cmd.OutOrStdout() },
	}
	f := cmd.PersistentFlags()
	f.StringVar(&a.socket, "socket", "", "Unix socket of the server")
	f.StringVar(&a.url, "url", "", "address of the server's --admin-listen, instead of a socket")
	f.StringVar(&a.tokenFile, "token-file", "", "file with the token for --url (default: admin-token-file of environment and --config)")
	f.StringVar(&a.config, "config", "", "configuration file (YAML) of the server")
	f.BoolVar(&a.json, "json", false, "print the answer in JSON")
	cmd.AddCommand(a.statusCmd(), a.sessionsCmd(), a.kickCmd(), a.blockCmd(), a.unblockCmd(), a.blockedCmd(),
		a.drainCmd(), a.reloadCmd(), a.logLevelCmd())
	return cmd
}

// client finds the server.
func (a *adminCLI) client() (*admin.Client, error) {
	switch {
	case a.url != "" && a.socket != "":
		return nil, usageError{errors.New("--url and --socket are two servers; choose one")}
	case a.socket != "":
		return admin.NewClient(a.socket), nil
	case a.url != "" && a.tokenFile != "":
		token, err := inputs{}.secret(a.tokenFile)
		if err != nil {
			return nil, usageError{fmt.Errorf("reading the token: %w", err)}
		}
		return a.tokenClient(token)
	}
	r, err := adminReader(a.config)
	if err != nil {
		return nil, configMistake(err)
	}
	if a.url == "" {
		return admin.NewClient(cmp.Or(r.socket(), systemSocket)), configMistake(errors.Join(r.errs...))
	}
	token := r.secret("admin-token")
	switch err := errors.Join(r.errs...); {
	case err != nil:
		return nil, configMistake(err)
	case token.IsZero():
		return nil, usageError{errors.New("--url needs --token-file")}
	}
	return a.tokenClient(token.Reveal())
}

// configMistake gives the exit code of a configuration that has a mistake, or
// of a command line that names none.
func configMistake(err error) error {
	if err == nil {
		return nil
	}
	if _, missing := errors.AsType[*fs.PathError](err); missing {
		return usageError{err}
	}
	return exitError{exitFailure, err}
}

func (a *adminCLI) tokenClient(token string) (*admin.Client, error) {
	c, err := admin.NewTokenClient(a.url, token)
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// ask sends a request and, with --json, prints the answer; else show does.
func (a *adminCLI) ask(cmd *cobra.Command, method, path string, in, out any, show func() error) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	if err := c.Do(cmd.Context(), method, path, in, out); err != nil {
		return adminFailure(err)
	}
	if a.json {
		enc := json.NewEncoder(a.out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(out)
	}
	return show()
}

// adminFailure says what can be done about an error.
func adminFailure(err error) error {
	switch {
	case errors.Is(err, admin.ErrNotServing) && errors.Is(err, os.ErrPermission):
		return exitError{exitNoServer, fmt.Errorf("%w (run it as the user of the server, or as root)", err)}
	case errors.Is(err, admin.ErrNotServing):
		return exitError{exitNoServer, fmt.Errorf("%w (start the server with --admin-socket, and say where with --socket)", err)}
	}
	if e, ok := errors.AsType[*admin.Error](err); ok && e.Status == 400 {
		return usageError{err}
	}
	return err
}

func (a *adminCLI) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(a.out, format, args...)
	return err
}

// whoFlags choose sessions.
func whoFlags(f *pflag.FlagSet, s *admin.Selector) {
	f.StringVar(&s.Session, "session", "", "id of a session")
	f.StringVar(&s.Device, "device", "", "id of a device")
	f.StringVar(&s.User, "user", "", "public key of a user")
	f.StringVar(&s.Network, "network", "", "address or network (CIDR) of clients")
}

// targetFlags choose who is blocked.
func targetFlags(f *pflag.FlagSet, b *admin.Block) {
	f.StringVar(&b.Device, "device", "", "id of a device")
	f.StringVar(&b.User, "user", "", "public key of a user")
	f.StringVar(&b.Network, "network", "", "address or network (CIDR)")
}

// checkTarget refuses all but one target, and gives a network its one form: what
// is said of it afterwards is what is blocked.
func checkTarget(b *admin.Block) error {
	set := 0
	for _, s := range []string{b.Device, b.User, b.Network} {
		if s != "" {
			set++
		}
	}
	if set != 1 {
		return usageError{errors.New("say whom: one of --device, --user and --network")}
	}
	if b.Network == "" {
		return nil
	}
	p, err := network(b.Network)
	if err != nil {
		return usageError{fmt.Errorf("--network: %w", err)}
	}
	b.Network = p.String()
	return nil
}
