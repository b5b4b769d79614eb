package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/daemon/api"
)

func (a *app) blockCmd() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "block GROUP USER", Short: "End a user's membership for good, for admins",
		Long: `Ends each membership of a user, also those that admins junior to you grant later.
What they wrote and your device holds stays. Somebody who is no member now is
named by the whole id. To end a membership only: peerd group remove.`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.confirm(fmt.Sprintf("Block %s in %s for good?", args[1], args[0]), yes); err != nil {
				return err
			}
			return a.deed(cmd, groupPath(args[0], "block"), api.Block{User: args[1]}, "blocked")
		},
	}
	yesFlag(cmd, &yes)
	return cmd
}

func (a *app) checkpointCmd() *cobra.Command {
	return &cobra.Command{
		Use: "checkpoint GROUP [USER]", Short: "Keep what was written, whatever junior admins revoke",
		Long: `Writes into the group what a user, or everybody, wrote so far as your device holds
it. An admin junior to you who removes somebody later can't make that void.`,
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var in api.Checkpoint
			if len(args) > 1 {
				in.User = args[1]
			}
			var out api.Checkpointed
			if err := a.client().Do(cmd.Context(), "POST", groupPath(args[0], "checkpoint"), in, &out); err != nil {
				return err
			}
			return a.print(out, func() { a.printf("kept: %d chains\n", out.Chains) })
		},
	}
}

func (a *app) adoptCmd() *cobra.Command {
	return &cobra.Command{
		Use: "adopt GROUP ENTRY...", Short: "Take up entries that a removal left void",
		Long: `What somebody wrote without the one who removed them knowing of it is void and
waits in quarantine: peerd quarantine lists it. An admin who is senior to its
author can take up single entries, with what comes before them in their chain.`,
		Args: args(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.deed(cmd, groupPath(args[0], "adopt"), api.Adopt{Entries: args[1:]}, "adopted")
		},
	}
}
