package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/buildinfo"
	"github.com/peersignal/peersignal/internal/daemon/api"
)

func (a *app) statusCmd() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Server, connected devices, groups and how far they are in sync",
		Example: "  peerd status\n  peerd status --json | jq '.devices[] | select(.connected) | .path'",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s api.Status
			if err := a.client().Do(cmd.Context(), "GET", "/status", nil, &s); err != nil {
				return err
			}
			return a.print(s, func() { a.showStatus(s) })
		},
	}
}

func (a *app) idCmd() *cobra.Command {
	return &cobra.Command{
		Use: "id", Short: "Your ids and public keys", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var id api.ID
			if err := a.client().Do(cmd.Context(), "GET", "/id", nil, &id); err != nil {
				return err
			}
			return a.print(id, func() {
				a.printf("name        %s\nuser        %s\nuser key    %s\ngenesis     %s\ndevice      %s\ndevice key  %s\n",
					id.Name, id.User, id.UserKey, id.Genesis, id.Device, id.DeviceKey)
			})
		},
	}
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Hidden: true, Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return a.print(map[string]string{"version": buildinfo.Version}, func() { a.printf("peerd %s\n", buildinfo.Version) })
		},
	}
}

// table prints aligned columns.
func (a *app) table(fill func(w io.Writer)) {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fill(w)
	_ = w.Flush()
}

// row writes one line of a table.
func row(w io.Writer, columns ...any) {
	for i, c := range columns {
		if i > 0 {
			_, _ = fmt.Fprint(w, "\t")
		}
		_, _ = fmt.Fprint(w, shown(fmt.Sprint(c)))
	}
	_, _ = fmt.Fprintln(w)
}

func (a *app) showStatus(s api.Status) {
	a.table(func(w io.Writer) {
		row(w, "peerd", fmt.Sprintf("%s, pid %d, up %s", s.Version, s.PID, ago(s.Started)))
		row(w, "you", fmt.Sprintf("%s, user %s, device %s", orDash(s.Name), s.User, s.Device))
		row(w, "server", serverLine(s.Server))
	})
	a.showDevices(s)
	if len(s.Groups) > 0 {
		a.printf("\n")
	}
	a.showGroups(s.Groups, "")
	for _, j := range s.Joins {
		line := fmt.Sprintf("joining %s as %s, asked since %s", orDash(j.Name), j.Role, ago(j.Since))
		if j.Refusal != "" {
			line += "; last answer: " + j.Refusal
		}
		if j.Users > 0 {
			line += fmt.Sprintf("; checking its users, %d of %d", j.Checked, j.Users)
		}
		a.printf("\n%s\n", line)
	}
}

func serverLine(s api.Server) string {
	switch {
	case s.URL == "":
		return "none: offline"
	case s.Connected:
		return fmt.Sprintf("%s, connected for %s; topics %d of %d, devices seen %d", s.Name, ago(s.Since), s.Published, s.Topics, s.Peers)
	case s.LastError != "":
		return fmt.Sprintf("%s, NOT connected: %s", s.URL, s.LastError)
	}
	return s.URL + ", connecting"
}

func (a *app) showDevices(s api.Status) {
	if len(s.Devices) == 0 {
		return
	}
	names := map[string]string{}
	for _, g := range s.Groups {
		names[g.ID] = g.Name
	}
	a.printf("\n")
	a.table(func(w io.Writer) {
		row(w, "DEVICE", "USER", "CONNECTION", "RTT", "IN", "OUT", "SYNC")
		for _, d := range s.Devices {
			who := d.Name
			if who == "" {
				who = d.User
			}
			if !d.Connected {
				row(w, d.Device, who, unconnected(d), "", "", "", "")
				continue
			}
			row(w, d.Device, who, connection(d), fmt.Sprintf("%.1f ms", d.RTT), humanize.IBytes(d.BytesIn), humanize.IBytes(d.BytesOut), syncState(d, names))
		}
	})
}

func unconnected(d api.Device) string {
	state := "present"
	if d.Pursued {
		state = "connecting"
	}
	if d.LastError != "" {
		state += ": " + d.LastError
	}
	return state
}

func connection(d api.Device) string {
	if d.Path == "" {
		return "connected"
	}
	return fmt.Sprintf("%s (%s/%s over %s)", d.Path, d.LocalCandidate, d.RemoteCandidate, d.Protocol)
}

// syncState says for each shared group whether it is equal, or how far it is.
func syncState(d api.Device, names map[string]string) string {
	if !d.Syncing {
		return "no session"
	}
	parts := make([]string, 0, len(d.Groups))
	for _, g := range d.Groups {
		name := names[g.Group]
		if name == "" {
			name = g.Group
		}
		if g.Synced {
			parts = append(parts, name+" equal")
		} else {
			parts = append(parts, fmt.Sprintf("%s %d of %d", name, g.Have, g.Want))
		}
	}
	if len(parts) == 0 {
		return "nothing shared"
	}
	return strings.Join(parts, ", ")
}

// showGroups prints a table, or notes what is said instead of an empty one.
func (a *app) showGroups(groups []api.Group, none string) {
	if len(groups) == 0 {
		if none != "" {
			a.note("%s\n", none)
		}
		return
	}
	a.table(func(w io.Writer) {
		row(w, "GROUP", "ID", "ROLE", "MEMBERS", "DOCUMENTS", "CHANGES", "FINGERPRINT", "NOTES")
		for _, g := range groups {
			row(w, orDash(g.Name), g.ID, orDash(g.Role), len(g.Members), g.Documents, g.Entries, orDash(g.Fingerprint), notes(g))
		}
	})
}

// notes says what is special about a group.
func notes(g api.Group) string {
	var out []string
	add := func(when bool, text string) {
		if when {
			out = append(out, text)
		}
	}
	switch {
	case g.Removed != nil:
		out = append(out, removal(*g.Removed))
	case g.Untold:
		out = append(out, "left; no other member knows yet")
	default:
		add(g.Left, "left")
	}
	add(g.Deleted, "deleted by its owner")
	add(g.Offered, "offered: peerd group accept or decline")
	add(g.RotationDue, "key rotation due")
	add(g.Quarantined > 0, fmt.Sprintf("%d in quarantine", g.Quarantined))
	return strings.Join(append(out, g.Alarms...), "; ")
}

// removal says who ended the membership, and why if they told.
func removal(r api.Removal) string {
	text := "removed by " + cmp.Or(r.Name, r.By)
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}

// ago is a duration since a time in unix ms.
func ago(ms int64) string {
	d := time.Since(time.UnixMilli(ms))
	if d < time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(time.Minute).String()
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
