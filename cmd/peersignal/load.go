package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

const envPrefix = "PEERSIGNAL_"

// values are the settings as they were given: flags before the environment
// before the file before the defaults.
type values struct {
	viper *viper.Viper
	flags *pflag.FlagSet
	file  map[string]any
	files inputs
	// prints are the fingerprints of all settings when they were read.
	prints map[string]string
}

func loadSettings(flags *pflag.FlagSet) (*settings, error) {
	v, err := loadValues(flags, nil)
	if err != nil {
		return nil, err
	}
	return v.settings()
}

// serverSettings are those of the server on this machine, as far as environment
// and file have them: for commands that speak to it. config is the file, if one
// was given.
func serverSettings(config string, given bool) (*settings, error) {
	flags := pflag.NewFlagSet("server", pflag.ContinueOnError)
	addFlags(flags, nil)
	if given {
		if err := flags.Set("config", config); err != nil {
			return nil, fmt.Errorf("the flag config: %w", err)
		}
	}
	return loadSettings(flags)
}

// newViper holds flags and environment.
func newViper(flags *pflag.FlagSet) (*viper.Viper, error) {
	v := viper.New()
	if err := v.BindPFlags(flags); err != nil {
		return nil, fmt.Errorf("reading flags: %w", err)
	}
	v.SetEnvPrefix(strings.TrimSuffix(envPrefix, "_"))
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	return v, nil
}

// adminReader reads of environment and file what leads to the server's admin
// listener. Mistakes in other settings are not looked for: who has made one has
// to reach the running server all the same.
func adminReader(config string) (*reader, error) {
	flags := pflag.NewFlagSet("server", pflag.ContinueOnError)
	addFlags(flags, nil)
	v, err := newViper(flags)
	if err != nil {
		return nil, err
	}
	r := &reader{v: v, files: inputs{}}
	if config == "" {
		config = v.GetString("config")
	}
	if config == "" {
		return r, nil
	}
	content, err := r.files.read(config, maxConfigFile)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	file, err := parseMapping(content)
	if err != nil {
		return nil, fmt.Errorf("reading configuration %s: %w", config, err)
	}
	maps.DeleteFunc(file, func(name string, _ any) bool { return !strings.HasPrefix(name, "admin-") })
	if err := v.MergeConfigMap(file); err != nil {
		return nil, fmt.Errorf("reading configuration %s: %w", config, err)
	}
	return r, nil
}

// loadValues gathers the values. What has no meaning is an error, because a
// misspelt limit would otherwise be no limit. before are the values that these
// are to replace, or nil.
func loadValues(flags *pflag.FlagSet, before *values) (*values, error) {
	own, err := newViper(flags)
	if err != nil {
		return nil, err
	}
	v := &values{viper: own, flags: flags, files: inputs{}}
	if before != nil {
		v.files = before.files.pipes()
	}
	if err := checkEnvironment(os.Environ()); err != nil {
		return nil, err
	}
	if path := v.viper.GetString("config"); path != "" {
		if err := v.readFile(path); err != nil {
			return nil, fmt.Errorf("reading configuration %s: %w", path, err)
		}
	}
	v.prints = v.fingerprints()
	return v, nil
}

// origin says where a value is from.
func (v *values) origin(k key) string {
	if k.hasFlag() && v.flags.Changed(k.name) {
		return "flag"
	}
	if k.hasVariable() && os.Getenv(k.variable()) != "" {
		return "environment"
	}
	if _, ok := v.file[k.name]; ok {
		return "file"
	}
	return "default"
}

func (v *values) readFile(path string) error {
	content, err := v.files.read(path, maxConfigFile)
	if err != nil {
		return err
	}
	if v.file, err = parseFile(content); err != nil {
		return err
	}
	return v.viper.MergeConfigMap(v.file)
}

// parseFile reads one YAML mapping of known keys that all have a value. Its
// errors quote no values.
func parseFile(content []byte) (map[string]any, error) {
	file, err := parseMapping(content)
	if err != nil {
		return nil, err
	}
	for name, value := range file {
		if _, ok := findKey(name); !ok {
			return nil, fmt.Errorf("unknown key %.64q%s", name, didYouMean(name, keyNames()))
		}
		if value == nil {
			return nil, fmt.Errorf("setting %s: it has no value; give it one or take the key out", name)
		}
	}
	return file, nil
}

func parseMapping(content []byte) (map[string]any, error) {
	var document any
	d := yaml.NewDecoder(bytes.NewReader(content))
	if err := d.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("it is not YAML: %s", yamlMistake(err))
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("it has more than one YAML document")
	}
	file, ok := document.(map[string]any)
	if !ok && document != nil {
		return nil, errors.New("it is not a YAML mapping of keys to values")
	}
	return file, nil
}

// yamlMistake is what the parser says, unless that quotes a value.
func yamlMistake(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if !strings.ContainsAny(text, "'\"`") || strings.Contains(text, "mapping key") {
		return text
	}
	return "put values that begin with *, &, !, % or @ in quotes"
}

// checkEnvironment refuses variables with our prefix that mean nothing.
func checkEnvironment(environ []string) error {
	known := []string{envPrefix + "CONFIG"}
	for k := range eachKey {
		if k.hasVariable() {
			known = append(known, k.variable())
		}
	}
	isKnown := make(map[string]bool, len(known))
	for _, name := range known {
		isKnown[name] = true
	}
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, envPrefix) && !isKnown[name] {
			return fmt.Errorf("reading the environment: unknown variable %s%s (%s and a setting's name in upper case)",
				name, didYouMean(name, known), envPrefix)
		}
	}
	return nil
}

func keyNames() []string {
	var names []string
	for k := range eachKey {
		names = append(names, k.name)
	}
	return names
}
