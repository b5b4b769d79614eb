package crypto

import "log/slog"

// Names appear in logs in their short form, whole only where somebody asks for
// String. Tags are bearer secrets besides.

// LogValue returns the short form.
func (id ID) LogValue() slog.Value { return slog.StringValue(id.Short()) }

// LogValue returns the short form.
func (h Hash) LogValue() slog.Value { return slog.StringValue(h.Short()) }

// LogValue returns the short form.
func (t Tag) LogValue() slog.Value { return slog.StringValue(t.Short()) }

// LogValue returns the short form.
func (k PublicKey) LogValue() slog.Value { return slog.StringValue(k.Short()) }

// LogValue returns the short form.
func (k BoxPublicKey) LogValue() slog.Value { return slog.StringValue(k.Short()) }
