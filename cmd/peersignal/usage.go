package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// misused is a mistake in the command line of a command.
func misused(cmd *cobra.Command, format string, args ...any) error {
	return usageError{fmt.Errorf("%w (see %s --help)", fmt.Errorf(format, args...), cmd.CommandPath())}
}

// noArguments refuses arguments, for commands that have commands below them, or
// take flags only.
func noArguments(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case !cmd.HasSubCommands():
		return misused(cmd, "%q: %s takes no arguments", args[0], cmd.Name())
	}
	var commands []string
	for _, c := range cmd.Commands() {
		commands = append(commands, c.Name())
	}
	return misused(cmd, "%q is neither a command nor a flag%s", args[0], didYouMean(args[0], commands))
}

// atMostOne is for commands that take what, or do without.
func atMostOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return misused(cmd, "%d arguments; %s takes one %s", len(args), cmd.Name(), what)
		}
		return nil
	}
}

// flagError explains a mistake in the flags.
func flagError(cmd *cobra.Command, err error) error {
	if wrong, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return misused(cmd, "--%s %q: %s", wrong.GetFlag().Name, wrong.GetValue(), wanted(wrong))
	}
	missing, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return misused(cmd, "%w", err)
	}
	name := missing.GetSpecifiedName()
	serves := cmd.Flags().Lookup("turn") != nil
	if k, ok := findKey(name); ok && serves && !k.hasFlag() {
		if k.kind == secret {
			return misused(cmd, "--%s does not exist, since everybody on this machine can read a command line; set %s or --%s",
				name, k.variable(), name+fileSuffix)
		}
		return misused(cmd, "--%s does not exist; set %s in the file of --config", name, name)
	}
	var flags []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, "--"+f.Name) })
	return misused(cmd, "%w%s", err, didYouMean("--"+name, flags))
}

// wanted says what a flag's value has to be.
func wanted(wrong *pflag.InvalidValueError) string {
	switch wrong.GetFlag().Value.Type() {
	case "duration":
		return "it is not a time with a unit, like 90m or 12h"
	case "int", "uint64", "float64":
		return "it is not a number"
	case "bool":
		return "it is neither true nor false"
	}
	return wrong.Error()
}
