package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/keys"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

// changedKey is what a command that sets a new key prints.
type changedKey struct {
	User    string `json:"user"`
	Device  string `json:"device"`
	Key     string `json:"key"`
	Groups  int    `json:"groups"`  // that know the new key
	Pending int    `json:"pending"` // that will, after a sync
}

func (a *app) rotateCmd() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "rotate", Short: "Set a new key, signed by the old one",
		Long: `Replaces your user key and writes that into each of your groups. What you wrote
stays yours. End the daemon before, and let it sync: what another device of yours
wrote with the old key and this one does not hold becomes void, and that device
has to be made anew with peerd recover. If somebody else may have your key, this
is not enough: peerd recover.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.confirm("Replace your key?", yes); err != nil {
				return err
			}
			return a.rotateKey(cmd.Context())
		},
	}
	cmd.Flags().String("passphrase-file", "", "file whose first line is the passphrase")
	yesFlag(cmd, &yes)
	return cmd
}

// unlock opens the key store and says how to write it again.
func (a *app) unlock() (peercrypto.Identity, peercrypto.KeystoreOptions, error) {
	path := a.keystorePath()
	o := peercrypto.KeystoreOptions{Insecure: true}
	id, err := peercrypto.LoadKeystore(path, o)
	if !errors.Is(err, peercrypto.ErrPassphraseNeeded) {
		return id, o, keystoreHint(err, a.cfg.data)
	}
	o = peercrypto.KeystoreOptions{}
	if o.Passphrase, err = a.passphrase(); err != nil {
		return id, o, err
	}
	id, err = peercrypto.LoadKeystore(path, o)
	return id, o, keystoreHint(err, a.cfg.data)
}

func (a *app) keystorePath() string { return filepath.Join(a.cfg.data, keystoreName) }

// offline opens store and groups without a network; no daemon may run on the data folder.
func (a *app) offline(ctx context.Context, fn func(open func(peercrypto.Identity, func(*groupsync.Engine) error) error) error) error {
	privateFiles()
	store, err := sqlite.Open(filepath.Join(a.cfg.data, storeName), sqlite.Options{})
	if err != nil {
		return storeHint(err, a.cfg.data)
	}
	err = fn(func(id peercrypto.Identity, use func(*groupsync.Engine) error) error {
		e, err := groupsync.Open(ctx, groupsync.Config{Store: store, Identity: id, Logger: slog.New(slog.NewTextHandler(a.err, nil))})
		if err != nil {
			return err
		}
		return errors.Join(use(e), e.Close())
	})
	if closeErr := store.Close(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("closing the store: %w", closeErr))
	}
	return err
}

func (a *app) rotateKey(ctx context.Context) error {
	id, o, err := a.unlock()
	if err != nil {
		return err
	}
	defer clear(o.Passphrase)
	return a.offline(ctx, func(open func(peercrypto.Identity, func(*groupsync.Engine) error) error) error {
		var known groupsync.UserKeys
		err := open(id, func(e *groupsync.Engine) (err error) {
			known, err = e.UserKeys(ctx, id.UserID())
			return err
		})
		if err != nil {
			return err
		}
		if !known.Pin.Usable() || known.Pin.Key != id.User.Public() {
			return hinted{errors.New("this key can't set a new one: it is not yours alone any more"), "Use the 24 words: peerd recover."}
		}
		next, err := peercrypto.GenerateSigningKey()
		if err != nil {
			return err
		}
		event, err := keys.NewRotate(known.History.State, keys.Signers{Key: id.User, New: next}, keys.Rotated, time.Now().UnixMilli())
		if err != nil {
			return err
		}
		return a.commitKey(ctx, id, o, next, append(standing(known.Events, known.History), event), open)
	})
}

// standing lists the events of a history in their order.
func standing(events []keys.Event, h keys.History) []keys.Event {
	out := make([]keys.Event, 0, len(h.Path)+1)
	for _, hash := range h.Path {
		i := slices.IndexFunc(events, func(e keys.Event) bool { return e.Hash() == hash })
		out = append(out, events[i])
	}
	return out
}

// setKey returns the identity with another key and the history that leads there.
func setKey(id peercrypto.Identity, next peercrypto.SigningKey, line []keys.Event) (peercrypto.Identity, error) {
	id.User, id.History = next, nil
	for _, e := range line {
		raw, err := e.Canonical()
		if err != nil {
			return id, err
		}
		id.History = append(id.History, raw)
	}
	_, err := groupsync.ParseHistory(id.Genesis, id.History, next.Public())
	return id, err
}

// commitKey makes a new key durable, with its history, and only then tells the groups: a crash between is made up for by the next start.
func (a *app) commitKey(ctx context.Context, id peercrypto.Identity, o peercrypto.KeystoreOptions, next peercrypto.SigningKey, line []keys.Event,
	open func(peercrypto.Identity, func(*groupsync.Engine) error) error,
) error {
	id, err := setKey(id, next, line)
	if err != nil {
		return err
	}
	if err := peercrypto.ReplaceKeystore(a.keystorePath(), id, o); err != nil {
		return keystoreHint(err, a.cfg.data)
	}
	return open(id, func(e *groupsync.Engine) error { return a.showChanged(ctx, id, e) })
}

func (a *app) showChanged(ctx context.Context, id peercrypto.Identity, e *groupsync.Engine) error {
	groups, err := e.Groups(ctx)
	if err != nil {
		return err
	}
	joins, err := e.PendingJoins(ctx)
	if err != nil {
		return err
	}
	out := changedKey{User: string(id.UserID()), Device: string(id.DeviceID()), Key: id.User.Public().String(), Pending: len(joins)}
	for _, g := range groups {
		if g.Joined {
			out.Groups++
		}
	}
	return a.print(out, func() {
		a.printf("user    %s\ndevice  %s\nkey     %s\n", out.User, out.Device, out.Key)
		a.printf("%d groups know the new key; %d will when a member's device is met.\n\nNext: peerd up\n", out.Groups, out.Pending)
	})
}

// hasIdentity tells whether the data folder has a key store.
func (a *app) hasIdentity() bool {
	_, err := os.Lstat(a.keystorePath())
	return err == nil
}
