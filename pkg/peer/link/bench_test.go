package link_test

import "testing"

// BenchmarkThroughput sends 1 MiB messages over one stream on loopback. Both
// stacks are in this process.
func BenchmarkThroughput(b *testing.B) {
	r := newRelay(b)
	x, y := startDevice(b, r.url(), nil), startDevice(b, r.url(), nil)
	xc, yc := connect(b, x, y)
	ctx := b.Context()
	s, err := xc.OpenStream(ctx, "bench")
	if err != nil {
		b.Fatal(err)
	}
	p, err := yc.AcceptStream(ctx)
	if err != nil {
		b.Fatal(err)
	}
	msg := make([]byte, 1<<20)
	b.SetBytes(int64(len(msg)))
	for b.Loop() {
		if err := s.WriteMessage(ctx, msg); err != nil {
			b.Fatal(err)
		}
		if _, err := p.ReadMessage(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
