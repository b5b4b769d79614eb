package signaling_test

import (
	"bytes"
	"testing"

	"github.com/coder/websocket"

	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/pkg/wire"
)

// BenchmarkRelay sends 1.6 KB candidates between pairs of devices over real
// sockets, closed loop; the clients' work is in it.
func BenchmarkRelay(b *testing.B) {
	n := start(b, signaling.Config{Limits: signaling.Limits{MessagesPer10s: 1 << 40}})
	env := wire.NewEnvelope(nil, bytes.Repeat([]byte{1}, 1100))
	b.RunParallel(func(pb *testing.PB) {
		u := newUser(b)
		from, to := connect(b, n, u.device(b)), connect(b, n, u.device(b))
		frame, err := wire.Encode(&wire.Signal{
			Kind: wire.KindCandidate, ID: 1, To: to.id(), Conn: newConnID(), Env: env,
		})
		if err != nil {
			b.Error(err)
			return
		}
		for pb.Next() {
			if err := from.ws.Write(b.Context(), websocket.MessageText, frame); err != nil {
				b.Error(err)
				return
			}
			for _, c := range []*client{from, to} {
				if _, _, err := c.ws.Read(b.Context()); err != nil {
					b.Error(err)
					return
				}
			}
		}
	})
}
