// Command peersignal is the server: it introduces devices to each other, relays
// their sealed offers, and runs the STUN/TURN relay that they fall back to.
//
// Without arguments it serves on :8080 and relays on :3478. Settings come from
// flags, from the environment (PEERSIGNAL_ and the flag's name in upper case
// with underscores), and from a YAML file (--config, keys named as the flags),
// in this order of precedence. Secrets have no flags.
//
// Exit codes: 0 after a stop by SIGTERM or SIGINT, 1 when something failed at
// run time, 2 when the command line or the configuration is wrong, 3 when a
// command of admin finds no server.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const (
	exitFailure  = 1
	exitUsage    = 2
	exitNoServer = 3
)

// exitError has an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string { return e.err.Error() }
func (e exitError) Unwrap() error { return e.err }

// usageError is a mistake in the command line or the configuration.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func main() {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		signal.Stop(signals) // the second one ends the process at once
		if len(signals) > 0 {
			os.Exit(exitFailure)
		}
		stop()
	}()
	cmd := newCommand()
	err := cmd.ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "peersignal:", err)
	os.Exit(exitCode(err))
}

func exitCode(err error) int {
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if e, ok := errors.AsType[exitError](err); ok {
		return e.code
	}
	return exitFailure
}
