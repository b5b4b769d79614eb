package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/peersignal/peersignal/internal/suggest"
	"github.com/peersignal/peersignal/pkg/peer/link"
)

// Names of files in the data folder.
const (
	configName   = "peerd.yaml"
	keystoreName = "keystore.json"
	storeName    = "peerd.db"
	socketName   = "api.sock"
)

// fileKeys are what a configuration file may say; flags and PEERD_*
// environment variables have the same names.
var fileKeys = []string{
	"api", "name", "server", "ice-transport", "allow-loopback", "passphrase-file", "log-level", "log-format",
	"file-quota", "file-upload-rate", "file-peer-upload-rate", "file-download-rate",
}

// settings are the merged configuration of one run.
type settings struct {
	data, socket   string
	json           bool
	server, name   string
	iceTransport   link.ICETransport
	allowLoopback  bool
	passphraseFile string
	logLevel       slog.Level
	logFormat      string
	files          fileSettings
}

func commonFlags(f *pflag.FlagSet) {
	f.String("data", "", "data folder (default $XDG_DATA_HOME/peerd)")
	f.String("api", "", "socket of the local API (default in $XDG_RUNTIME_DIR, or in the data folder)")
	f.String("config", "", "configuration file (default peerd.yaml in the data folder)")
	f.Bool("json", false, "print results as JSON")
}

// load merges flags, environment and configuration file, in this order.
func load(cmd *cobra.Command) (settings, error) {
	v := viper.New()
	v.SetEnvPrefix("PEERD")
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	if err := v.BindPFlags(cmd.Flags()); err != nil {
		return settings{}, err
	}
	s := settings{data: v.GetString("data"), json: v.GetBool("json")}
	standard, err := defaultData()
	if s.data == "" {
		if err != nil {
			return s, usageError{fmt.Errorf("no home folder for the data: %w: name one with --data", err)}
		}
		s.data = standard
	}
	if s.data, err = filepath.Abs(s.data); err != nil {
		return s, fmt.Errorf("data folder: %w", err)
	}
	if err := readConfig(v, s.data); err != nil {
		return s, err
	}
	s.socket = v.GetString("api")
	if s.socket == "" {
		s.socket = defaultSocket(s.data, standard)
	}
	s.server, s.name = v.GetString("server"), v.GetString("name")
	s.allowLoopback = v.GetBool("allow-loopback")
	s.passphraseFile = v.GetString("passphrase-file")
	s.logFormat = v.GetString("log-format")
	if err := s.files.parse(v); err != nil {
		return s, err
	}
	return s, s.parse(v)
}

// parse checks the values that have a grammar.
func (s *settings) parse(v *viper.Viper) error {
	switch text := v.GetString("ice-transport"); text {
	case "", "all":
		s.iceTransport = link.ICEAll
	case "relay":
		s.iceTransport = link.ICERelay
	case "no-relay":
		s.iceTransport = link.ICENoRelay
	default:
		return usageError{fmt.Errorf("ice-transport is %q: want all, relay or no-relay", text)}
	}
	if text := v.GetString("log-level"); text != "" {
		if err := s.logLevel.UnmarshalText([]byte(text)); err != nil {
			return usageError{fmt.Errorf("log-level is %q: want debug, info, warn or error", text)}
		}
	}
	if !slices.Contains([]string{"", "text", "json"}, s.logFormat) {
		return usageError{fmt.Errorf("log-format is %q: want text or json", s.logFormat)}
	}
	return nil
}

// readConfig reads the configuration file. One that is not named may be missing.
func readConfig(v *viper.Viper, data string) error {
	path, named := v.GetString("config"), true
	if path == "" {
		path, named = filepath.Join(data, configName), false
	}
	v.SetConfigFile(path)
	v.SetConfigType("yaml")
	err := v.ReadInConfig()
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return usageError{fmt.Errorf("configuration file %s: %w", path, err)}
	}
	own := viper.New()
	own.SetConfigFile(path)
	own.SetConfigType("yaml")
	if err := own.ReadInConfig(); err != nil {
		return usageError{fmt.Errorf("configuration file %s: %w", path, err)}
	}
	for _, key := range own.AllKeys() {
		if !slices.Contains(fileKeys, key) {
			return usageError{fmt.Errorf("configuration file %s: unknown key %q%s", path, key, didYouMean(key, fileKeys))}
		}
	}
	return nil
}

// didYouMean names the nearest of the known words, or all when none is near.
func didYouMean(word string, known []string) string {
	if best := suggest.Nearest(word, known); best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return "; keys are " + strings.Join(known, ", ")
}

func defaultData() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "peerd"), nil
	}
	if runtime.GOOS == "windows" {
		dir, err := os.UserConfigDir()
		return filepath.Join(dir, "peerd"), err
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".local", "share", "peerd"), err
}

// defaultSocket is in the user's runtime folder for the standard data folder;
// other data folders have their own, so that several daemons can run.
func defaultSocket(data, standard string) string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); data == standard && filepath.IsAbs(dir) {
		return filepath.Join(dir, "peerd", socketName)
	}
	return filepath.Join(data, socketName)
}
