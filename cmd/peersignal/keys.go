package main

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/peersignal/peersignal/internal/turn"
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
// are all made of the table below.
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

var sections = []section{
	{"Clients and operators", []key{
		{"listen", text, ":8080", "address for HTTP and WebSocket"},
		{"tls-cert", text, nil, "file with a certificate chain (PEM), which makes --listen HTTPS; read again when it changes"},
		{"tls-key", text, nil, "file with the key of --tls-cert"},
		{"metrics-listen", text, nil, "address for /metrics and /status alone, without TLS (default: on --listen)"},
		{"name", list, nil, "host:port that clients dial; the first is canonical (repeatable; default: localhost and own addresses)"},
		{"allow-origin", list, nil, "host of web pages that may connect, besides the dialled one (repeatable)"},
		{"trusted-proxy", list, nil, "network (CIDR) whose X-Forwarded-For is believed (repeatable)"},
	}},
	{"The embedded relay", slices.Concat([]key{
		{"turn", boolean, true, "run the embedded STUN/TURN relay"},
		{"turn-listen", list, []string{":3478"}, "address for STUN/TURN over UDP and TCP (repeatable)"},
		{"turn-tls-listen", list, nil, "address for TURN over TLS, usually :5349 (repeatable; needs a certificate)"},
		{"turn-tls-cert", text, nil, "file with the certificate chain for --turn-tls-listen (default: --tls-cert)"},
		{"turn-tls-key", text, nil, "file with the key of --turn-tls-cert"},
		{"turn-host", text, nil, "host that clients are told for TURN (default: the one that they dialled)"},
		{"turn-relay-ip", text, nil, "address of this machine that relays (default: derived)"},
		{"turn-public-ip", text, nil, "address that clients are told for relays, when this machine is behind NAT"},
		{"turn-public-ip-from", text, nil, "STUN server, host:port, that is asked at the start for --turn-public-ip"},
		{"turn-relay-ip6", text, nil, "IPv6 address of this machine that relays, too (default: none)"},
		{"turn-public-ip6", text, nil, "IPv6 address that clients are told instead of --turn-relay-ip6"},
		{"turn-ports", text, "49152-65535", "range of relay ports, min-max"},
		{"turn-allow-peer", list, nil, "network (CIDR) that may be relayed to although it is denied by default (repeatable)"},
		{"turn-deny-peer", list, nil, "network (CIDR) that must not be relayed to (repeatable; wins over --turn-allow-peer)"},
		{"turn-introduced-only", boolean, false, "relay only between devices that exchanged an offer or an answer here"},
		{"turn-udp-sockets", number, 0, "sockets for each UDP address, on Linux (0: one for each processor)"},
		{"turn-allocations-per-session", number, turn.DefaultAllocationsPerSession, "most relay ports of a session"},
		{"turn-allocations-per-user", number, turn.DefaultAllocationsPerUser, "most relay ports of a user"},
		{"turn-allocations", number, turn.DefaultAllocationsTotal, "most relay ports"},
		{"turn-bytes-per-second", number, turn.DefaultBytesPerSecond, "most bytes a second that a session relays, both ways together (-1: no limit)"},
		{"turn-bytes-per-day", number, turn.DefaultBytesPerDay, "most bytes a day that a user relays, both ways together (-1: no limit)"},
		{"turn-ttl", duration, turn.DefaultTTL, "how long credentials can open relay ports, 1m to 24h"}},
		secretKeys("turn-secrets", "ID:KEY pairs that credentials are made of, separated by commas, the newest first (default: one made at the start)"))},
	{"Where ICE servers come from", []key{
		{"ice-order", list, nil, "steps of sources, joined by +, the next asked when one gives nothing; " +
			"of embedded, static, rest, endpoint, twilio, cloudflare (repeatable; default: all at once)"},
		{"ice-required", boolean, false, "be not ready (/readyz) while no source can answer"},
		{"ice-server", list, nil, "source static: stun: URL for clients (repeatable; with credentials: ice-servers in --config)"},
		{iceServersKey, servers, nil, `source static: list of {urls: ["turns:host:port"], username: name, credential: secret}`},
	}},
	{"Twilio's Network Traversal Service (source twilio)", slices.Concat([]key{
		{"twilio-account-sid", text, nil, "account SID, AC and 32 hexadecimal digits"}},
		secretKeys("twilio-auth-token", "auth token of the account"), []key{
			{"twilio-api-key-sid", text, nil, "SID of an API key, SK and 32 hexadecimal digits, instead of the auth token"}},
		secretKeys("twilio-api-key-secret", "secret of the API key"), []key{
			{"twilio-ttl", duration, 12 * time.Hour, "lifetime of credentials, 10m to 24h"},
			{"twilio-base-url", text, "https://api.twilio.com", "API to ask, for another region"},
		})},
	{"Cloudflare's TURN service (source cloudflare)", slices.Concat([]key{
		{"cloudflare-key-id", text, nil, "id of a TURN key"}},
		secretKeys("cloudflare-api-token", "API token of the TURN key"), []key{
			{"cloudflare-ttl", duration, 12 * time.Hour, "lifetime of credentials, 10m to 48h"},
		})},
	{"Relays with a shared secret, coturn or eturnal (source rest)", slices.Concat([]key{
		{"turn-rest-urls", list, nil, "stun:, turn: or turns: URL where clients reach the relays (repeatable)"}},
		secretKeys("turn-rest-secret", "secret that the relays know, 16 bytes or more"), []key{
			{"turn-rest-ttl", duration, 12 * time.Hour, "lifetime of credentials, 10m to 48h"},
		})},
	{"A service that speaks draft-uberti-behave-turn-rest (source endpoint)", slices.Concat([]key{
		{"turn-endpoint-url", text, nil, "https: URL of the service"}},
		secretKeys("turn-endpoint-key", "key for the service"))},
	{"Limits", []key{
		{"max-sessions", number, 50_000, "most sessions"},
		{"max-sessions-per-address", number, 64, "most sessions of one IPv4 address or IPv6 /64 (-1: no limit)"},
		{"max-devices-per-user", number, 8, "most connected devices of one user"},
		{"messages-per-10s", number, 200, "most messages of one session in 10 s"},
		{"offers-per-minute", number, 20, "most offers from one device to another in a minute"},
	}},
	{"Logs", []key{
		{"log-format", text, "text", "text or json"},
		{"log-level", text, "info", "debug, info, warn or error"},
	}},
}

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

// addFlags adds --config and a flag for each key that can have one.
func addFlags(f *pflag.FlagSet) {
	f.String("config", "", "YAML file with settings, keys named as these flags")
	for k := range eachKey {
		if k.hasFlag() {
			k.addFlag(f)
		}
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
