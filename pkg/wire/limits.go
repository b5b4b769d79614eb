package wire

import "time"

// The protocol's fixed names.
const (
	// Version is the value of "v" in hello and auth.
	Version = 1
	// Subprotocol is the WebSocket subprotocol both sides must agree on.
	Subprotocol = "peers.v1"
	// Path is where a server serves the protocol.
	Path = "/v1/signal"
	// CapRV1 is the capability of static rendezvous tags.
	CapRV1 = "rv1"
	// CapResume is the capability of sessions that outlive their connection.
	CapResume = "resume"
	// CapNotify is the capability of notifications, CapPush that of waking
	// devices by Web Push.
	CapNotify = "notify"
	CapPush   = "push"
)

// Limits that both sides know. Sizes are bytes of one text frame.
const (
	// MaxFrame bounds every message except topics, in both directions.
	MaxFrame = 64 << 10
	// MaxTopicsFrame bounds a topics message.
	MaxTopicsFrame = 512 << 10
	// MaxPreAuthFrame bounds what a server reads before a session is ready.
	MaxPreAuthFrame = 8 << 10
	// MaxTopics is how many tags a session may hold.
	MaxTopics = 20000
	// MaxCiphertext bounds the text (b64u) of a sealed envelope.
	MaxCiphertext = 60 << 10
	// MaxNotify is MaxCiphertext of a notification, which may have to be pushed.
	MaxNotify = 12_000
	// MaxPushToken bounds the text of a push token, MaxWake the ttl of a wake in
	// seconds.
	MaxPushToken = 2048
	MaxWake      = 7 * 24 * 3600
	// MaxICEServers and MaxICEURLs bound what a client accepts in ready and ice.
	MaxICEServers = 32
	MaxICEURLs    = 16
	// MaxID is the largest request id.
	MaxID = 1<<53 - 1

	maxCaps       = 16
	maxCapLen     = 32
	maxServerName = 253 + 6
	maxText       = 1024
)

// Times of the protocol.
const (
	// AuthTimeout is how long a client has from the upgrade to ready.
	AuthTimeout = 10 * time.Second
	// NonceLife is how long hello's nonce may be used.
	NonceLife = 60 * time.Second
	// ClockSkew is how far auth's time may be from the server's.
	ClockSkew = 300 * time.Second
	// PingInterval and PingTimeout are the server's keep-alive.
	PingInterval = 25 * time.Second
	PingTimeout  = 60 * time.Second
	// AckDelay and AckBytes are after how long, and after how many bytes of
	// signals, a client that can resume acknowledges at the latest.
	AckDelay = time.Second
	AckBytes = 16 << 10
)
