package sync_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// A heldPipe gives what comes on the bulk lane only when it is opened. The other side can send no more than its window until then.
type heldPipe struct {
	*pipe
	open chan struct{}
}

func (p *heldPipe) Recv(ctx context.Context) (groupsync.Lane, []byte, error) {
	select {
	case <-p.open:
		return p.pipe.Recv(ctx)
	default:
	}
	select {
	case f := <-p.in[groupsync.Control]:
		return groupsync.Control, f, nil
	case <-p.open:
		return p.pipe.Recv(ctx)
	case <-p.done:
		return 0, nil, errors.New("closed")
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
}

// TestRemovedInTheMiddleOfARange: a member who is removed while a long range is being sent gets what was on its way, and no more.
func TestRemovedInTheMiddleOfARange(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 1)
	g := a.create("g")
	join(t, a, g, entry.Write, b)
	const documents = 160 // 10 MiB; the window and what was read ahead are about 4 MiB
	var docs []json.RawMessage
	for i := range documents {
		docs = append(docs, json.RawMessage(fmt.Sprintf(`{"type":"Row","n":%d,"text":%q}`, i, strings.Repeat("x", 64<<10))))
	}
	res, err := a.PutMany(t.Context(), g, docs)
	must(t, err)
	for _, r := range res {
		must(t, r.Err)
	}
	pa, pb := newPipe()
	held := &heldPipe{pb, make(chan struct{})}
	c := connectOver(t, a, b, pa, held)
	eventually(t, "the first entries are on their way", func() bool { return c.a.Status().EntriesOut > 0 })
	must(t, a.Remove(t.Context(), g, b.UserID(), ""))
	close(held.open)
	<-c.errA
	<-c.errB
	if n := b.info(g).Documents; n > documents/2 {
		t.Errorf("a removed member got %d of %d documents", n, documents)
	}
	if b.info(g).Role != "" {
		t.Error("it was not told of the removal")
	}
}
