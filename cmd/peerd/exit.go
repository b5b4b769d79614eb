package main

import (
	"context"
	"errors"

	"github.com/peersignal/peersignal/internal/daemon"
	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/internal/daemon/client"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// Exit codes.
const (
	exitOK         = 0
	exitFailed     = 1
	exitUsage      = 2
	exitNotRunning = 3
	exitNotFound   = 4
	exitNotAllowed = 5
	exitInUse      = 6
	exitPassphrase = 7
)

// A usageError is one of the command line or the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// A hinted error says what to do.
type hinted struct {
	error
	hint string
}

func (e hinted) Unwrap() error { return e.error }
func (e hinted) Error() string { return e.error.Error() + "\n" + e.hint }

var apiExit = map[api.Code]int{
	api.CodeNotFound: exitNotFound, api.CodeAmbiguous: exitNotFound,
	api.CodeNotAllowed: exitNotAllowed, api.CodeOtherUser: exitNotAllowed,
	api.CodeShuttingDown: exitNotRunning,
}

// explain gives an error its exit code and its words.
func explain(err error) (int, string) {
	var usage usageError
	var failed *api.Error
	switch {
	case errors.As(err, &usage):
		return exitUsage, err.Error()
	case errors.As(err, &failed):
		if code, ok := apiExit[failed.Code]; ok {
			return code, err.Error()
		}
		return exitFailed, err.Error()
	case errors.Is(err, client.ErrEnded):
		return exitNotRunning, err.Error()
	case errors.Is(err, client.ErrNotRunning):
		return exitNotRunning, err.Error() + "\nStart it with `peerd up`, or name its socket (--api) or data folder (--data)."
	case errors.Is(err, groupsync.ErrStoreInUse), errors.Is(err, daemon.ErrSocketInUse):
		return exitInUse, err.Error() + "\nAnother peerd runs on this folder: `peerd status` shows it, `peerd down` ends it."
	case errors.Is(err, peercrypto.ErrWrongPassphrase):
		return exitPassphrase, err.Error()
	case errors.Is(err, peercrypto.ErrPassphraseNeeded):
		return exitPassphrase, err.Error() + "\nName a file with it: --passphrase-file FILE, or PEERD_PASSPHRASE_FILE."
	case errors.Is(err, context.Canceled):
		var h hinted
		if errors.As(err, &h) {
			return exitFailed, "interrupted\n" + h.hint
		}
		return exitFailed, "interrupted"
	}
	return exitFailed, err.Error()
}
