package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/internal/daemon/client"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

func (a *app) joinCmd() *cobra.Command {
	var yes, wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "join LINK", Short: "Join a group with an invitation link",
		Long: `Shows the group of an invitation and, if you agree, asks its members' devices to
let you in. That goes on in the background, also after a restart, until one of
them answers or the invitation expires; --wait waits for it. LINK may be - for
standard input: other users of this machine can see arguments.`,
		Example: "  peerd join 'peers:join#eyJj…'\n  peerd join 'peers:join#eyJj…' --yes --wait --timeout 1m",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			link, err := a.readLink(args[0])
			if err != nil {
				return err
			}
			return a.join(cmd.Context(), link, yes, wait, timeout)
		},
	}
	yesFlag(cmd, &yes)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until you are a member")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long --wait waits; the join goes on after it")
	return cmd
}

func (a *app) readLink(arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if line = strings.TrimSpace(line); line == "" {
		return "", usageError{fmt.Errorf("reading the link from standard input: %w", errors.Join(err, errors.New("it is empty")))}
	}
	return line, nil
}

func (a *app) join(ctx context.Context, link string, yes, wait bool, timeout time.Duration) error {
	inv, err := entry.ParseInvitation(link)
	if err != nil {
		return hinted{err, "Copy the whole link, from peers:join# to its end."}
	}
	if expires := time.UnixMilli(inv.Expires); time.Now().After(expires) {
		return hinted{fmt.Errorf("the invitation expired at %s", expires.Format(time.RFC1123)), "Ask for a new one."}
	}
	if !yes {
		a.note("Group   %s\nid      %s\nrole    %s\nserver  %s\n", orDash(inv.Name), inv.Group, inv.Role, strings.Join(inv.Servers, ", "))
	}
	if err := a.confirm("Join this group?", yes); err != nil {
		return err
	}
	c := a.client()
	w := &joinWait{group: string(inv.Group), note: a.note, users: a.checkProgress()}
	if !wait {
		var j api.Join
		if err := c.Do(ctx, "POST", "/join", api.JoinLink{Link: link}, &j); err != nil {
			return err
		}
		return a.print(j, func() { a.printf("asking the members of %s; `peerd status` shows the answer\n", orDash(j.Name)) })
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = w.run(ctx, c, link)
	w.users.end()
	if err != nil {
		return w.explain(ctx, err, timeout)
	}
	var g api.Group
	if err := c.Do(ctx, "GET", groupPath(w.group), nil, &g); err != nil {
		return err
	}
	return a.print(g, func() { a.printf("joined %s as %s\n", orDash(g.Name), g.Role) })
}

// A joinWait follows the events until the join has an outcome.
type joinWait struct {
	group, refusal string
	note           func(string, ...any)
	users          *checkProgress
}

var errJoined = errors.New("joined")

// run subscribes, then joins, so that no answer is missed.
func (w *joinWait) run(ctx context.Context, c *client.Client, link string) error {
	asked := false
	err := c.Lines(ctx, "GET", "/events", nil, func(line []byte) error {
		if !asked {
			asked = true
			if err := c.Do(ctx, "POST", "/join", api.JoinLink{Link: link}, nil); err != nil {
				return err
			}
		}
		var ev api.Event
		if err := json.Unmarshal(line, &ev); err != nil {
			return fmt.Errorf("reading peerd's events: %w", err)
		}
		return w.event(ctx, c, ev)
	})
	if errors.Is(err, errJoined) {
		return nil
	}
	if err == nil {
		err = &api.Error{Code: api.CodeShuttingDown, Message: "the daemon ended"}
	}
	return err
}

func (w *joinWait) event(ctx context.Context, c *client.Client, ev api.Event) error {
	switch {
	case ev.Kind == "lagged":
		var g api.Group
		if err := c.Do(ctx, "GET", groupPath(w.group), nil, &g); err == nil && g.Joined {
			return errJoined
		}
	case ev.Group != w.group:
	case ev.Kind == "group-joined":
		return errJoined
	case ev.Kind == "join-checking":
		w.users.reach(ev.Have, ev.Want)
	case ev.Kind == "join-failed" && ev.Final:
		return fmt.Errorf("joining was refused: %s", ev.Error)
	case ev.Kind == "join-failed" && ev.Error != w.refusal:
		w.refusal = ev.Error
		w.note("a device answered: %s; asking on\n", ev.Error)
	}
	return nil
}

// explain words why the wait ended.
func (w *joinWait) explain(ctx context.Context, err error, timeout time.Duration) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	}
	if w.users.of > 0 {
		return hinted{
			fmt.Errorf("the group came, and %d of its %d users are checked after %s", w.users.have, w.users.of, timeout),
			"The join goes on in the background: `peerd status`.",
		}
	}
	text := fmt.Sprintf("nobody let you in within %s", timeout)
	if w.refusal != "" {
		text += "; the last answer was: " + w.refusal
	}
	return hinted{errors.New(text), "A device of an admin of the group has to be online. The join goes on in the background: `peerd status`."}
}

// A checkProgress shows how far the check of a group's users is: a bar for a
// person, else a line every few seconds.
type checkProgress struct {
	bar      *progressbar.ProgressBar // nil where nobody watches
	note     func(string, ...any)
	last     time.Time
	have, of int64
}

func (a *app) checkProgress() *checkProgress {
	p := &checkProgress{note: a.note}
	if isTerminal(a.err) {
		p.bar = progressbar.NewOptions64(-1, progressbar.OptionSetWriter(a.err), progressbar.OptionShowCount(),
			progressbar.OptionSetDescription("checking users"), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	return p
}

func (p *checkProgress) reach(have, of int64) {
	p.have, p.of = have, of
	switch {
	case p.bar != nil:
		p.bar.ChangeMax64(max(of, 1))
		_ = p.bar.Set64(have)
	case time.Since(p.last) >= progressEvery:
		p.last = time.Now()
		p.note("checking users: %d of %d\n", have, of)
	}
}

func (p *checkProgress) end() {
	if p.bar != nil && p.of > 0 {
		_ = p.bar.Finish()
	}
}
