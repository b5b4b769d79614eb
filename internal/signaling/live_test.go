package signaling_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/pkg/wire"
)

// A running server takes other origins, proxies and limits for what comes from
// then on; what is wrong changes nothing.
func TestReload(t *testing.T) {
	reg := prometheus.NewRegistry()
	n := start(t, signaling.Config{Registerer: reg, AllowedOrigins: []string{"old.example"}})
	early := connect(t, n, newDevice(t))
	page := func(origin string) int { return httpStatus(t, n, http.Header{"Origin": {"https://" + origin}}) }
	if page("old.example") == http.StatusForbidden || page("new.example") != http.StatusForbidden {
		t.Error("the first origins do not hold")
	}
	for _, wrong := range []signaling.Live{
		{AllowedOrigins: []string{"new.example"}, TrustedProxies: []string{"x"}},
		{AllowedOrigins: []string{"new.example"}, Limits: signaling.Limits{Topics: 1 << 20}},
	} {
		if err := n.Reload(wrong); err == nil || page("new.example") != http.StatusForbidden {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	err := n.Reload(signaling.Live{
		AllowedOrigins: []string{"new.example"}, TrustedProxies: []string{"127.0.0.0/8"},
		Limits: signaling.Limits{Topics: 2, Sessions: 1, SessionsPerAddress: 5, SendQueueBytes: 7},
	})
	if err != nil {
		t.Fatal(err)
	}
	if page("old.example") != http.StatusForbidden || page("new.example") == http.StatusForbidden {
		t.Error("the new origins do not hold")
	}
	if r := early.topics(tags(3), nil); r.Code != wire.CodeTooLarge {
		t.Errorf("three topics: %+v", r)
	}
	if r := early.topics(tags(2), nil); r.Code != wire.CodeOK {
		t.Errorf("two topics: %+v", r)
	}
	late := dial(t, n)
	if late.hello.Limits.Topics != 2 {
		t.Errorf("a new client is told %d topics", late.hello.Limits.Topics)
	}
	late.send(newDevice(t).auth(t, late.hello.Nonce, n.name, time.Now()))
	if r := read[*wire.Refused](late); r.Code != wire.CodeServerFull {
		t.Errorf("one session too many: %+v", r)
	}
	const want = "# HELP peersignal_signaling_sessions_limit Most sessions of this node.\n" +
		"# TYPE peersignal_signaling_sessions_limit gauge\npeersignal_signaling_sessions_limit 1\n"
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "peersignal_signaling_sessions_limit"); err != nil {
		t.Error(err)
	}
}
