package sync_test

import (
	"context"
	"testing"
	"time"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/storetest"
)

func newStore() groupsync.Store { return storetest.NewMemory() }

// A rawPeer speaks frames by hand.
type rawPeer struct {
	t testing.TB
	p groupsync.Transport
}

func newRaw(t testing.TB, p groupsync.Transport) *rawPeer { return &rawPeer{t, p} }

func (r *rawPeer) hello() {
	r.send(groupsync.Control, append([]byte{0x01, 1, 0}, make([]byte, 16)...))
}

func (r *rawPeer) send(lane groupsync.Lane, frame []byte) {
	r.t.Helper()
	must(r.t, r.p.Send(r.t.Context(), lane, frame))
}

// expect reads frames until one of that type comes.
func (r *rawPeer) expect(kind byte) []byte {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	for {
		_, f, err := r.p.Recv(ctx)
		if err != nil {
			r.t.Fatalf("waiting for frame %#x: %v", kind, err)
		}
		if f[0] == kind {
			return f
		}
	}
}
