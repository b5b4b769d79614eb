package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/abuse.md from the table")

// An abuse is one thing that a stranger or a client can do to a server. The
// table is docs/abuse.md, too.
type abuse struct {
	defect string // number of the stock defect in the table of the design, or ""
	name   string // what the attacker wants
	sent   string // what it sends
	answer string // what the server must do
	do     func(t *testing.T, v *victim)
}

// TestAbuse does everything in the table to one server with its default limits,
// all at the same time. Each row has a pair of good devices that were connected
// before; an offer between them arrives afterwards, and a new device can
// register. In the end the server has forgotten the attackers.
func TestAbuse(t *testing.T) {
	ctx, w := world(t)
	v := &victim{host: strings.TrimPrefix(w.URL(), "http://")}
	t.Run("table", func(t *testing.T) {
		for _, a := range slices.Concat(identityAbuses, messageAbuses, transportAbuses) {
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				good := v.pair(t)
				a.do(t, v)
				good.works()
				v.pair(t).works()
			})
		}
	})
	if !w.Server.Running() {
		t.Fatal("the server ended")
	}
	if log := w.Server.Log(); strings.Contains(log, "panic") || strings.Contains(log, "goroutine ") {
		t.Error("the server's log tells of a panic")
	}
	v.forgotten(t, ctx)
}

const abuseHeader = `# What clients can do to a server, and what it does

Written by ` + "`go test ./test/e2e -run TestAbuseTable -update`" + ` from the table in
[test/e2e](../test/e2e/abuse_test.go): each row is a test against the real program with its default limits, all of them at the same
time. Two good devices that were connected before exchange an offer afterwards, and new ones can register. A number is that of a
defect that the stock signaling server of peerstack 8 has; an attack without one is known from other servers.

| Stock defect | What the attacker wants | What it sends | What the server does |
|---|---|---|---|
`

const abuseFooter = `
The stock system's defects on the client's side are not the server's to prevent:

| Stock defect | | Test |
|---|---|---|
| 1 | certificates were not verified | ` + "`TestTLSRequired`, `TestRedirectRefused`" + ` (pkg/peer/link) |
| 11 | endpoints that failed were remembered by each socket | the server sends to no endpoint of a client |
| 13 | ICE servers were cached for ever | ` + "`TestICERenewed`" + ` (pkg/peer/link) |
| 18, 19 | candidates without bound, sent again and again | ` + "`TestCandidateFlood`, `TestEarlyCandidates`" + ` (pkg/peer/link) |
| 20 | a connection was made for every offer | ` + "`TestForgedOffers`, `TestNotAdmittedCreatesNothing`, `TestOfferRate`" + ` (pkg/peer/link) |
| 21 | an answer was taken from anybody | ` + "`TestForgedSignals`, `TestTamperedAnswer`" + ` (pkg/peer/link) |
| 22 | the end of an old connection removed the new one | ` + "`TestRedialReplaces`" + ` (pkg/peer/link) |
| 23 | an answer was waited for for ever; both dialling left two connections | ` + "`TestNoAnswer`, `TestGlare`, `TestGlareCrossing`" + ` (pkg/peer/link) |
`

// TestAbuseTable keeps the page in step with the table.
func TestAbuseTable(t *testing.T) {
	var b strings.Builder
	b.WriteString(abuseHeader)
	for _, a := range slices.Concat(identityAbuses, messageAbuses, transportAbuses) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", a.defect, a.name, a.sent, a.answer)
	}
	b.WriteString(abuseFooter)
	path := filepath.Join("..", "..", "docs", "abuse.md")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil || string(have) != b.String() {
		t.Errorf("docs/abuse.md is not what the table says (%v): run go test ./test/e2e -run TestAbuseTable -update", err)
	}
}
