package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/daemon/api"
)

func (a *app) proposeCmd() *cobra.Command {
	var in api.Propose
	var yes bool
	cmd := &cobra.Command{
		Use: "propose", Short: "Ask a majority of your devices to replace your key",
		Long: `For a key that somebody else has, or that is lost, when the 24 words are lost, too.
The devices on your list decide: at least two, and more than half. It overrules
what the old key signs from here on. On the other devices: peerd key proposals
and peerd key approve. The new key is in force when the last signature has come
back to this device; the others get it then.`,
		Example: "  peerd key propose --without 00kq --reason compromised\n  peerd key propose --revoke        # no new key for now",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			question := "Ask your devices to replace your key?"
			if in.Revoke {
				question = "Ask your devices to end your key, without a new one?"
			}
			if err := a.confirm(question, yes); err != nil {
				return err
			}
			var p api.Proposal
			if err := a.client().Do(cmd.Context(), "POST", proposalPath(), in, &p); err != nil {
				return err
			}
			return a.print(p, func() { a.showProposal(p) })
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&in.Without, "without", nil, "devices that are taken off the list before, since somebody else has them")
	f.StringVar(&in.Reason, "reason", "lost", "for people: rotated, lost or compromised")
	f.BoolVar(&in.Revoke, "revoke", false, "end the key without a new one")
	yesFlag(cmd, &yes)
	return cmd
}

// showProposal tells how far one is.
func (a *app) showProposal(p api.Proposal) {
	a.printf("proposal  %s\n%s, signed by %s\n", p.Proposal, proposed(p), strings.Join(p.Signed, ", "))
	switch {
	case p.Missing > 0:
		a.printf("%d more of your devices have to sign: peerd key approve %.8s\n", p.Missing, p.Proposal)
	case p.What == "rotate" && !p.Mine:
		a.printf("Enough devices have signed. The new key is in force when the device that proposed it has heard of it.\n")
	default:
		a.printf("Enough devices have signed.\n")
	}
}

func (a *app) proposalsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "proposals", Short: "List what waits for your devices' signatures", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []api.Proposal
			if err := a.client().Do(cmd.Context(), "GET", proposalPath(), nil, &list); err != nil {
				return err
			}
			return a.print(list, func() {
				a.table(func(w io.Writer) {
					row(w, "PROPOSAL", "WHAT", "WITHOUT", "REASON", "SINCE", "SIGNED", "MISSING")
					for _, p := range list {
						row(w, p.Proposal[:min(len(p.Proposal), 12)], proposed(p), orDash(strings.Join(p.Without, ",")), p.Reason, when(p.Since), len(p.Signed), p.Missing)
					}
				})
			})
		},
	}
}

func (a *app) approveCmd() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "approve PROPOSAL", Short: "Sign a change of your key with this device",
		Long: `Signs what another device of yours proposed. Make sure that it was you: whoever
has a majority of your devices has your key. PROPOSAL is its id or the begin of it.`,
		Example: "  peerd key proposals\n  peerd key approve 4fJw2kQx",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.confirm("Did you propose this on another device of yours?", yes); err != nil {
				return err
			}
			var p api.Proposal
			if err := a.client().Do(cmd.Context(), "POST", proposalPath(args[0], "approve"), nil, &p); err != nil {
				return err
			}
			return a.print(p, func() { a.showProposal(p) })
		},
	}
	yesFlag(cmd, &yes)
	return cmd
}

// proposed says what a proposal does.
func proposed(p api.Proposal) string {
	if p.What == "revoke" {
		return "end the key"
	}
	return "new key"
}
