package link

import "errors"

// Why an offer, an answer or a candidate was refused. The sender is never told.
var (
	// ErrEnvelope means that a sealed envelope could not be opened: it was
	// made for another device, conversation or topic, or it was tampered with.
	ErrEnvelope = errors.New("envelope cannot be opened")
	// ErrOffer means that the content of an offer or answer breaks a rule.
	ErrOffer = errors.New("offer or answer is invalid")
	// ErrOfferSignature means that the device key did not sign this content.
	ErrOfferSignature = errors.New("signature of offer or answer is wrong")
	// ErrOfferTime means that a clock is wrong or the offer is old.
	ErrOfferTime = errors.New("offer is more than 5 minutes from this clock; check the clocks of both devices")
	// ErrOfferReplayed means that the same offer came a second time.
	ErrOfferReplayed = errors.New("offer was seen before")
	// ErrFingerprint means that an SDP does not name exactly one sha-256
	// certificate fingerprint, the signed one.
	ErrFingerprint = errors.New("fingerprint in the session description is invalid")
	// ErrNotAdmitted means that Config.Admit said no.
	ErrNotAdmitted = errors.New("device is not admitted")
	// ErrBusy means that a local limit on connections or offers is reached.
	ErrBusy = errors.New("too many connections or offers; try again later")
)

// Why a channel was not authenticated. The peer sees the channel close,
// without a reason.
var (
	// ErrFingerprintMismatch means that the certificate of the DTLS
	// connection is not the one of the signed offer or answer: somebody is in
	// the middle.
	ErrFingerprintMismatch = errors.New("certificate of the channel is not the one in the signed offer")
	// ErrAuthSignature means that the peer did not sign this very channel.
	ErrAuthSignature = errors.New("peer's signature does not cover this channel")
	// ErrReflection means that the peer sent our own proof or nonce back.
	ErrReflection = errors.New("peer reflected our own authentication")
	// ErrWrongUser means that user id, genesis, user key, user document or
	// device are not the ones of the offer, or do not belong together.
	ErrWrongUser = errors.New("peer is not the user and device of the offer")
	// ErrCertificate means that a device certificate is invalid or expired.
	ErrCertificate = errors.New("device certificate is invalid")
	// ErrAuthFrame means that a frame before authentication is malformed, too
	// large or out of order.
	ErrAuthFrame = errors.New("malformed authentication frame")
	// ErrAuthTimeout means that the peer did not finish in time.
	ErrAuthTimeout = errors.New("peer did not authenticate in time")
	// ErrEarlyChannel means that the peer opened a channel before it was
	// authenticated.
	ErrEarlyChannel = errors.New("peer opened a channel before authentication")
)

// Why a connection or stream ended, or could not be made.
var (
	// ErrClosed means that this side closed the connection, stream or link.
	ErrClosed = errors.New("closed")
	// ErrPeerClosed means that the other side closed the connection.
	ErrPeerClosed = errors.New("peer closed the connection")
	// ErrICEFailed means that the network path was lost, or none was found.
	ErrICEFailed = errors.New("no network path to the device")
	// ErrStreamClosed means that the peer closed the stream; readers get io.EOF.
	ErrStreamClosed = errors.New("peer closed the stream")
	// ErrStreamReset means that the peer gave the stream up: what was sent last
	// may be missing.
	ErrStreamReset = errors.New("peer gave the stream up")
	// ErrSlowReader means that received messages were not read in time.
	ErrSlowReader = errors.New("messages were not read in time")
	// ErrMessageTooLarge means a message or fragment above the limit.
	ErrMessageTooLarge = errors.New("message is too large")
	// ErrFragment means a malformed fragment.
	ErrFragment = errors.New("malformed fragment")
	// ErrStreamName means a stream name outside of [a-z0-9/-]{1,64}.
	ErrStreamName = errors.New("stream name is not [a-z0-9/-]{1,64}")
	// ErrTooManyStreams means that too many streams are open.
	ErrTooManyStreams = errors.New("too many open streams on the connection")
	// ErrReplaced means that a newer connection of the same device took over.
	ErrReplaced = errors.New("replaced by a newer connection of the same device")
	// ErrGlare means that both sides dialled and the other attempt survives.
	ErrGlare = errors.New("gave way to the peer's own attempt")
	// ErrUnknownDevice means that no topic shows this device now.
	ErrUnknownDevice = errors.New("device is not present on any shared topic")
	// ErrNoAnswer means that an offer was delivered but not answered in time.
	ErrNoAnswer = errors.New("device did not answer")
	// ErrDeviceGone: the device's session at the server ended while the connection was negotiated.
	ErrDeviceGone = errors.New("device left the signaling server before the connection stood")
	// ErrServerDown means that there is no session with the signaling server.
	ErrServerDown = errors.New("no session with the signaling server")
	// ErrNotRunning means that Run was not called or has ended.
	ErrNotRunning = errors.New("link is not running")
	// ErrRefused means that the signaling server refused a message or session.
	ErrRefused = errors.New("signaling server refused")
)
