package load_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/peersignal/peersignal/internal/load"
	"github.com/peersignal/peersignal/pkg/wire"
)

// TestPercentiles compares with sorting.
func TestPercentiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		var h load.Durations
		all := make([]time.Duration, 1+r.IntN(5000))
		for i := range all {
			all[i] = time.Duration(r.Int64N(1 << (10 + r.IntN(30))))
			h.Add(all[i])
		}
		slices.Sort(all)
		p := h.Percentiles()
		for _, c := range []struct{ q, got float64 }{{0.5, p.P50}, {0.9, p.P90}, {0.99, p.P99}, {0.999, p.P999}, {1, p.Max}} {
			want := float64(all[max(0, int(c.q*float64(len(all))+0.999999)-1)]) / 1e6
			if c.got < want-0.002 || c.got > want*1.01+0.002 {
				t.Errorf("percentile %g of %d: got %g ms, want about %g", c.q, len(all), c.got, want)
			}
		}
		if p.Count != uint64(len(all)) {
			t.Errorf("count %d, want %d", p.Count, len(all))
		}
	}
	if (new(load.Durations).Percentiles() != load.Percentiles{}) {
		t.Error("nothing has percentiles")
	}
}

func TestHistogramAllocatesNothing(t *testing.T) {
	var h load.Durations
	if n := testing.AllocsPerRun(100, func() { h.Add(time.Millisecond) }); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

// TestMessagesAreValid decodes what a device says as a server does.
func TestMessagesAreValid(t *testing.T) {
	d, err := load.Peersignal{Server: "localhost:8080"}.Device(7)
	if err != nil {
		t.Fatal(err)
	}
	other, err := load.Peersignal{Server: "localhost:8080"}.Device(8)
	if err != nil {
		t.Fatal(err)
	}
	via := load.Topic{1, 2, 3}
	for _, size := range []int{320, 1600, 16_000, load.MaxSize} {
		for _, answer := range []bool{false, true} {
			frame := d.Signal(nil, load.Signal{Answer: answer, ID: 12, To: other.ID(), Via: via, Conn: 1<<48 - 1, Size: size})
			m, err := wire.DecodeFromClient(frame)
			if err != nil {
				t.Fatalf("size %d: %v: %.300s", size, err, frame)
			}
			if len(frame) < size-40 || len(frame) > size+40 {
				t.Errorf("%d bytes, want about %d", len(frame), size)
			}
			arrived := m.(*wire.Signal).Stamped(m.(*wire.Signal).To)
			e, reply := other.Read(arrived, nil)
			want := load.Offer
			if answer {
				want = load.Answer
			}
			if e.Kind != want || e.Conn != 1<<48-1 || len(reply) != 0 {
				t.Errorf("read %+v, reply %q", e, reply)
			}
		}
	}
	topics := d.Topics(nil, 3, []load.Topic{via, {4}}, []load.Topic{{5}})
	if m, err := wire.DecodeFromClient(topics); err != nil || len(m.(*wire.Topics).Add) != 2 || len(m.(*wire.Topics).Del) != 1 {
		t.Errorf("%v: %s", err, topics)
	}
	if _, err := wire.DecodeFromClient(d.Bye(nil)); err != nil {
		t.Error(err)
	}
	dst := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		d.Signal(dst, load.Signal{ID: 12, To: other.ID(), Via: via, Conn: 5, Size: 1600})
	}); n != 0 {
		t.Errorf("a signal costs %g allocations", n)
	}
}

// FuzzMembers compares the scanner with encoding/json on what that takes.
func FuzzMembers(f *testing.F) {
	f.Add([]byte(`{"type":"result","id":12,"code":"ok","retryAfter":5,"a":{"b":[1,"}"]},"c":"\\\""}`))
	f.Add([]byte(` { "a" : [ ] , "b":null,"c":-1.5e3}`))
	f.Add([]byte(`{"a`))
	f.Add([]byte(`{"a":"\\"`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		got := map[string]json.RawMessage{}
		var names []string
		for name, value := range func(yield func(name, value []byte) bool) { load.Members(frame, yield) } {
			got[string(name)] = json.RawMessage(value)
			names = append(names, string(name))
		}
		var want map[string]json.RawMessage
		if !utf8.Valid(frame) || !json.Valid(frame) || json.Unmarshal(frame, &want) != nil || strings.Contains(string(frame), `\`) || len(names) != len(got) {
			return
		}
		for name, value := range want {
			if string(got[name]) != string(value) {
				t.Errorf("member %q: got %s, want %s", name, got[name], value)
			}
		}
	})
}
