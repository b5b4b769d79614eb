// Package deploy holds the artefacts of deploy against the program that they are for: names of metrics, settings,
// runbook pages. What needs a tool (promtool, helm, systemd-analyze) is skipped where that is missing.
package deploy

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/peersignal/peersignal/test/harness"
)

const (
	alertsFile    = "../../deploy/prometheus/alerts.yml"
	dashboardFile = "../../deploy/grafana/peersignal.json"
	runbook       = "../../docs/runbook"
	chart         = "../../deploy/helm/peersignal"
)

var bin harness.Binaries

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "deploy")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	if bin, err = harness.Build(ctx, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// metrics returns what a running server exports, every series that it can have.
func metrics(t *testing.T) string {
	t.Helper()
	w, err := harness.NewWorld(t.TempDir(), bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cert, key := certificate(t)
	pushKey := filepath.Join(t.TempDir(), "push.key")
	if err := os.WriteFile(pushKey, []byte(runTool(t, "", bin.Peersignal, "push-key")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.StartServer(ctx, "--turn-tls-listen", "127.0.0.1:0", "--turn-tls-cert", cert, "--turn-tls-key", key,
		"--audit-file", filepath.Join(t.TempDir(), "audit.jsonl"),
		"--push-key-file", pushKey, "--push-contact", "mailto:operator@example.org"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(w.URL() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("metrics: %s, %v", resp.Status, err)
	}
	return string(text)
}

// certificate writes a pair for the relay: its metrics are there only with one.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	body := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, body, body, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: encoded},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

type rule struct {
	Alert       string
	Expr        string
	Annotations map[string]string
}

func alerts(t *testing.T) []rule {
	t.Helper()
	var doc struct {
		Groups []struct{ Rules []rule }
	}
	if err := yaml.Unmarshal(read(t, alertsFile), &doc); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, g := range doc.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no alerts")
	}
	return all
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// expressions returns those of a dashboard's panels, by title.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	var doc struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(read(t, dashboardFile), &doc); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, p := range doc.Panels {
		for i, q := range p.Targets {
			out[fmt.Sprintf("panel %s, query %d", p.Title, i+1)] = q.Expr
		}
	}
	if len(out) == 0 {
		t.Fatal("no queries")
	}
	return out
}

// What alerts and panels ask for exists: a metric or a label value with another name is silent for ever.
func TestQueriesNameRealSeries(t *testing.T) {
	text := metrics(t)
	queries := expressions(t)
	for _, r := range alerts(t) {
		queries["alert "+r.Alert] = r.Expr
	}
	name := regexp.MustCompile(`\b(?:peersignal|process|go)_[a-z0-9_]+`)
	matcher := regexp.MustCompile(`([a-z]+)(=~|!~|=|!=)"([^"$]+)"`)
	selector := regexp.MustCompile(`\b((?:peersignal|process|go)_[a-z0-9_]+)\{([^}]*)\}`)
	for where, expr := range queries {
		for _, n := range name.FindAllString(expr, -1) {
			if !regexp.MustCompile(`(?m)^` + n + `[{ ]`).MatchString(text) {
				t.Errorf("%s asks for %s, which the server does not export", where, n)
			}
		}
		for _, s := range selector.FindAllStringSubmatch(expr, -1) {
			for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
				if label := m[1]; label == "job" || label == "instance" {
					continue
				}
				for value := range strings.SplitSeq(m[3], "|") {
					if !regexp.MustCompile(`(?m)^` + s[1] + `\{[^}]*` + m[1] + `="` + value + `"`).MatchString(text) {
						t.Errorf("%s asks for %s with %s=%q, which the server does not export", where, s[1], m[1], value)
					}
				}
			}
		}
	}
}

func TestEachAlertHasItsPage(t *testing.T) {
	var pages, names []string
	files, err := filepath.Glob(filepath.Join(runbook, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		pages = append(pages, strings.TrimSuffix(filepath.Base(f), ".md"))
	}
	for _, r := range alerts(t) {
		names = append(names, r.Alert)
		if !strings.HasSuffix(r.Annotations["runbook_url"], "/docs/runbook/"+r.Alert+".md") {
			t.Errorf("%s links to %s", r.Alert, r.Annotations["runbook_url"])
		}
	}
	slices.Sort(pages)
	slices.Sort(names)
	if !slices.Equal(pages, names) {
		t.Errorf("alerts %v\npages  %v", names, pages)
	}
}

// tool runs a program, or skips the test when it is not installed.
func tool(t *testing.T, stdin string, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	return runTool(t, stdin, name, args...)
}

func runTool(t *testing.T, stdin string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

func TestPromtool(t *testing.T) {
	tool(t, "", "promtool", "check", "rules", alertsFile)
	tool(t, "", "promtool", "test", "rules", filepath.Join(filepath.Dir(alertsFile), "alerts_test.yml"))
	tool(t, metrics(t), "promtool", "check", "metrics")
}

func TestComposeSettings(t *testing.T) {
	const dir = "../../deploy/compose/"
	runTool(t, "", bin.Peersignal, "config", "check", "--config", dir+"config.yaml")
	var doc struct {
		Services map[string]struct {
			Image, Build any
			Ports        []string
		}
	}
	if err := yaml.Unmarshal(read(t, dir+"compose.yaml"), &doc); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"peersignal", "prometheus", "grafana"} {
		if doc.Services[s].Image == nil {
			t.Errorf("there is no service %s", s)
		}
	}
	var config map[string]any
	if err := yaml.Unmarshal(read(t, dir+"config.yaml"), &config); err != nil {
		t.Fatal(err)
	}
	ports := fmt.Sprint(config["turn-ports"])
	if want := ports + ":" + ports + "/udp"; !slices.Contains(doc.Services["peersignal"].Ports, want) {
		t.Errorf("turn-ports is %s; published are %v", ports, doc.Services["peersignal"].Ports)
	}
}

func TestChart(t *testing.T) {
	tool(t, "", "helm", "lint", "--quiet", chart)
	all := []string{
		"--set", "metrics.rules.enabled=true,metrics.serviceMonitor.enabled=true,metrics.dashboard.enabled=true",
		"--set", "networkPolicy.enabled=true,podDisruptionBudget.enabled=true,turn.service.enabled=true",
		"--set", "ingress.enabled=true,ingress.host=signal.example.org,ingress.tlsSecret=cert",
		"--set", "config.name={signal.example.org:443},secretFiles.turn-secrets-file.secret=s,secretFiles.turn-secrets-file.key=k",
	}
	for name, args := range map[string][]string{"defaults": nil, "everything": all} {
		text := runTool(t, "", "helm", append([]string{"template", "release", chart, "--kube-version", "1.30.0"}, args...)...)
		config := ""
		for d := yaml.NewDecoder(strings.NewReader(text)); ; {
			var doc struct {
				Kind string
				Data map[string]string
			}
			if err := d.Decode(&doc); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if doc.Kind == "ConfigMap" && doc.Data["config.yaml"] != "" {
				config = doc.Data["config.yaml"]
			}
		}
		// The mounted secret is not there: any will do.
		secret := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(secret, []byte("one:0123456789abcdef0123456789abcdef"), 0o600); err != nil {
			t.Fatal(err)
		}
		config = strings.ReplaceAll(config, "/etc/peersignal/secrets/turn-secrets-file", secret)
		file := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		runTool(t, "", bin.Peersignal, "config", "check", "--config", file)
	}
}

func TestUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	files, err := filepath.Glob("../../deploy/systemd/*.service")
	if err != nil || len(files) == 0 {
		t.Fatalf("units: %v, %v", files, err)
	}
	dir := t.TempDir()
	var units []string
	for _, f := range files {
		// systemd-analyze looks for the programs.
		text := strings.ReplaceAll(string(read(t, f)), "/usr/local/bin/", filepath.Dir(bin.Peersignal)+"/")
		unit := filepath.Join(dir, strings.Replace(filepath.Base(f), "@", "@x", 1))
		if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		units = append(units, unit)
	}
	out := exec.CommandContext(t.Context(), "systemd-analyze", append([]string{"verify", "--man=no"}, units...)...)
	text, err := out.CombinedOutput()
	ours := false
	for line := range strings.Lines(string(text)) { // it also tells of the machine's own units
		if slices.ContainsFunc(units, func(u string) bool { return strings.Contains(line, filepath.Base(u)) }) {
			t.Errorf("systemd-analyze verify: %s", line)
			ours = true
		}
	}
	if err != nil && !ours {
		t.Skipf("systemd-analyze does not work here: %v\n%s", err, text)
	}
}
