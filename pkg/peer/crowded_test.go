package peer

import (
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// TestCrowded: who sends most gives way, whenever it was.
func TestCrowded(t *testing.T) {
	for text, want := range map[string]int{"abba": 0, "abbab": 1, "aab": 0, "abcc": 2, "a": 0, "bca": 0, "baaac": 1} {
		var users []peercrypto.ID
		for _, r := range text {
			users = append(users, peercrypto.ID(r))
		}
		if got := crowded(users); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}
