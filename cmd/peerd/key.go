package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/internal/daemon/client"
)

func (a *app) keyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "key", Short: "Your key and those of others",
		Long: `A user is "me", an id, the begin of one, or the name of a member of a group.
A lost or stolen key is replaced with the 24 words: peerd recover.`,
		Example: `  peerd key show bob
  peerd key safety-number bob
  peerd key verify bob
  peerd key card bob --way-back     # for bob, who has only the 24 words left`,
	}
	needsSubcommand(cmd)
	cmd.AddCommand(a.keyShowCmd(), a.safetyNumberCmd(), a.keyVerifyCmd(), a.cardCmd(), a.rotateCmd(),
		a.proposeCmd(), a.proposalsCmd(), a.approveCmd(), a.recoveryCmd())
	return cmd
}

func keyPath(user string, more ...string) string {
	return client.Path(append([]string{"keys", user}, more...)...)
}

func (a *app) keyShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show [USER]", Short: "Show a user's key, how far it is trusted and its history", Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			user := "me"
			if len(args) > 0 {
				user = args[0]
			}
			var k api.UserKeys
			if err := a.client().Do(cmd.Context(), "GET", keyPath(user), nil, &k); err != nil {
				return err
			}
			return a.print(k, func() { a.showKeys(k) })
		},
	}
}

func (a *app) showKeys(k api.UserKeys) {
	a.printf("user   %s\nkey    %s\n", k.User, k.Key)
	if !k.Self {
		a.printf("trust  %s since %s\n", k.Trust, when(k.Since))
	}
	if k.Rotated {
		a.printf("The user changed the key by itself after you had verified it.\n")
	}
	if k.Frozen {
		a.printf("FROZEN: two new keys are signed by the old one, which somebody else has. Only the user's 24 words settle it.\n")
	}
	if k.Ended {
		a.printf("REVOKED: there is no new key yet.\n")
	}
	for _, c := range k.Conflicts {
		a.printf("CONFLICT: somebody else claims this id: %s\n", c)
	}
	if len(k.Events) == 0 {
		return
	}
	a.table(func(w io.Writer) {
		row(w, "TIME", "WHAT", "BY", "REASON", "STANDS", "KEY")
		for _, e := range k.Events {
			row(w, when(e.Time), e.Op, e.By, e.Reason, fmt.Sprint(e.Stands), e.Key)
		}
	})
}

func (a *app) safetyNumberCmd() *cobra.Command {
	return &cobra.Command{
		Use: "safety-number USER", Short: "Show the 60 digits that you and a user compare", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.safetyNumber(cmd, args[0])
			if err != nil {
				return err
			}
			return a.print(n, func() { a.showNumber(n.Number) })
		},
	}
}

func (a *app) safetyNumber(cmd *cobra.Command, user string) (n api.SafetyNumber, err error) {
	err = a.client().Do(cmd.Context(), "GET", keyPath(user, "safety-number"), nil, &n)
	return n, err
}

// showNumber prints 12 groups in two lines.
func (a *app) showNumber(number string) {
	const half = 6*6 - 1
	if len(number) < 2*half {
		a.printf("%s\n", number)
		return
	}
	a.printf("  %s\n  %s\n", number[:half], number[half+1:])
}

func (a *app) keyVerifyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "verify USER [NUMBER]", Short: "Note that you compared the safety number with a user",
		Long: `Both of you run peerd key safety-number, and one reads the digits out: face to
face or on the phone, not over peerd. If they are the same, nobody is between you.
Without NUMBER this shows it and asks.`,
		Args: args(cobra.RangeArgs(1, 13)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var number string
			for _, digits := range args[1:] {
				number += digits
			}
			if number == "" {
				n, err := a.safetyNumber(cmd, args[0])
				if err != nil {
					return err
				}
				a.showNumber(n.Number)
				if err := a.confirm("Does the other device show the same?", false); err != nil {
					return err
				}
				number = n.Number
			}
			return a.deed(cmd, keyPath(args[0], "verify"), api.SafetyNumber{Number: number}, "verified")
		},
	}
}

func (a *app) cardCmd() *cobra.Command {
	var wayBack bool
	cmd := &cobra.Command{
		Use: "card [USER]", Short: "Print what a user needs, beside the 24 words, to recover",
		Long: `A card holds the user's id, first key and key history: nothing secret. Keep your
own with the 24 words, or get it from any member of a group of yours.

With --way-back it also leads back into the groups that you share, for peerd
recover on an empty device. Give such a card to that user only: whoever has it
can find the members' devices at the signaling server.`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			user, groups := "me", ""
			if len(args) > 0 {
				user = args[0]
			}
			if wayBack {
				groups = "1"
			}
			var c api.Card
			if err := a.client().Do(cmd.Context(), "GET", query(keyPath(user, "card"), "groups", groups), nil, &c); err != nil {
				return err
			}
			return a.print(c, func() { a.printf("%s\n", c.Card) })
		},
	}
	cmd.Flags().BoolVar(&wayBack, "way-back", false, "lead back into the groups that you share")
	return cmd
}
