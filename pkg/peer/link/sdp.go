package link

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/pion/webrtc/v4"
)

// checkedSDP parses a session description, requires that it is one for data
// channels alone and names exactly one sha-256 fingerprint, the signed one, and
// returns it without the candidates that keep refuses. The result is printed
// anew from what was parsed, so that this check and the WebRTC stack cannot
// read the same text differently.
func checkedSDP(text string, typ webrtc.SDPType, fp string, keep func(candidate string) bool) (webrtc.SessionDescription, error) {
	var none webrtc.SessionDescription
	in := webrtc.SessionDescription{Type: typ, SDP: text}
	parsed, err := in.Unmarshal()
	if err != nil {
		return none, fmt.Errorf("reading session description: %w: not SDP", ErrOffer)
	}
	if len(parsed.MediaDescriptions) != 1 || parsed.MediaDescriptions[0].MediaName.Media != "application" {
		return none, fmt.Errorf("reading session description: %w: not for data channels alone", ErrOffer)
	}
	media := parsed.MediaDescriptions[0]
	found := ""
	for _, list := range [][]string{attributes(parsed.Attributes, "fingerprint"), attributes(media.Attributes, "fingerprint")} {
		for _, v := range list {
			one, err := parseFingerprint(v)
			if err != nil {
				return none, fmt.Errorf("reading session description: %w", err)
			}
			if found != "" && found != one {
				return none, fmt.Errorf("reading session description: %w: more than one", ErrFingerprint)
			}
			found = one
		}
	}
	if found == "" || found != fp {
		return none, fmt.Errorf("reading session description: %w: none, or not the signed one", ErrFingerprint)
	}
	parsed.Attributes = dropCandidates(parsed.Attributes, func(string) bool { return false })
	media.Attributes = dropCandidates(media.Attributes, keep)
	out, err := parsed.Marshal()
	if err != nil {
		return none, fmt.Errorf("reading session description: %w: %w", ErrOffer, err)
	}
	d := webrtc.SessionDescription{Type: typ, SDP: string(out)}
	if !stable(d) {
		return none, fmt.Errorf("reading session description: %w: ambiguous", ErrOffer)
	}
	return d, nil
}

// stable reports whether d reads as what was printed: the parser is lenient, and
// the WebRTC stack parses again.
func stable(d webrtc.SessionDescription) bool {
	again := webrtc.SessionDescription{Type: d.Type, SDP: d.SDP}
	parsed, err := again.Unmarshal()
	if err != nil {
		return false
	}
	out, err := parsed.Marshal()
	return err == nil && string(out) == d.SDP
}

// attribute is what the SDP parser's type has; its package need not be known
// here.
type attribute interface{ ~struct{ Key, Value string } }

func attributes[A attribute](list []A, key string) []string {
	var out []string
	for _, a := range list {
		if kv := (struct{ Key, Value string })(a); kv.Key == key {
			out = append(out, kv.Value)
		}
	}
	return out
}

func dropCandidates[A attribute](list []A, keep func(string) bool) []A {
	out := list[:0]
	for _, a := range list {
		kv := (struct{ Key, Value string })(a)
		if kv.Key == "candidate" && !keep(kv.Value) || kv.Key == "remote-candidates" {
			continue
		}
		out = append(out, a)
	}
	return out
}

// parseFingerprint gives lower-case hex without colons of the value of an
// a=fingerprint line (RFC 8122).
func parseFingerprint(v string) (string, error) {
	algorithm, value, ok := strings.Cut(v, " ")
	if !ok || !strings.EqualFold(algorithm, "sha-256") {
		return "", fmt.Errorf("%w: not sha-256", ErrFingerprint)
	}
	const n = sha256.Size
	if len(value) != 3*n-1 {
		return "", fmt.Errorf("%w: wrong length", ErrFingerprint)
	}
	for i := 2; i < len(value); i += 3 {
		if value[i] != ':' {
			return "", fmt.Errorf("%w: not pairs of hex digits with colons", ErrFingerprint)
		}
	}
	b, err := hex.DecodeString(strings.ReplaceAll(value, ":", ""))
	if err != nil || len(b) != n {
		return "", fmt.Errorf("%w: not hexadecimal", ErrFingerprint)
	}
	return hex.EncodeToString(b), nil
}
