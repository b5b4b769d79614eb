package main

import (
	"bufio"
	"errors"
	"strings"

	"github.com/spf13/cobra"
)

var errDeclined = errors.New("not confirmed; nothing was done")

func yesFlag(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVarP(yes, "yes", "y", false, "do not ask")
}

// confirm asks a person. Without one, --yes has to say it.
func (a *app) confirm(question string, yes bool) error {
	if yes {
		return nil
	}
	if !isTerminal(a.in) {
		return usageError{errors.New(question + " Nobody can be asked here\nSay it with --yes.")}
	}
	a.note("%s [y/N] ", question)
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil {
		return errDeclined
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errDeclined
}
