package signaling_test

import (
	"testing"

	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// kick ends the sessions of a device.
func kick(t *testing.T, n *node, device peercrypto.ID) int {
	t.Helper()
	ended, err := n.Kick(signaling.Selector{Device: string(device)}, "go away")
	if err != nil {
		t.Fatal(err)
	}
	return ended
}
