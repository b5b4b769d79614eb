package exchange_test

import (
	"testing"

	"github.com/peersignal/peersignal/pkg/sync/files"
	"github.com/peersignal/peersignal/pkg/sync/files/exchange"
)

// split cuts input into messages: a byte of length each.
func split(b []byte) [][]byte {
	var out [][]byte
	for len(b) > 0 && len(out) < 12 {
		n := min(int(b[0]), len(b)-1)
		out = append(out, b[1:1+n])
		b = b[1+n:]
	}
	return out
}

// FuzzServer sends a server any questions behind a good open.
func FuzzServer(f *testing.F) {
	g := newGiver(f, exchange.ServerConfig{})
	ref := add(f, g.store, random(files.ChunkSize+1, 1))
	opening := append([]byte{1, 1}, ref.ID[:]...)
	opening = append(opening, ref.Root[:]...)
	opening = append(opening, 0, 0, 0, 0, 0, 4, 0, 1)
	f.Add([]byte{1, 2, 5, 3, 0, 0, 0, 0, 5, 4, 0, 0, 0, 1, 1, 5})
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, b []byte) {
		st := g.dial(t.Context(), "a")
		_ = st.WriteMessage(t.Context(), opening)
		for _, m := range split(b) {
			_ = st.WriteMessage(t.Context(), m)
		}
		_ = st.Close()
		<-g.ended
	})
}

// FuzzSource gives a fetcher any answers: it takes nothing that is not of the
// file, and ends.
func FuzzSource(f *testing.F) {
	content := random(100, 1)
	ref := files.RefOf(content)
	f.Add([]byte{2, 129, 1, 33, 130})
	f.Add([]byte{2, 129, 1, 1, 134})
	f.Add([]byte{1, 135})
	f.Fuzz(func(t *testing.T, b []byte) {
		k := newTaker(t, ref)
		mine, other := newPipe()
		for _, m := range split(b) {
			_ = other.WriteMessage(t.Context(), m)
		}
		_ = other.Close()
		_ = k.Source(t.Context(), "x", mine)
		_ = k.p.Close()
	})
}
