package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/peersignal/peersignal/internal/ice"
	"github.com/peersignal/peersignal/internal/signaling"
)

const (
	envPrefix = "PEERSIGNAL_"
	// iceServersKey is a list of {urls, username, credential}; only a file can
	// hold it, so that credentials are on no command line.
	iceServersKey = "ice-servers"
)

// settings are the configuration after flags, environment and file, checked as
// far as that is possible without the packages that use it.
type settings struct {
	listen, metricsListen string
	names                 []string
	origins, proxies      []string
	limits                signaling.Limits

	turn                      bool
	turnListen                []string
	turnHost                  string
	turnRelayIP, turnPublicIP netip.Addr
	turnPorts                 [2]uint16
	turnAllowPeers            []string
	iceServers                []ice.Server
	logJSON                   bool
	logLevel                  slog.Level
}

func loadSettings(flags *pflag.FlagSet) (*settings, error) {
	v := viper.New()
	if err := v.BindPFlags(flags); err != nil {
		return nil, fmt.Errorf("reading flags: %w", err)
	}
	v.SetEnvPrefix(strings.TrimSuffix(envPrefix, "_"))
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	if err := checkEnvironment(flags, os.Environ()); err != nil {
		return nil, err
	}
	if path := v.GetString("config"); path != "" {
		if err := readFile(v, flags, path); err != nil {
			return nil, err
		}
	}
	r := &reader{v: v}
	s := r.settings()
	if err := errors.Join(r.errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// readFile merges a YAML file whose top-level keys must be names of flags.
func readFile(v *viper.Viper, flags *pflag.FlagSet, path string) error {
	file := viper.New()
	file.SetConfigFile(path)
	file.SetConfigType("yaml")
	if err := file.ReadInConfig(); err != nil {
		return fmt.Errorf("reading configuration %s: %w", path, err)
	}
	for key := range file.AllSettings() {
		if key == iceServersKey || (key != "config" && key != "help" && key != "version" && flags.Lookup(key) != nil) {
			continue
		}
		return fmt.Errorf("reading configuration %s: unknown key %q%s", path, key, didYouMean(key, known(flags)))
	}
	if err := v.MergeConfigMap(file.AllSettings()); err != nil {
		return fmt.Errorf("reading configuration %s: %w", path, err)
	}
	return nil
}

// checkEnvironment refuses variables with our prefix that mean nothing, because
// a misspelt limit would otherwise be no limit.
func checkEnvironment(flags *pflag.FlagSet, environ []string) error {
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		rest, ours := strings.CutPrefix(name, envPrefix)
		if !ours {
			continue
		}
		key := strings.ToLower(strings.ReplaceAll(rest, "_", "-"))
		if flags.Lookup(key) == nil {
			return fmt.Errorf("reading the environment: unknown variable %s%s (%s and a flag's name in upper case)",
				name, didYouMean(key, known(flags)), envPrefix)
		}
	}
	return nil
}

func known(flags *pflag.FlagSet) []string {
	keys := []string{iceServersKey}
	flags.VisitAll(func(f *pflag.Flag) { keys = append(keys, f.Name) })
	return keys
}

// didYouMean suggests the nearest key, if one is near.
func didYouMean(key string, keys []string) string {
	best, distance := "", len(key)/2+1
	for _, k := range keys {
		if d := editDistance(key, k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// reader reads typed settings and collects what is wrong with them.
type reader struct {
	v    *viper.Viper
	errs []error
}

func (r *reader) fail(key, text string) {
	r.errs = append(r.errs, fmt.Errorf("setting %s: %s", key, text))
}

func (r *reader) str(key string) string { return strings.TrimSpace(r.v.GetString(key)) }

// list reads a list; in the environment its items are separated by commas.
func (r *reader) list(key string) []string {
	var out []string
	items := []string{}
	if one, ok := r.v.Get(key).(string); ok {
		items = strings.Split(one, ",")
	} else {
		items = append(items, r.v.GetStringSlice(key)...)
	}
	for _, item := range items {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

func (r *reader) boolean(key string) bool {
	b, err := strconv.ParseBool(fmt.Sprint(r.v.Get(key)))
	if err != nil {
		r.fail(key, "it is neither true nor false")
	}
	return b
}

// integer reads a number where 0 means the default.
func (r *reader) integer(key string, least int) int {
	n, err := strconv.Atoi(fmt.Sprint(r.v.Get(key)))
	if err != nil || (n < least) {
		r.fail(key, "it is not a number in range")
	}
	return n
}

func (r *reader) addr(key string) netip.Addr {
	s := r.str(key)
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		r.fail(key, "it is not an IP address")
	}
	return a
}

func (r *reader) ports(key string) (ports [2]uint16) {
	low, high, ok := strings.Cut(r.str(key), "-")
	for i, s := range []string{low, high} {
		n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16)
		if err != nil || !ok {
			r.fail(key, "it is not a range of ports like 49152-65535")
			return ports
		}
		ports[i] = uint16(n)
	}
	if ports[0] < 1024 || ports[1] < ports[0] {
		r.fail(key, "the range must ascend from 1024 or more")
	}
	return ports
}

func (r *reader) settings() *settings {
	s := &settings{
		listen: r.str("listen"), metricsListen: r.str("metrics-listen"),
		names: r.list("name"), origins: r.list("allow-origin"), proxies: r.list("trusted-proxy"),
		limits: signaling.Limits{
			Sessions: r.integer("max-sessions", 0), SessionsPerAddress: r.integer("max-sessions-per-address", -1),
			DevicesPerUser: r.integer("max-devices-per-user", 0), MessagesPer10s: r.integer("messages-per-10s", 0),
			OffersPerMinute: r.integer("offers-per-minute", 0),
		},
		turn: r.boolean("turn"), turnListen: r.list("turn-listen"), turnHost: r.str("turn-host"),
		turnRelayIP: r.addr("turn-relay-ip"), turnPublicIP: r.addr("turn-public-ip"),
		turnPorts: r.ports("turn-ports"), turnAllowPeers: r.list("turn-allow-peer"),
		iceServers: r.ice(),
	}
	switch r.str("log-format") {
	case "text":
	case "json":
		s.logJSON = true
	default:
		r.fail("log-format", "it is neither text nor json")
	}
	if err := s.logLevel.UnmarshalText([]byte(r.str("log-level"))); err != nil {
		r.fail("log-level", "it is none of debug, info, warn and error")
	}
	return s
}

func (r *reader) ice() []ice.Server {
	var servers []ice.Server
	for _, u := range r.list("ice-server") {
		servers = append(servers, ice.Server{URLs: []string{u}})
	}
	if !r.v.IsSet(iceServersKey) {
		return servers
	}
	var more []struct {
		URLs       []string `mapstructure:"urls"`
		Username   string   `mapstructure:"username"`
		Credential string   `mapstructure:"credential"`
	}
	if err := r.v.UnmarshalKey(iceServersKey, &more, func(c *mapstructure.DecoderConfig) { c.ErrorUnused = true }); err != nil {
		r.fail(iceServersKey, "it is not a list of urls, username and credential")
		return servers
	}
	for _, m := range more {
		servers = append(servers, ice.Server{URLs: m.URLs, Username: m.Username, Credential: m.Credential})
	}
	return servers
}
