package main

import (
	"cmp"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/daemon/api"
)

func (a *app) notifyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "notify GROUP USER TEXT", Short: "Send a message to a member's devices, whether they are there or not",
		Long: `Sends a short message (at most 4 KiB), sealed for each device of a member that
was ever connected with this one. A device that is not there now, and was
minutes ago, gets it when it comes back. It appears in the other side's
peerd events. Exit code 1 if no device could be reached.`,
		Example: `  peerd notify garden bob 'the roses are in bloom'`,
		Args:    args(cobra.ExactArgs(3)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var results []api.Notified
			err := a.client().Do(cmd.Context(), "POST", groupPath(args[0], "notify"), api.Notify{User: args[1], Text: args[2]}, &results)
			if err != nil {
				return err
			}
			reached := 0
			for _, r := range results {
				if r.Error == "" {
					reached++
				}
			}
			if err := a.print(results, func() {
				for _, r := range results {
					a.printf("%s  %s%s\n", r.Device, r.Delivery, r.Error)
				}
			}); err != nil {
				return err
			}
			if reached == 0 {
				return errors.New("no device was reached: none is there, or was minutes ago")
			}
			return nil
		},
	}
}

func (a *app) inboxCmd() *cobra.Command {
	var clear bool
	cmd := &cobra.Command{
		Use: "inbox", Short: "Messages that came by peerd notify, oldest first", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if clear {
				if err := a.client().Do(cmd.Context(), "DELETE", "/notifications", nil, nil); err != nil {
					return err
				}
				return a.print(struct{}{}, func() { a.printf("cleared\n") })
			}
			var list []api.Notification
			if err := a.client().Do(cmd.Context(), "GET", "/notifications", nil, &list); err != nil {
				return err
			}
			return a.print(list, func() {
				for _, n := range list {
					for i, line := range strings.Split(n.Text, "\n") {
						if i == 0 {
							a.printf("%s  %s  ", when(n.Time), cmp.Or(n.Name, n.User))
						} else {
							a.printf("    ")
						}
						a.printf("%s\n", line)
					}
				}
			})
		},
	}
	cmd.Flags().BoolVar(&clear, "clear", false, "empty it")
	return cmd
}
