//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/test/harness"
	"github.com/peersignal/peersignal/test/nat/lab"
)

const (
	documents = 200
	group     = "garden"
	// connectWithin and recoverWithin are what is demanded, from asking to join, and from when the network works again. They
	// do not hold for -short, which runs on machines that may be slow or busy.
	connectWithin = 30 * time.Second
	recoverWithin = 60 * time.Second
	// measurements are how often a network is measured at most: on a busy machine a packet may be late.
	measurements = 5
	// patience is how long recovery is watched, so that the table tells how late it was.
	patience = 150 * time.Second
)

// A play is one case under way.
type play struct {
	s          scenario
	net        *network
	alice, bob *harness.Daemon
	notes      [2]string // ids of two documents that both edit
	edits      int
	res        *result
	judged     bool // by the time that it takes, too
}

// runCase runs one case in a lab and a folder of its own, and takes both away.
func runCase(ctx context.Context, s scenario, bin harness.Binaries, o options) result {
	res := result{s: s}
	if ctx.Err() != nil {
		res.err = ctx.Err()
		return res
	}
	dir, err := os.MkdirTemp("", "psnat-")
	if err != nil {
		res.err = err
		return res
	}
	world, err := harness.NewWorld(dir, bin)
	if err != nil {
		res.err = err
		return res
	}
	l := lab.New()
	p := &play{s: s, res: &res, judged: !o.short}
	caseCtx, cancel := context.WithTimeout(ctx, 6*time.Minute)
	defer cancel()
	err = p.run(caseCtx, l, world)
	switch {
	case errors.Is(err, errNotOffered):
		res.skipped, err = err.Error(), nil
	case err == nil && s.known != "":
		res.note = "holds, although it was not expected to"
	case err != nil && s.known != "" && ctx.Err() == nil:
		res.known, res.note, err = true, s.known, nil
	}
	if o.keep && p.net != nil {
		p.explainKept(dir)
		<-ctx.Done()
	}
	world.Close()
	if res.err = errors.Join(err, l.Close()); res.err == nil {
		_ = os.RemoveAll(dir)
	} else {
		res.logs, res.tails = dir, world.Logs(60)
	}
	return res
}

func (p *play) explainKept(dir string) {
	fmt.Printf("%s is kept until SIGINT; its files are in %s\n", p.s.name, dir)
	for _, n := range []*lab.Node{p.net.internet.Node, p.net.server, p.net.a.router.Node, p.net.a.port.Host, p.net.b.router.Node, p.net.b.port.Host} {
		fmt.Printf("  %-9s %s\n", n.Role, strings.Join(append(n.Command(), "…"), " "))
	}
}

func (p *play) run(ctx context.Context, l *lab.Lab, w *harness.World) (err error) {
	if p.net, err = newNetwork(ctx, l, p.s); err != nil {
		return fmt.Errorf("building the network: %w", err)
	}
	p.net.useWorld(w)
	if err := p.checkNetwork(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{p.net.startServer, p.startDaemons, p.join, p.sync, p.editBoth, p.checkPath} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if p.s.trouble != nil {
		if err := p.suffer(ctx); err != nil {
			return err
		}
	}
	return p.compare(ctx)
}

// checkNetwork: a case proves nothing if its routers are not what they are called.
func (p *play) checkNetwork(ctx context.Context) error {
	for try := 1; ; try++ {
		a, b, err := p.net.measure(ctx)
		if err != nil {
			return fmt.Errorf("measuring the network: %w", err)
		}
		p.res.nat = a
		if a != b {
			p.res.nat = a + ", " + b
		}
		if a == p.s.a.wanted() && b == p.s.b.wanted() {
			return nil
		}
		if try == measurements {
			return fmt.Errorf("the laboratory is wrong: measured %s and %s, want %s and %s", a, b, p.s.a.wanted(), p.s.b.wanted())
		}
	}
}

func (p *play) startDaemons(ctx context.Context) error {
	for _, side := range []struct {
		name   string
		host   *lab.Node
		daemon **harness.Daemon
	}{{"alice", p.net.a.port.Host, &p.alice}, {"bob", p.net.b.port.Host, &p.bob}} {
		d, err := p.net.world.NewDaemon(ctx, side.name)
		if err != nil {
			return err
		}
		d.Within = side.host.Command()
		if p.net.certificate != nil {
			d.Within = append(d.Within, "env", "SSL_CERT_FILE="+p.net.certificate.Cert)
		}
		if err := d.Up(ctx, "--log-level", "debug"); err != nil {
			return err
		}
		*side.daemon = d
	}
	return nil
}

// join measures from the command until each side shows the other one connected.
func (p *play) join(ctx context.Context) error {
	if _, err := p.alice.CLI(ctx, "group", "create", group); err != nil {
		return err
	}
	var inv api.Invitation
	if err := p.alice.JSON(ctx, &inv, "group", "invite", group); err != nil {
		return err
	}
	begin := time.Now()
	wait := patience
	if p.s.known != "" {
		wait = connectWithin
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	g, limited := errgroup.WithContext(limited)
	g.Go(func() error {
		_, err := p.bob.CLI(limited, "join", inv.Link, "--yes", "--wait", "--timeout", "2m")
		if exit, failed := errors.AsType[*harness.ExitError](err); failed {
			return errors.New(strings.TrimSpace(exit.Stderr)) // without the link
		}
		return err
	})
	g.Go(func() error {
		err := harness.Until(limited, "a connection", func() (bool, error) {
			a, b, err := p.devices(limited)
			return err == nil && a.Connected && b.Connected, err
		})
		p.res.connect = time.Since(begin)
		return err
	})
	if err := g.Wait(); err != nil {
		return fmt.Errorf("joining: %w", p.explain(ctx, err))
	}
	if p.judged && p.res.connect > connectWithin {
		p.res.complain("connected after %s, wanted %s", seconds(p.res.connect), seconds(connectWithin))
	}
	return nil
}

// explain adds what the daemons say about each other.
func (p *play) explain(ctx context.Context, err error) error {
	a, b, statusErr := p.devices(ctx)
	if statusErr != nil {
		return err
	}
	return fmt.Errorf("%w (alice: %s; bob: %s)", err, state(a), state(b))
}

func state(d api.Device) string {
	switch {
	case d.Connected:
		return fmt.Sprintf("connected, %s/%s", d.LocalCandidate, d.RemoteCandidate)
	case d.LastError != "":
		return d.LastError
	case d.Present:
		return "not connected"
	}
	return "does not see the other one"
}

// devices returns what each daemon knows about the other one's device.
func (p *play) devices(ctx context.Context) (a, b api.Device, err error) {
	for _, side := range []struct {
		d *harness.Daemon
		v *api.Device
	}{{p.alice, &a}, {p.bob, &b}} {
		var s api.Status
		if err := side.d.JSON(ctx, &s, "status"); err != nil {
			return a, b, err
		}
		if len(s.Devices) > 0 {
			*side.v = s.Devices[0]
		}
	}
	return a, b, nil
}

// sync measures a first load of documents.
func (p *play) sync(ctx context.Context) error {
	var lines bytes.Buffer
	for i := range documents {
		fmt.Fprintf(&lines, `{"type":"Record","key":"r%d","n":%d,"text":%q}`+"\n", i, i, strings.Repeat("a line of a record. ", 20))
	}
	begin := time.Now()
	if _, err := p.alice.CLIInput(ctx, &lines, "import", group, "-", "--key", "key"); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := harness.Until(limited, fmt.Sprintf("%d documents", documents), func() (bool, error) {
		a, err := p.group(limited, p.alice)
		if err != nil {
			return false, err
		}
		b, err := p.group(limited, p.bob)
		return a.Documents == documents && b.Documents == documents && a.Fingerprint == b.Fingerprint, err
	})
	p.res.sync = time.Since(begin)
	if err != nil {
		return p.explain(ctx, err)
	}
	return nil
}

func (p *play) group(ctx context.Context, d *harness.Daemon) (api.Group, error) {
	var s api.Status
	if err := d.JSON(ctx, &s, "status"); err != nil {
		return api.Group{}, err
	}
	for _, g := range s.Groups {
		if g.Name == group {
			return g, nil
		}
	}
	return api.Group{}, nil
}

// put writes an edit of document i; the first one creates it.
func (p *play) put(ctx context.Context, d *harness.Daemon, i int) (text string, err error) {
	p.edits++
	text = fmt.Sprintf("edit %d by %s", p.edits, d.Name)
	args := []string{"put", group, "-", "--json"}
	if p.notes[i] != "" {
		args = append(args, "--id", p.notes[i])
	}
	out, err := d.CLIInput(ctx, strings.NewReader(fmt.Sprintf(`{"type":"Note","text":%q}`, text)), args...)
	if err != nil {
		return "", err
	}
	var stored api.Document
	if err := json.Unmarshal(out, &stored); err != nil {
		return "", fmt.Errorf("put: %w in %q", err, out)
	}
	p.notes[i] = stored.ID
	return text, nil
}

// arrives waits until document i reads so at a daemon.
func (p *play) arrives(ctx context.Context, d *harness.Daemon, i int, text string) error {
	return harness.Until(ctx, fmt.Sprintf("%q to reach %s", text, d.Name), func() (bool, error) {
		out, err := d.CLI(ctx, "get", group, p.notes[i])
		if _, failed := errors.AsType[*harness.ExitError](err); failed {
			return false, nil // not there yet
		}
		return bytes.Contains(out, []byte(text)), err
	})
}

// editBoth sends one edit each way, and measures until both have arrived.
func (p *play) editBoth(ctx context.Context) error {
	arrived, err := p.putBoth(ctx)
	if err != nil {
		return err
	}
	begin := time.Now()
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := arrived(limited); err != nil {
		return p.explain(ctx, err)
	}
	p.res.edit = max(p.res.edit, time.Since(begin))
	return nil
}

// putBoth writes an edit on each side; what it returns waits for them on the other sides.
func (p *play) putBoth(ctx context.Context) (func(context.Context) error, error) {
	byAlice, err := p.put(ctx, p.alice, 0)
	if err != nil {
		return nil, err
	}
	byBob, err := p.put(ctx, p.bob, 1)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return p.arrives(ctx, p.bob, 0, byAlice) })
		g.Go(func() error { return p.arrives(ctx, p.alice, 1, byBob) })
		return g.Wait()
	}, nil
}

// checkPath records the chosen pair and compares it with what the network should allow.
func (p *play) checkPath(ctx context.Context) error {
	pair, path, err := p.path(ctx)
	if err != nil {
		return err
	}
	p.res.pair = pair
	if path != p.s.path {
		p.res.complain("connected by %s, wanted %s", path, p.s.path)
	}
	return nil
}

// path is direct or relay as alice tells it; pair has besides how each side sees the candidates, its own first.
func (p *play) path(ctx context.Context) (pair, path string, err error) {
	a, b, err := p.devices(ctx)
	if err != nil {
		return "", "", err
	}
	pair = fmt.Sprintf("%s, %s-%s / %s-%s", a.Path, a.LocalCandidate, a.RemoteCandidate, b.LocalCandidate, b.RemoteCandidate)
	return pair, a.Path, nil
}

// suffer lets the network do what the case is about, and measures from when it works again until edits that were made
// in the meantime have arrived.
func (p *play) suffer(ctx context.Context) error {
	before, _, err := p.devices(ctx)
	if err != nil {
		return err
	}
	t := p.s.trouble
	wait := func(context.Context) error { return nil }
	if t.cut != nil {
		if err := t.cut(ctx, p.net); err != nil {
			return fmt.Errorf("making trouble: %w", err)
		}
		if wait, err = p.putBoth(ctx); err != nil {
			return err
		}
	}
	select {
	case <-time.After(t.hold):
	case <-ctx.Done():
		return ctx.Err()
	}
	if t.heal != nil {
		if err := t.heal(ctx, p.net); err != nil {
			return fmt.Errorf("ending trouble: %w", err)
		}
	}
	begin := time.Now()
	if t.cut == nil {
		if wait, err = p.putBoth(ctx); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = wait(limited)
	p.res.recover = time.Since(begin)
	if err != nil {
		return p.explain(ctx, fmt.Errorf("not recovered: %w", err))
	}
	if p.judged && p.res.recover > recoverWithin {
		p.res.complain("recovered after %s, wanted %s", seconds(p.res.recover), seconds(recoverWithin))
	}
	if err := p.editBoth(ctx); err != nil {
		return fmt.Errorf("after recovery: %w", err)
	}
	return p.noteRecovery(ctx, before)
}

// noteRecovery tells what became of the connection.
func (p *play) noteRecovery(ctx context.Context, before api.Device) error {
	after, _, err := p.devices(ctx)
	if err != nil {
		return err
	}
	pair, _, err := p.path(ctx)
	if err != nil {
		return err
	}
	p.res.note = "same connection"
	if after.Since != before.Since {
		p.res.note = "new connection"
	}
	if pair != p.res.pair {
		p.res.note += ", now " + pair
	}
	return nil
}

// compare: in the end both have the same bytes.
func (p *play) compare(ctx context.Context) error {
	var exports [2][]byte
	for i, d := range []*harness.Daemon{p.alice, p.bob} {
		out, err := d.CLI(ctx, "export", group)
		if err != nil {
			return err
		}
		exports[i] = out
	}
	if lines := bytes.Count(exports[0], []byte("\n")); lines != documents+len(p.notes) || !bytes.Equal(exports[0], exports[1]) {
		return fmt.Errorf("exports of %d and %d bytes, the first with %d documents, are not the same %d", len(exports[0]), len(exports[1]), lines, documents+len(p.notes))
	}
	return p.res.verdict()
}
