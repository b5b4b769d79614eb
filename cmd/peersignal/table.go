package main

import (
	"slices"
	"time"

	"github.com/peersignal/peersignal/internal/audit"
	notifier "github.com/peersignal/peersignal/internal/notify"
	"github.com/peersignal/peersignal/internal/turn"
	"github.com/peersignal/peersignal/pkg/wire"
)

// sections are all settings, in the order in which they are documented.
var sections = []section{
	{"Clients", []key{
		{"listen", text, ":8080", "address for HTTP and WebSocket"},
		{"tls-cert", text, nil, "file with a certificate chain (PEM), which makes --listen HTTPS; read again when it changes"},
		{"tls-key", text, nil, "file with the key of --tls-cert"},
		{"name", list, nil, "host:port that clients dial; the first is canonical (repeatable; default: --acme-host, else localhost and own addresses)"},
		{"allow-origin", list, nil, "host of web pages that may connect, besides the dialled one (repeatable)"},
		{"trusted-proxy", list, nil, "network (CIDR) whose X-Forwarded-For is believed (repeatable)"},
		{"drain-window", duration, 10 * time.Second, "within which time clients are told to come back when the server stops"},
		{"drain-timeout", duration, 30 * time.Second, "most time from SIGTERM to the exit, more than --drain-window"},
	}},
	{"A certificate by ACME, instead of files", []key{
		{"acme-host", list, nil, "host that a certificate is fetched for, which makes --listen HTTPS (repeatable)"},
		{"acme-cache", text, nil, "folder for account key and certificates, for nobody else (needed for --acme-host)"},
		{"acme-email", text, nil, "address that the authority can write to"},
		{"acme-directory", text, "https://acme-v02.api.letsencrypt.org/directory", "directory URL of the authority"},
		{"acme-ca", text, nil, "file with CA certificates (PEM) that --acme-directory is trusted by (default: those of the system)"},
		{"acme-http-listen", text, nil, "address that answers HTTP-01 challenges and redirects the rest, usually :80 (default: TLS-ALPN-01 on --listen only)"},
	}},
	{"Operators", slices.Concat([]key{
		{"metrics-listen", text, nil, "address for /metrics and /status alone, without TLS (default: on --listen)"},
		{"admin-socket", text, nil, `Unix socket for peersignal admin, or "off" (default: admin.sock in systemd's RUNTIME_DIRECTORY, else none)`},
		{"admin-listen", text, nil, "address for peersignal admin, without TLS; needs --admin-token-file (default: none)"}},
		secretKeys("admin-token", "token that --admin-listen asks for, 16 bytes or more"), []key{
			{"block-file", text, nil, "file that keeps who is blocked (default: blocks end with the process)"},
			{"audit-file", text, nil, "file for the audit log (default: none)"},
			{"audit-max-bytes", number, audit.DefaultMaxBytes, "size at which the audit log begins its next file"},
			{"audit-keep", number, audit.DefaultKeep, "how many full files of the audit log are kept (-1: all)"},
		})},
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
		{"turn-tcp-connections", number, turn.DefaultMaxTCPConns, "most TCP and TLS connections to the relay"},
		{"turn-unauthenticated-per-second", number, turn.DefaultUnauthenticatedPerSecond, "most requests a second without valid credentials from one network (-1: no limit)"},
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
		{"max-pending", number, 1024, "most connections that are not authenticated yet"},
		{"max-pending-per-address", number, 32, "most of them of one IPv4 address or IPv6 /64 (-1: no limit)"},
		{"max-topics", number, wire.MaxTopics, "most topics of one session, up to 20000"},
		{"max-topics-total", number, 4_000_000, "most topics of all sessions"},
		{"max-topic-members", number, 4096, "most sessions that share one topic"},
		{"messages-per-10s", number, 200, "most messages of one session in 10 s"},
		{"offers-per-minute", number, 20, "most offers from one device to another in a minute"},
		{"offers-at-once", number, 4, "most offers from one device to another that wait for an answer"},
		{"send-queue-bytes", number, 256 << 10, "most bytes that wait for one session"},
		{"memory-bytes", number, 1 << 30, "most memory of connections, their buffers and queues"},
	}},
	{"Sessions that outlive their connection", []key{
		{"resume", boolean, true, "keep a session whose connection broke, for its client to come back"},
		{"resume-window", duration, 15 * time.Second, "how long it is kept as it was"},
		{"max-parked", number, 10_000, "most sessions that are kept"},
		{"resume-bytes", number, 64 << 20, "most bytes that are kept for clients to acknowledge or to fetch"},
		{"remember-time", duration, 5 * time.Minute, "how long its topics are kept after that"},
		{"max-remembered-topics", number, 1_000_000, "most topics that are kept"},
	}},
	{"Notifications to devices that are not connected", slices.Concat([]key{
		{"notifies-per-minute", number, 60, "most notifications of one session in a minute"},
		{"notify-time", duration, 10 * time.Minute, "how long they are kept for a device that was here minutes ago"},
		{"notify-bytes", number, 16 << 20, "most bytes that are kept for such devices"}},
		secretKeys("push-key", "private key for Web Push, as peersignal push-key makes it (default: no Web Push)"), []key{
			{"push-contact", text, nil, "mailto: or https: address of the operator, for push services"},
			{"push-host", list, notifier.DefaultHosts(), "host of push services, or *. and a domain (repeatable)"},
			{"push-queue", number, 1024, "most pushes that wait"},
		})},
	{"Timeouts", []key{
		{"auth-timeout", duration, wire.AuthTimeout, "how long a client has to authenticate"},
		{"ping-interval", duration, wire.PingInterval, "how often sessions are pinged"},
		{"ping-timeout", duration, wire.PingTimeout, "how long a session can be silent, more than --ping-interval"},
		{"write-timeout", duration, 10 * time.Second, "how long a client has to take one frame"},
	}},
	{"Logs", []key{
		{"log-format", text, "text", "text or json"},
		{"log-level", text, "info", "debug, info, warn or error"},
	}},
}
