package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/admin"
)

func (a *adminCLI) statusCmd() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "What the server does: readiness, figures and limits, sources of ICE servers, listeners",
		Example: "  peersignal admin status\n  peersignal admin status --json | jq .audit",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s admin.Status
			return a.ask(cmd, "GET", "/v1/status", nil, &s, func() error { return a.table(func(w io.Writer) { showStatus(w, s) }) })
		},
	}
}

func showStatus(w io.Writer, s admin.Status) {
	state := "ready"
	switch {
	case s.Draining:
		state = "draining"
	case !s.Ready:
		state = "not ready: " + s.Reason
	}
	line(w, "peersignal", fmt.Sprintf("%s (%s), pid %d, up %s", s.Version, s.Go, s.PID, age(s.Started)))
	line(w, "state", state)
	line(w, "log level", s.LogLevel)
	for _, f := range s.Figures {
		value := humanize.Comma(int64(f.Value))
		if f.Limit > 0 {
			value += " of " + humanize.Comma(int64(f.Limit))
		}
		line(w, f.Name, value)
	}
	for _, h := range s.ICESources {
		health := "ok"
		if !h.OK {
			health = "down"
		}
		if h.Reason != "" {
			health += ": " + h.Reason
		}
		line(w, "ice "+h.Name, health)
	}
	for _, l := range s.Listeners {
		line(w, "listens for "+l.Use, l.Address)
	}
	if s.Audit != nil {
		line(w, "audit log", fmt.Sprintf("line %d, %s", s.Audit.Seq, s.Audit.Hash))
	}
}

func (a *adminCLI) sessionsCmd() *cobra.Command {
	sel, limit := admin.Selector{}, 0
	cmd := &cobra.Command{
		Use: "sessions", Short: "Who is connected, the oldest first",
		Example: "  peersignal admin sessions\n  peersignal admin sessions --network 192.0.2.0/24 --limit 1000\n" +
			"  peersignal admin sessions --state parked --json",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{"limit": {strconv.Itoa(limit)}}
			for name, value := range map[string]string{
				"session": sel.Session, "device": sel.Device, "user": sel.User, "network": sel.Network, "state": sel.State,
			} {
				if value != "" {
					q.Set(name, value)
				}
			}
			var s admin.Sessions
			return a.ask(cmd, "GET", "/v1/sessions?"+q.Encode(), nil, &s, func() error { return a.showSessions(s) })
		},
	}
	whoFlags(cmd.Flags(), &sel)
	cmd.Flags().StringVar(&sel.State, "state", "", "connected, or parked: the connection broke and may come back")
	cmd.Flags().IntVar(&limit, "limit", 100, "most sessions, up to 10000")
	return cmd
}

func (a *adminCLI) showSessions(s admin.Sessions) error {
	if len(s.Sessions) == 0 {
		return a.printf("no session\n")
	}
	err := a.table(func(w io.Writer) {
		line(w, "STATE", "FOR", "TOPICS", "QUEUED", "ADDRESS", "DEVICE", "USER")
		for _, v := range s.Sessions {
			line(w, v.State, age(v.Since), strconv.Itoa(v.Topics), humanize.IBytes(uint64(max(v.Queued, 0))), v.Address, v.Device, v.User)
		}
	})
	if err == nil && s.More {
		err = a.printf("there are more; see --limit\n")
	}
	return err
}

func (a *adminCLI) kickCmd() *cobra.Command {
	k := admin.Kick{}
	cmd := &cobra.Command{
		Use: "kick", Short: "End sessions and their relays; the clients may come back",
		Example: "  peersignal admin kick --device ID\n  peersignal admin kick --user KEY --message 'please update'",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if k.IsZero() {
				return usageError{errors.New("say whom: --session, --device, --user or --network")}
			}
			var e admin.Ended
			err := a.ask(cmd, "POST", "/v1/kick", k, &e, func() error { return a.printf("ended %s\n", plural(e.Ended, "session")) })
			if err == nil && e.Ended == 0 {
				err = errors.New("no session is like that; see peersignal admin sessions")
			}
			return err
		},
	}
	whoFlags(cmd.Flags(), &k.Selector)
	cmd.Flags().StringVar(&k.Message, "message", "", "text for the people at the other end")
	return cmd
}

func (a *adminCLI) blockCmd() *cobra.Command {
	b, duration := admin.Block{}, time.Duration(0)
	cmd := &cobra.Command{
		Use: "block", Short: "Keep a device, a user or a network out, and end their sessions",
		Example: "  peersignal admin block --user KEY --reason spam\n  peersignal admin block --network 192.0.2.7 --for 24h",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkTarget(&b); err != nil {
				return err
			}
			if duration < 0 {
				return usageError{errors.New("--for is in the past")}
			}
			if duration > 0 {
				b.Expires = time.Now().Add(duration).UTC().Truncate(time.Second)
			}
			var e admin.Ended
			return a.ask(cmd, "POST", "/v1/block", b, &e, func() error {
				return a.printf("blocked %s; ended %s\n", b.Target(), plural(e.Ended, "session"))
			})
		},
	}
	targetFlags(cmd.Flags(), &b)
	cmd.Flags().DurationVar(&duration, "for", 0, "how long, like 24h (default: until it is lifted)")
	cmd.Flags().StringVar(&b.Reason, "reason", "", "note for operators; clients are not told")
	return cmd
}

func (a *adminCLI) unblockCmd() *cobra.Command {
	b := admin.Block{}
	cmd := &cobra.Command{
		Use: "unblock", Short: "Lift a block", Example: "  peersignal admin unblock --network 192.0.2.7", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkTarget(&b); err != nil {
				return err
			}
			var u admin.Unblocked
			err := a.ask(cmd, "POST", "/v1/unblock", b, &u, func() error {
				if u.Found {
					return a.printf("lifted the block of %s\n", b.Target())
				}
				return nil
			})
			if err == nil && !u.Found {
				err = fmt.Errorf("%s is not blocked; see peersignal admin blocked", b.Target())
			}
			return err
		},
	}
	targetFlags(cmd.Flags(), &b)
	return cmd
}

func (a *adminCLI) blockedCmd() *cobra.Command {
	return &cobra.Command{
		Use: "blocked", Short: "Who is kept out", Example: "  peersignal admin blocked --json", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var b admin.Blocks
			return a.ask(cmd, "GET", "/v1/blocked", nil, &b, func() error { return a.showBlocks(b) })
		},
	}
}

func (a *adminCLI) showBlocks(b admin.Blocks) error {
	if !b.Kept {
		if err := a.printf("blocks end with the process: the server has no --block-file\n"); err != nil {
			return err
		}
	}
	if len(b.Blocks) == 0 {
		return a.printf("nobody is blocked\n")
	}
	return a.table(func(w io.Writer) {
		line(w, "WHO", "SINCE", "ENDS", "REASON")
		for _, v := range b.Blocks {
			ends := "-"
			if !v.Expires.IsZero() {
				ends = v.Expires.Local().Format(time.DateTime)
			}
			line(w, v.Target(), v.Created.Local().Format(time.DateTime), ends, v.Reason)
		}
	})
}

func (a *adminCLI) drainCmd() *cobra.Command {
	d := admin.Drain{}
	cmd := &cobra.Command{
		Use: "drain", Short: "Stop the server as SIGTERM does: sessions are told to come back elsewhere, then it ends",
		Example: "  peersignal admin drain\n  peersignal admin drain --window 2m",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var none struct{}
			return a.ask(cmd, "POST", "/v1/drain", d, &none, func() error {
				return a.printf("the server takes no new sessions, and ends when those that it has are gone\n")
			})
		},
	}
	cmd.Flags().StringVar(&d.Window, "window", "", "within which time clients come back (default: drain-window of the server)")
	return cmd
}

func (a *adminCLI) reloadCmd() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Read the configuration again, as SIGHUP does, and tell what has changed",
		Example: "  peersignal config check --config config.yaml && peersignal admin reload", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r admin.Reload
			return a.ask(cmd, "POST", "/v1/reload", nil, &r, func() error {
				if len(r.Changes) == 0 {
					return a.printf("no setting has changed; certificates and blocks were read again\n")
				}
				return a.table(func(w io.Writer) {
					for _, c := range r.Changes {
						outcome := "applied"
						if !c.Applied {
							outcome = "needs a restart"
						}
						line(w, c.Setting, outcome)
					}
				})
			})
		},
	}
}

func (a *adminCLI) logLevelCmd() *cobra.Command {
	return &cobra.Command{
		Use: "log-level [LEVEL]", Short: "Show or set the log level: debug, info, warn or error",
		Example: "  peersignal admin log-level\n  peersignal admin log-level debug",
		Args:    atMostOne("level"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var l admin.LogLevel
			show := func() error { return a.printf("%s\n", l.Level) }
			if len(args) == 0 {
				return a.ask(cmd, "GET", "/v1/log-level", nil, &l, show)
			}
			return a.ask(cmd, "PUT", "/v1/log-level", admin.LogLevel{Level: args[0]}, &l, show)
		},
	}
}

func (a *adminCLI) table(fill func(w io.Writer)) error { return table(a.out, fill) }

// table prints aligned columns.
func table(out io.Writer, fill func(w io.Writer)) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fill(w)
	return w.Flush()
}

// line is a line of a table. What strangers wrote can't break it.
func line(w io.Writer, columns ...string) {
	for i, c := range columns {
		columns[i] = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
				return '?'
			}
			return r
		}, c)
	}
	_, _ = fmt.Fprintln(w, strings.Join(columns, "\t"))
}

// age is 3m20s, or 5d for what is old.
func age(t time.Time) string {
	d := time.Since(t).Truncate(time.Second)
	if d >= 48*time.Hour {
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
	return shortDuration(max(d, 0))
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%s %s", humanize.Comma(int64(n)), what)
}
