package wire

import "time"

// Code says what became of a message. Codes are part of the protocol; the
// message beside a code is for people and may change.
type Code string

// Codes of a result.
const (
	// CodeOK: done.
	CodeOK Code = "ok"
	// CodeDelivered: the envelope is in the target's send queue.
	CodeDelivered Code = "delivered"
	// CodeOffline: the target shares the tag but cannot be reached now.
	CodeOffline Code = "offline"
	// CodeNotAllowed: unknown target, or nothing shared with it.
	CodeNotAllowed Code = "not-allowed"
	// CodeTooLarge: the message or what it asks for is over a limit.
	CodeTooLarge Code = "too-large"
	// CodeRateLimited: too many; again after retryAfter.
	CodeRateLimited Code = "rate-limited"
	// CodeInvalid: not a valid message. Also a refusal.
	CodeInvalid Code = "invalid"
	// CodeExpired: the target did not come back in time.
	CodeExpired Code = "expired"
	// CodeQueued: a notification waits for its target, or for its push service.
	CodeQueued Code = "queued"
	// CodeGone: the push token is not valid (any more).
	CodeGone Code = "gone"
	// CodeUnavailable: the server cannot do it now (ICE servers, Web Push).
	CodeUnavailable Code = "unavailable"
)

// Codes of a refusal.
const (
	// CodeBadNonce: the nonce is not the one of this connection.
	CodeBadNonce Code = "bad-nonce"
	// CodeNonceExpired: the nonce is older than NonceLife.
	CodeNonceExpired Code = "nonce-expired"
	// CodeUseName: an alias; dial the canonical name that comes with it.
	CodeUseName Code = "use-name"
	// CodeUnknownName: the signed name is none of this server's.
	CodeUnknownName Code = "unknown-name"
	// CodeBadTime: the clocks differ by more than ClockSkew.
	CodeBadTime Code = "bad-time"
	// CodeBadDeviceID: the device id is not derived from the device key.
	CodeBadDeviceID Code = "bad-device-id"
	// CodeBadCertificate: the device certificate is not valid now.
	CodeBadCertificate Code = "bad-certificate"
	// CodeCertMismatch: the certificate is for another device or user.
	CodeCertMismatch Code = "cert-mismatch"
	// CodeBadSignature: the signature over a is not the device key's.
	CodeBadSignature Code = "bad-signature"
	// CodeDeviceConflict: another key holds this device id.
	CodeDeviceConflict Code = "device-conflict"
	// CodeTooManyDevices: this user has too many devices connected.
	CodeTooManyDevices Code = "too-many-devices"
	// CodeTooManySessions: this address has too many sessions.
	CodeTooManySessions Code = "too-many-sessions"
	// CodeServerFull: the server has no room.
	CodeServerFull Code = "server-full"
	// CodeBlocked: the operator keeps this device, user or address out.
	CodeBlocked Code = "blocked"
	// CodeAuthTimeout: no valid auth within AuthTimeout.
	CodeAuthTimeout Code = "auth-timeout"
)

// Codes of a notice. CodeDraining is a refusal, too.
const (
	// CodeReplaced: the same device connected again.
	CodeReplaced Code = "replaced"
	// CodeDraining: the server stops; connect again after retryAfter.
	CodeDraining Code = "draining"
	// CodeKicked: an operator ended the session.
	CodeKicked Code = "kicked"
)

// Retry reports whether the same request may succeed later, unchanged (for
// refusals: the same auth body with a new nonce and time).
func (c Code) Retry() bool {
	switch c {
	case CodeOffline, CodeExpired, CodeRateLimited, CodeUnavailable, CodeBadNonce, CodeNonceExpired,
		CodeTooManyDevices, CodeTooManySessions, CodeServerFull, CodeAuthTimeout, CodeDraining:
		return true
	default:
		return false
	}
}

// valid reports whether c looks like a code; clients accept codes that they do
// not know.
func (c Code) valid() bool { return len(c) <= maxCapLen && isCap(string(c)) }

// CloseCode is a WebSocket close status of the private range.
type CloseCode int

// Close codes, with what the client does.
const (
	// CloseRefused follows refused: see the code in it.
	CloseRefused CloseCode = 4001
	// CloseReplaced: this device connected elsewhere. Do not reconnect.
	CloseReplaced CloseCode = 4002
	// CloseSlowReader: the send queue was full. Reconnect with backoff.
	CloseSlowReader CloseCode = 4003
	// CloseTooLarge: a frame over the limit. Do not send it again; reconnect with backoff.
	CloseTooLarge CloseCode = 4004
	// CloseRate: kept sending while rate-limited. Reconnect after retryAfter of the last result.
	CloseRate CloseCode = 4005
	// CloseProtocol: not this protocol. Do not reconnect with this program.
	CloseProtocol CloseCode = 4006
	// CloseAuthTimeout: not ready in time. Reconnect with backoff.
	CloseAuthTimeout CloseCode = 4007
	// CloseDraining: the server stops. Reconnect after the notice's retryAfter.
	CloseDraining CloseCode = 4008
	// ClosePingTimeout: no sign of life. Reconnect at once.
	ClosePingTimeout CloseCode = 4009
	// CloseKicked: ended by an operator. Reconnect with backoff.
	CloseKicked CloseCode = 4010
)

// Reconnect says whether a client should connect again after this close
// status, and the least time to wait first (to which the client adds its own
// random backoff). Any status that is not listed means reconnect.
func (c CloseCode) Reconnect() (again bool, after time.Duration) {
	switch c {
	case CloseReplaced, CloseProtocol:
		return false, 0
	case CloseTooLarge, CloseRate, CloseKicked:
		return true, 10 * time.Second
	case CloseSlowReader, CloseAuthTimeout, CloseRefused:
		return true, time.Second
	default:
		return true, 0
	}
}

// String names the code for logs and metrics.
func (c CloseCode) String() string {
	names := [...]string{"refused", "replaced", "slow-reader", "too-large", "rate",
		"protocol", "auth-timeout", "draining", "ping-timeout", "kicked"}
	if c < CloseRefused || c > CloseKicked {
		return "other"
	}
	return names[c-CloseRefused]
}
