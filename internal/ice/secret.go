package ice

import "log/slog"

const redacted = "[redacted]"

// Secret is text that formats, logs and marshals as "[redacted]". The zero
// value is empty.
//
// It hides behind a function because fmt, asked for a verb that does not fit,
// prints the fields of nested structs without their methods.
type Secret struct{ reveal func() string }

// NewSecret wraps the text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{func() string { return text }}
}

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// IsZero says whether the secret is empty.
func (s Secret) IsZero() bool { return s.reveal == nil }

// String keeps the secret out of formatted output.
func (Secret) String() string { return redacted }

// GoString keeps the secret out of %#v.
func (Secret) GoString() string { return redacted }

// LogValue keeps the secret out of logs.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText keeps the secret out of JSON and its like.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText reads the secret from configuration; it copies text.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}
