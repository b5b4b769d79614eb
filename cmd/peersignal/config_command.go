package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/admin"
	"github.com/peersignal/peersignal/internal/ice"
	notifier "github.com/peersignal/peersignal/internal/notify"
	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/internal/turn"
)

const configExamples = `  peersignal config doc > config.yaml
  peersignal config check --config config.yaml
  peersignal config print --config config.yaml | grep -v '# default'`

// newConfigCommand makes `peersignal config`.
func newConfigCommand() *cobra.Command {
	config := &cobra.Command{
		Use: "config", Short: "Check, print or explain the configuration", Args: noArguments,
		Example: configExamples,
		RunE: func(*cobra.Command, []string) error {
			return usageError{fmt.Errorf("config needs one of check, print, doc and env; see peersignal config --help")}
		},
	}
	check := &cobra.Command{
		Use: "check", Short: "Check flags, environment and file, without opening a port or asking anybody",
		Example: "  peersignal config check --config /etc/peersignal/config.yaml",
		Args:    noArguments, RunE: withValues(checkConfig),
	}
	printed := &cobra.Command{
		Use: "print", Short: "Print each setting and where it is from, without secrets",
		Example: "  peersignal config print --config config.yaml | grep -v '# default'",
		Args:    noArguments, RunE: withValues(printConfig),
	}
	addFlags(check.Flags(), firstFlags)
	addFlags(printed.Flags(), firstFlags)
	doc := &cobra.Command{
		Use: "doc", Short: "Print a file of all settings with their defaults and what they mean", Args: noArguments,
		Example: "  peersignal config doc > config.yaml",
		RunE:    func(cmd *cobra.Command, _ []string) error { return writeDoc(cmd.OutOrStdout()) },
	}
	env := &cobra.Command{
		Use: "env", Short: "Print all variables with their defaults and what they mean, for an environment file", Args: noArguments,
		Example: "  peersignal config env > peersignal.env",
		RunE:    func(cmd *cobra.Command, _ []string) error { return writeEnv(cmd.OutOrStdout()) },
	}
	config.AddCommand(check, printed, doc, env)
	return config
}

// withValues runs a command on the configuration.
func withValues(run func(io.Writer, *values, *settings) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		v, err := loadValues(cmd.Flags(), nil)
		if err != nil {
			return usageError{err}
		}
		s, err := v.settings()
		if err != nil {
			return usageError{err}
		}
		return run(cmd.OutOrStdout(), v, s)
	}
}

func checkConfig(out io.Writer, _ *values, s *settings) error {
	if err := s.check(); err != nil {
		return usageError{err}
	}
	_, err := fmt.Fprintln(out, "the configuration is valid")
	return err
}

// check finds the mistakes that serve would find before it opens a port.
func (s *settings) check() error {
	log := slog.New(slog.DiscardHandler)
	var embedded *ice.Embedded
	files := []keyPair{s.tls}
	if s.turn {
		embedded = ice.NewEmbedded(nil, ice.EmbeddedPorts{}) // is not asked
		if _, err := turn.NewPolicy(turn.PolicyConfig{Allow: s.relay.AllowPeers, Deny: s.relay.DenyPeers}); err != nil {
			return err
		}
		if len(s.relay.TLSListen) > 0 {
			files = append(files, s.turnTLS)
		}
	}
	for _, f := range files {
		if !f.isSet() {
			continue
		}
		if _, err := newCertificate("", f, log); err != nil {
			return err
		}
	}
	if _, err := newChain(s, embedded, log); err != nil {
		return err
	}
	if s.push.Key != "" {
		if _, err := notifier.New(s.push); err != nil {
			return fmt.Errorf("setting push-key: %w", err)
		}
	}
	if _, err := readRoots("acme-ca", s.acme.ca); err != nil {
		return err
	}
	if s.blockFile != "" {
		if err := admin.Check(s.blockFile); err != nil {
			return err
		}
	}
	_, err := signaling.New(s.signalingConfig())
	return err
}

// printConfig writes a file that means the same but for its secrets, which are
// left out as comments.
func printConfig(out io.Writer, v *values, _ *settings) error {
	var b strings.Builder
	r := &reader{v: v.viper, files: v.files}
	for _, s := range sections {
		fmt.Fprintf(&b, "# %s\n", s.title)
		for _, k := range s.keys {
			value, whole := r.shown(k)
			if !whole {
				b.WriteString("# ")
			}
			fmt.Fprintf(&b, "%s: %s  # %s\n", k.name, value, v.origin(k))
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(out, strings.TrimSuffix(b.String(), "\n"))
	return err
}

const hidden = "[hidden]"

// shown is a value in YAML; whole says that nothing of it is hidden.
func (r *reader) shown(k key) (value string, whole bool) {
	switch k.kind {
	case list:
		return flow(nonNil(r.list(k.name))), true
	case boolean:
		return flow(r.boolean(k.name)), true
	case number:
		return flow(r.integer(k.name, -1)), true
	case duration:
		return flow(shortDuration(r.duration(k.name))), true
	case secret:
		if r.str(k.name) == "" {
			return flow(""), true
		}
		return hidden, false
	case servers:
		return r.shownServers()
	default:
		return shownText(r.str(k.name))
	}
}

// shownText hides the query of a URL: a key can be in it.
func shownText(s string) (value string, whole bool) {
	if !strings.Contains(s, "://") {
		return flow(s), true
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.User != nil:
		return hidden, false
	case u.RawQuery != "":
		return flow(u.Scheme + "://" + u.Host + u.Path + "?" + hidden), false
	}
	return flow(s), true
}

func (r *reader) shownServers() (value string, whole bool) {
	whole = true
	all := []map[string]any{}
	for _, s := range r.servers()[len(r.list("ice-server")):] {
		entry := map[string]any{"urls": s.URLs}
		if s.Username != "" || s.Credential != "" {
			entry["username"], entry["credential"] = s.Username, hidden
			whole = false
		}
		all = append(all, entry)
	}
	return flow(all), whole
}

// flow is a value in JSON, which is YAML, too.
func flow(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return hidden // never: all values are text, numbers and lists of them
	}
	return strings.TrimSpace(b.String())
}

func nonNil(list []string) []string { return append([]string{}, list...) }

// shortDuration is 12h for 12h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

const docHead = `# The configuration of peersignal: every setting, with its default. Use it with
#
#     peersignal --config config.yaml
#
# A setting of this file gives way to its variable (turn-listen: PEERSIGNAL_TURN_LISTEN, lists separated by commas), and that
# to its flag (--turn-listen). Unknown keys, keys without a value and values of another type stop the start. Keep what
# you change and leave out the rest: peersignal config check --config config.yaml
`

// writeDoc writes config.example.yaml.
func writeDoc(out io.Writer) error {
	var b strings.Builder
	b.WriteString(docHead)
	for _, s := range sections {
		fmt.Fprintf(&b, "\n# --- %s ---\n", s.title)
		for _, k := range s.keys {
			fmt.Fprintf(&b, "\n# %s\n%s: %s\n", k.help, k.name, k.shownDefault())
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (k key) shownDefault() string {
	switch def := k.def.(type) {
	case nil:
		if k.kind == list || k.kind == servers {
			return "[]"
		}
		return `""`
	case time.Duration:
		return flow(shortDuration(def))
	default:
		return flow(def)
	}
}

const envHead = `# The variables of peersignal, with their defaults: for an environment file of systemd or Docker. Take the # away from
# what you change. Lists are separated by commas; secrets are better in files, see the variables that end with _FILE.
`

// writeEnv writes a line for each variable, as a comment: an empty variable
// counts as none.
func writeEnv(out io.Writer) error {
	var b strings.Builder
	b.WriteString(envHead)
	for _, s := range sections {
		fmt.Fprintf(&b, "\n# --- %s ---\n", s.title)
		for _, k := range s.keys {
			if k.hasVariable() {
				fmt.Fprintf(&b, "\n# %s\n#%s=%s\n", k.help, k.variable(), k.plainDefault())
			}
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// plainDefault is the default as a variable holds it.
func (k key) plainDefault() string {
	switch def := k.def.(type) {
	case nil:
		return ""
	case time.Duration:
		return shortDuration(def)
	case []string:
		return strings.Join(def, ",")
	default:
		return fmt.Sprint(def)
	}
}
