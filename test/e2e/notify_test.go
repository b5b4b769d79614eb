package e2e

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/test/harness"
)

// A message reaches a daemon that is there, and one that was killed and comes back, and the server can read none of them.
func TestNotify(t *testing.T) {
	ctx, w := world(t)
	a, b := user(t, ctx, w, "alice"), user(t, ctx, w, "bob")
	join(t, ctx, a, b, "garden")
	notify := func(text string) (out []api.Notified) {
		t.Helper()
		if err := a.JSON(ctx, &out, "notify", "garden", "bob", text); err != nil {
			t.Fatal(err)
		}
		return out
	}
	inbox := func() (texts []string) {
		t.Helper()
		var list []api.Notification
		if err := b.JSON(ctx, &list, "inbox"); err != nil {
			t.Fatal(err)
		}
		for _, n := range list {
			texts = append(texts, n.Text)
		}
		return texts
	}
	const first, second = "the-roses-are-in-bloom", "come-back"
	if got := notify(first); len(got) != 1 || got[0].Delivery != "delivered" {
		t.Fatalf("notify: %+v", got)
	}
	until := func(want ...string) {
		t.Helper()
		if err := harness.Until(ctx, "inbox", func() (bool, error) {
			return strings.Join(inbox(), " ") == strings.Join(want, " "), nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	until(first)
	b.Process.Kill()
	waitParked(t, ctx, w)
	if got := notify(second); len(got) != 1 || got[0].Delivery != "queued" {
		t.Fatalf("notify who was killed: %+v", got)
	}
	up(t, ctx, b)
	until(first, second)
	if log := w.Server.Log(); strings.Contains(log, first) || strings.Contains(log, second) {
		t.Error("the server's log has the text")
	}
	cli(t, ctx, b, "inbox", "--clear")
	until()
}

// waitParked waits until the server has noticed that a device is gone.
func waitParked(t *testing.T, ctx context.Context, w *harness.World) {
	t.Helper()
	if err := harness.Until(ctx, "the end of a connection", func() (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.URL()+"/metrics", nil)
		if err != nil {
			return false, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, err
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		return strings.Contains(string(text), "\npeersignal_signaling_parked 1\n"), err
	}); err != nil {
		t.Fatal(err)
	}
}
