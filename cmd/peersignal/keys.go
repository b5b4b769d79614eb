package main

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// kind is the type of a setting.
type kind int

const (
	text     kind = iota // string
	list                 // []string; separated by commas in the environment
	boolean              // bool
	number               // int
	duration             // time.Duration
	secret               // string that no flag can hold, and that is never printed
	servers              // list of {urls, username, credential}, in a file only
)

// key is one setting. Flags, variables, keys of the file and the documentation
// are all made of the table in table.go.
type key struct {
	name string
	kind kind
	def  any    // the default, of kind's type; nil: empty
	help string // one line
}

// hasFlag says whether the command line can hold it: everybody on the machine
// can read that.
func (k key) hasFlag() bool { return k.kind != secret && k.kind != servers }

// hasVariable says whether the environment can hold it.
func (k key) hasVariable() bool { return k.kind != servers }

// variable is its name in the environment.
func (k key) variable() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.name, "-", "_"))
}

// section groups keys that belong together.
type section struct {
	title string
	keys  []key
}

// iceServersKey holds servers with credentials.
const iceServersKey = "ice-servers"

const fileSuffix = "-file"

// secretKeys are a secret and the file that can hold it instead.
func secretKeys(name, help string) []key {
	return []key{
		{name, secret, nil, help + "; no flag holds it"},
		{name + fileSuffix, text, nil, "file with the " + help},
	}
}

// eachKey yields all keys in the order of the table.
func eachKey(yield func(key) bool) {
	for _, s := range sections {
		for _, k := range s.keys {
			if !yield(k) {
				return
			}
		}
	}
}

func findKey(name string) (key, bool) {
	for k := range eachKey {
		if k.name == name {
			return k, true
		}
	}
	return key{}, false
}

// Flags that --help shows, of the program and of a command: a screen holds no more.
var (
	firstFlags = []string{
		"listen", "name", "tls-cert", "tls-key", "acme-host", "acme-cache", "trusted-proxy", "turn-public-ip", "admin-socket",
	}
	usualFlags = append([]string{
		"allow-origin", "turn", "turn-tls-listen", "metrics-listen", "block-file", "audit-file", "log-format", "log-level",
	}, firstFlags...)
)

// addFlags adds --config and a flag for each key that can have one; --help shows
// some.
func addFlags(f *pflag.FlagSet, shown []string) {
	f.String("config", "", "YAML file with settings, keys named as these flags")
	for k := range eachKey {
		if !k.hasFlag() {
			continue
		}
		k.addFlag(f)
		f.Lookup(k.name).Hidden = !slices.Contains(shown, k.name)
	}
}

func (k key) addFlag(f *pflag.FlagSet) {
	switch k.kind {
	case list:
		def, _ := k.def.([]string)
		f.StringSlice(k.name, def, k.help)
	case boolean:
		f.Bool(k.name, k.def.(bool), k.help)
	case number:
		f.Int(k.name, k.def.(int), k.help)
	case duration:
		f.Duration(k.name, k.def.(time.Duration), k.help)
	default:
		def, _ := k.def.(string)
		f.String(k.name, def, k.help)
	}
}
