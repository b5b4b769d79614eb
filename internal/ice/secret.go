package ice

import "log/slog"

const redacted = "[redacted]"

// Secret is text that formats, logs and marshals as "[redacted]". Convert it
// to a string to use it.
type Secret string

// String keeps the secret out of formatted output.
func (Secret) String() string { return redacted }

// GoString keeps the secret out of %#v.
func (Secret) GoString() string { return redacted }

// LogValue keeps the secret out of logs.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText keeps the secret out of JSON and its like.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
