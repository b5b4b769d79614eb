package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/test/harness"
)

type demo struct {
	world      *harness.World
	out        io.Writer
	alice, bob *harness.Daemon
	data       string // NDJSON file with the data set
	docs       int    // lines in it
}

func (d *demo) play(ctx context.Context) error {
	if err := d.makeData(ctx); err != nil {
		return err
	}
	if err := d.startAll(ctx); err != nil {
		return err
	}
	d.title("Any path: ICE may connect the two directly")
	if err := d.act(ctx, "garden", "direct"); err != nil {
		return err
	}
	d.title("Relay only: the same through the server's own TURN")
	for _, daemon := range []*harness.Daemon{d.alice, d.bob} {
		if err := daemon.Process.Stop(15 * time.Second); err != nil {
			return err
		}
		if err := daemon.Up(ctx, "--ice-transport", "relay"); err != nil {
			return err
		}
	}
	if err := d.act(ctx, "orchard", "relay"); err != nil {
		return err
	}
	d.title("All of it held: exports are byte-identical, fingerprints equal, both paths used")
	return nil
}

// makeData writes the packages of the standard library as JSON documents: it is on every machine that can build this.
func (d *demo) makeData(ctx context.Context) error {
	list, err := exec.CommandContext(ctx, "go", "list", "-json=ImportPath,Name,Doc,Standard,GoFiles,Imports,Deps", "std", "cmd").Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	var lines bytes.Buffer
	for dec := json.NewDecoder(bytes.NewReader(list)); ; {
		var pkg json.RawMessage
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("output of go list: %w", err)
		}
		if err := json.Compact(&lines, pkg); err != nil {
			return err
		}
		lines.WriteByte('\n')
		d.docs++
	}
	d.data = filepath.Join(d.world.Dir, "packages.ndjson")
	return os.WriteFile(d.data, lines.Bytes(), 0o600)
}

func (d *demo) startAll(ctx context.Context) error {
	d.title("A server and two users")
	if err := d.world.StartServer(ctx); err != nil {
		return err
	}
	d.say("peersignal", "%s, STUN and TURN on loopback (pid %d)", d.world.URL(), d.world.Server.PID())
	for _, u := range []struct {
		name string
		at   **harness.Daemon
	}{{"alice", &d.alice}, {"bob", &d.bob}} {
		daemon, err := d.world.NewDaemon(ctx, u.name)
		if err != nil {
			return err
		}
		if err := daemon.Up(ctx); err != nil {
			return err
		}
		*u.at = daemon
		var id api.ID
		if err := daemon.JSON(ctx, &id, "id"); err != nil {
			return err
		}
		d.say("peerd "+u.name, "user %s, device %s (pid %d)", id.User, id.Device, daemon.Process.PID())
	}
	return nil
}

// act is the whole story of one group.
func (d *demo) act(ctx context.Context, group, path string) error {
	if err := d.invite(ctx, group); err != nil {
		return err
	}
	if err := d.fill(ctx, group); err != nil {
		return err
	}
	if err := d.edit(ctx, group); err != nil {
		return err
	}
	if err := d.showPath(ctx, path); err != nil {
		return err
	}
	return d.compare(ctx, group)
}

func (d *demo) invite(ctx context.Context, group string) error {
	var created api.Group
	if err := d.alice.JSON(ctx, &created, "group", "create", group); err != nil {
		return err
	}
	var invitation api.Invitation
	if err := d.alice.JSON(ctx, &invitation, "group", "invite", group); err != nil {
		return err
	}
	d.say("alice", "created %s and made an invitation (%s, one use)", group, invitation.Role)
	began := time.Now()
	if _, err := d.bob.CLI(ctx, "join", invitation.Link, "--yes", "--wait"); err != nil {
		return err
	}
	d.say("bob", "read the invitation, agreed and joined: %s", since(began))
	members, err := d.group(ctx, d.bob, group)
	if err != nil {
		return err
	}
	if len(members.Members) != 2 || members.Role != "write" {
		return fmt.Errorf("bob sees %d members and role %q, want 2 and write", len(members.Members), members.Role)
	}
	return nil
}

func (d *demo) fill(ctx context.Context, group string) error {
	began := time.Now()
	if _, err := d.alice.CLI(ctx, "import", group, d.data, "--type", "Package", "--key", "ImportPath"); err != nil {
		return err
	}
	d.say("alice", "imported %d Go packages (%s), each signed and durable: %s", d.docs, size(fileSize(d.data)), since(began))
	if err := d.waitEqual(ctx, group, int64(d.docs)); err != nil {
		return err
	}
	took := time.Since(began)
	d.say("bob", "has all %d, every signature verified: %s after the import began, %.0f documents/s",
		d.docs, round(took), float64(d.docs)/took.Seconds())
	return nil
}

func (d *demo) edit(ctx context.Context, group string) error {
	for _, e := range []struct {
		who, other string
		from, to   *harness.Daemon
	}{{"alice", "bob", d.alice, d.bob}, {"bob", "alice", d.bob, d.alice}} {
		began := time.Now()
		note := fmt.Sprintf(`{"type":"Note","text":"%s was here"}`, e.who)
		var doc api.Document
		out, err := e.from.CLIInput(ctx, strings.NewReader(note), "put", group, "-", "--json")
		if err != nil {
			return err
		}
		if err := json.Unmarshal(out, &doc); err != nil {
			return fmt.Errorf("answer of put: %w", err)
		}
		err = harness.Until(ctx, e.other+" to see the edit", func() (bool, error) {
			_, err := e.to.CLI(ctx, "get", group, doc.ID)
			return err == nil, nil
		})
		if err != nil {
			return err
		}
		d.say(e.who, "wrote a note, %s reads it: %s (two runs of the CLI included)", e.other, since(began))
	}
	return d.waitEqual(ctx, group, int64(d.docs)+2)
}

func (d *demo) showPath(ctx context.Context, want string) error {
	var status api.Status
	if err := d.bob.JSON(ctx, &status, "status"); err != nil {
		return err
	}
	for _, device := range status.Devices {
		if !device.Connected {
			continue
		}
		d.say("discovery", "bob sees %s's device %s through %d topics of %s", device.Name, device.Device, status.Server.Topics, status.Server.Name)
		d.say("connection", "%s: %s ↔ %s over %s, %.1f ms; %s in, %s out", device.Path, device.LocalCandidate, device.RemoteCandidate,
			device.Protocol, device.RTT, size(int64(device.BytesIn)), size(int64(device.BytesOut)))
		if device.Path != want {
			return fmt.Errorf("the connection is %q, want %q", device.Path, want)
		}
		return nil
	}
	return errors.New("bob is connected to nobody")
}

// compare checks what was claimed: the same fingerprint and the same bytes.
func (d *demo) compare(ctx context.Context, group string) error {
	a, err := d.group(ctx, d.alice, group)
	if err != nil {
		return err
	}
	b, err := d.group(ctx, d.bob, group)
	if err != nil {
		return err
	}
	left, err := d.alice.CLI(ctx, "export", group)
	if err != nil {
		return err
	}
	right, err := d.bob.CLI(ctx, "export", group)
	if err != nil {
		return err
	}
	d.say("equal", "fingerprint %s = %s, %d documents, %d changes, %d operations; exports of %s compared byte by byte",
		a.Fingerprint, b.Fingerprint, b.Documents, b.Entries, b.Operations, size(int64(len(left))))
	if a.Fingerprint != b.Fingerprint || !bytes.Equal(left, right) {
		return errors.New("the two sides differ")
	}
	if got := bytes.Count(left, []byte("\n")); got != d.docs+2 {
		return fmt.Errorf("the export has %d documents, want %d", got, d.docs+2)
	}
	return nil
}

func (d *demo) waitEqual(ctx context.Context, group string, docs int64) error {
	return harness.Until(ctx, "both to have the same "+group, func() (bool, error) {
		a, err := d.group(ctx, d.alice, group)
		if err != nil {
			return false, err
		}
		b, err := d.group(ctx, d.bob, group)
		if err != nil {
			return false, err
		}
		return a.Documents == docs && b.Documents == docs && a.Fingerprint == b.Fingerprint, nil
	})
}

func (d *demo) group(ctx context.Context, daemon *harness.Daemon, name string) (api.Group, error) {
	var status api.Status
	if err := daemon.JSON(ctx, &status, "status"); err != nil {
		return api.Group{}, err
	}
	for _, g := range status.Groups {
		if g.Name == name {
			return g, nil
		}
	}
	return api.Group{}, fmt.Errorf("%s has no group %s", daemon.Name, name)
}
