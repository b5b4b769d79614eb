package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/internal/daemon/client"
)

func (a *app) groupCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "group", Short: "Groups and their members",
		Long: "A group is named by its id, the begin of its id (4 characters or more), or its name.",
		Example: `  peerd group create garden
  peerd group invite garden --role read --uses 5 --expires 48h
  peerd group members garden
  peerd group remove garden bob`,
	}
	needsSubcommand(cmd)
	cmd.AddCommand(
		a.groupCreateCmd(), a.groupLsCmd(), a.membersCmd(),
		a.inviteCmd(), a.invitationsCmd(), a.uninviteCmd(), a.requestsCmd(), a.admitCmd(),
		a.joinCmd(), a.leaveCmd(), a.removeCmd(), a.roleCmd(),
		a.simpleGroupCmd("accept", "Agree to be in a group that somebody added you to"),
		a.simpleGroupCmd("decline", "Forget a group that somebody added you to"),
		a.purgeCmd(),
		a.groupRenameCmd(), a.groupDeleteCmd(),
		a.blockCmd(), a.checkpointCmd(), a.adoptCmd(),
	)
	return cmd
}

func groupPath(group string, more ...string) string {
	return client.Path(append([]string{"groups", group}, more...)...)
}

func (a *app) groupCreateCmd() *cobra.Command {
	return &cobra.Command{
		Use: "create NAME", Short: "Make a group that you own", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var g api.Group
			if err := a.client().Do(cmd.Context(), "POST", "/groups", api.CreateGroup{Name: args[0]}, &g); err != nil {
				return err
			}
			return a.print(g, func() { a.printf("%s\n", g.ID) })
		},
	}
}

func (a *app) groupLsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List your groups", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var groups []api.Group
			if err := a.client().Do(cmd.Context(), "GET", "/groups", nil, &groups); err != nil {
				return err
			}
			return a.print(groups, func() { a.showGroups(groups, "no groups; make one with peerd group create NAME, or join one") })
		},
	}
}

func (a *app) membersCmd() *cobra.Command {
	return &cobra.Command{
		Use: "members GROUP", Short: "List the members of a group", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var members []api.Member
			if err := a.client().Do(cmd.Context(), "GET", groupPath(args[0], "members"), nil, &members); err != nil {
				return err
			}
			return a.print(members, func() { a.showMembers(members) })
		},
	}
}

func (a *app) showMembers(members []api.Member) {
	a.table(func(w io.Writer) {
		row(w, "USER", "NAME", "ROLE", "")
		for _, m := range members {
			note := ""
			if m.Owner {
				note = "owner"
			}
			if m.Self {
				note = strings.TrimSpace(note + " you")
			}
			row(w, m.User, orDash(m.Name), m.Role, note)
		}
	})
}

func (a *app) inviteCmd() *cobra.Command {
	var in api.Invite
	var expires time.Duration
	cmd := &cobra.Command{
		Use: "invite GROUP", Short: "Make an invitation link",
		Long: `Prints a link. Whoever has it can join until it has expired or is used up, so
send it as you would send a key. It is kept nowhere.`,
		Example: "  peerd group invite garden\n  peerd group invite garden --role read --uses 10 --expires 24h",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if in.Uses < 1 || in.Uses > 1000 {
				return usageError{errors.New("--uses must be from 1 to 1000")}
			}
			if expires < time.Second {
				return usageError{errors.New("--expires must be at least 1s")}
			}
			in.Expires = int64(expires / time.Second)
			var inv api.Invitation
			if err := a.client().Do(cmd.Context(), "POST", groupPath(args[0], "invite"), in, &inv); err != nil {
				return err
			}
			return a.print(inv, func() {
				a.printf("%s\n", inv.Link)
				a.note("Valid until %s for the role %s. On the other machine: peerd join 'LINK'\n",
					time.UnixMilli(inv.Expires).Format(time.RFC1123), inv.Role)
			})
		},
	}
	cmd.Flags().StringVar(&in.Role, "role", "write", "read, write or admin")
	cmd.Flags().IntVar(&in.Uses, "uses", 1, "how many people can join with it, 1 to 1000")
	cmd.Flags().DurationVar(&expires, "expires", 7*24*time.Hour, "how long it is valid, at most 720h")
	cmd.Flags().BoolVar(&in.Manual, "manual", false, "who joins waits for peerd group admit")
	return cmd
}

func (a *app) invitationsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "invitations GROUP", Short: "List open invitations", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var open []api.OpenInvitation
			if err := a.client().Do(cmd.Context(), "GET", groupPath(args[0], "invitations"), nil, &open); err != nil {
				return err
			}
			return a.print(open, func() {
				a.table(func(w io.Writer) {
					row(w, "INVITATION", "ROLE", "USES LEFT", "EXPIRES")
					for _, inv := range open {
						row(w, inv.Invite, inv.Role, inv.UsesLeft, time.UnixMilli(inv.Expires).Format(time.RFC3339))
					}
				})
			})
		},
	}
}

func (a *app) uninviteCmd() *cobra.Command {
	return &cobra.Command{
		Use: "uninvite GROUP INVITATION", Short: "Close an invitation", Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.deed(cmd, groupPath(args[0], "uninvite"), api.Uninvite{Invite: args[1]}, "closed")
		},
	}
}

func (a *app) requestsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "requests GROUP", Short: "List who used a manual invitation and waits", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var requests []api.JoinRequest
			if err := a.client().Do(cmd.Context(), "GET", groupPath(args[0], "requests"), nil, &requests); err != nil {
				return err
			}
			return a.print(requests, func() {
				a.table(func(w io.Writer) {
					row(w, "USER", "NAME", "ROLE", "SINCE")
					for _, q := range requests {
						row(w, q.User, orDash(q.Name), q.Role, time.UnixMilli(q.Arrived).Format(time.RFC3339))
					}
				})
			})
		},
	}
}

func (a *app) admitCmd() *cobra.Command {
	return &cobra.Command{
		Use: "admit GROUP USER", Short: "Let somebody in who used a manual invitation", Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.deed(cmd, groupPath(args[0], "admit"), api.Admit{User: args[1]}, "admitted")
		},
	}
}

func (a *app) removeCmd() *cobra.Command {
	var reason string
	var yes bool
	cmd := &cobra.Command{
		Use: "remove GROUP USER", Short: "Remove a member",
		Long: `Removes a member: by user id, the begin of it, or name. What that person wrote
and you have stays; what they write from now on, back-dated or not, counts
nowhere. What they have read stays with them.`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.confirm(fmt.Sprintf("Remove %s from %s?", args[1], args[0]), yes); err != nil {
				return err
			}
			return a.deed(cmd, groupPath(args[0], "remove"), api.Remove{User: args[1], Reason: reason}, "removed")
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "at most 256 bytes, readable by all members")
	yesFlag(cmd, &yes)
	return cmd
}

func (a *app) roleCmd() *cobra.Command {
	return &cobra.Command{
		Use: "role GROUP USER ROLE", Short: "Change a member's role: read, write or admin", Args: args(cobra.ExactArgs(3)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.deed(cmd, groupPath(args[0], "role"), api.SetRole{User: args[1], Role: args[2]}, "changed")
		},
	}
}

func (a *app) groupRenameCmd() *cobra.Command {
	return &cobra.Command{
		Use: "rename GROUP NAME", Short: "Change a group's name for everybody", Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.deed(cmd, groupPath(args[0], "rename"), api.Rename{Name: args[1]}, "renamed")
		},
	}
}

func (a *app) groupDeleteCmd() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete GROUP", Short: "End a group that you own, for everybody", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.confirm(fmt.Sprintf("End %s for all its members?", args[0]), yes); err != nil {
				return err
			}
			if err := a.client().Do(cmd.Context(), "DELETE", groupPath(args[0]), nil, nil); err != nil {
				return err
			}
			return a.print(struct{}{}, func() { a.printf("deleted\n") })
		},
	}
	yesFlag(cmd, &yes)
	return cmd
}

// simpleGroupCmd is a deed that needs nothing but the group.
func (a *app) simpleGroupCmd(name, short string) *cobra.Command {
	return &cobra.Command{
		Use: name + " GROUP", Short: short, Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.deed(cmd, groupPath(args[0], name), struct{}{}, "done")
		},
	}
}

func (a *app) purgeCmd() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "purge GROUP", Short: "Delete the data of a group that you left", Args: args(cobra.ExactArgs(1)),
		Long: `Deletes everything of a group that you left, were removed from, or that was ended.
While no other member's device knows that you left, it asks: after a purge nobody
can be told, and the others go on counting you as a member.`,
		Example: "  peerd group purge garden",
		RunE: func(cmd *cobra.Command, args []string) error {
			var g api.Group
			if err := a.client().Do(cmd.Context(), "GET", groupPath(args[0]), nil, &g); err != nil {
				return err
			}
			if g.Untold {
				if err := a.confirm(fmt.Sprintf("No other member's device knows yet that you left %s, and none will be told. Delete it nevertheless?", args[0]), yes); err != nil {
					return err
				}
			}
			return a.deed(cmd, groupPath(args[0], "purge"), struct{}{}, "done")
		},
	}
	yesFlag(cmd, &yes)
	return cmd
}

func (a *app) leaveCmd() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "leave GROUP", Short: "Leave a group; its data stays until peerd group purge", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.confirm(fmt.Sprintf("Leave %s?", args[0]), yes); err != nil {
				return err
			}
			return a.deed(cmd, groupPath(args[0], "leave"), struct{}{}, "left")
		},
	}
	yesFlag(cmd, &yes)
	return cmd
}

// deed posts something that has no result.
func (a *app) deed(cmd *cobra.Command, path string, in any, said string) error {
	if err := a.client().Do(cmd.Context(), "POST", path, in, nil); err != nil {
		return err
	}
	return a.print(struct{}{}, func() { a.printf("%s\n", said) })
}
