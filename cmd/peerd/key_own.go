package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/internal/daemon/client"
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
stays yours. Your other devices that are on your list (peerd device ls) get the
key when they meet one that has it. Let them sync before: what they wrote with
the old key and this device does not hold becomes void. If somebody else may
have your key, this is not enough: peerd recover.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.confirm("Replace your key?", yes); err != nil {
				return err
			}
			err := a.rotateOnline(cmd.Context(), api.Rotate{})
			if errors.Is(err, client.ErrNotRunning) {
				return a.rotateKey(cmd.Context())
			}
			return err
		},
	}
	cmd.Flags().String("passphrase-file", "", "file whose first line is the passphrase (when no daemon runs)")
	yesFlag(cmd, &yes)
	return cmd
}

// unlock opens the key store and says how to write it again.
func (a *app) unlock() (peercrypto.Identity, peercrypto.KeystoreOptions, error) {
	id, o, err := a.unlockFile(a.keystorePath())
	return id, o, keystoreHint(err, a.cfg.data)
}

func (a *app) unlockFile(path string) (peercrypto.Identity, peercrypto.KeystoreOptions, error) {
	o := peercrypto.KeystoreOptions{Insecure: true}
	id, err := peercrypto.LoadKeystore(path, o)
	if !errors.Is(err, peercrypto.ErrPassphraseNeeded) {
		return id, o, err
	}
	o = peercrypto.KeystoreOptions{}
	if o.Passphrase, err = a.passphrase(); err != nil {
		return id, o, err
	}
	id, err = peercrypto.LoadKeystore(path, o)
	return id, o, err
}

func (a *app) keystorePath() string { return filepath.Join(a.cfg.data, keystoreName) }

// An offline works with store and groups without a network.
type offline struct {
	app   *app
	store groupsync.Store
}

// offline opens the store; no daemon may run on the data folder.
func (a *app) offline(fn func(o offline) error) error {
	privateFiles()
	store, err := sqlite.Open(filepath.Join(a.cfg.data, storeName), sqlite.Options{})
	if err != nil {
		return storeHint(err, a.cfg.data)
	}
	err = fn(offline{a, store})
	if closeErr := store.Close(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("closing the store: %w", closeErr))
	}
	return err
}

// open runs use on the groups.
func (o offline) open(ctx context.Context, id peercrypto.Identity, use func(*groupsync.Engine) error) error {
	e, err := groupsync.Open(ctx, groupsync.Config{Store: o.store, Identity: id, Logger: slog.New(slog.NewTextHandler(o.app.err, nil))})
	if err != nil {
		return err
	}
	return errors.Join(use(e), e.Close())
}

// settle returns the identity with what came or was made since the key store was written, and writes it there.
func (o offline) settle(ctx context.Context, id peercrypto.Identity, ks peercrypto.KeystoreOptions) (peercrypto.Identity, error) {
	next, err := groupsync.CurrentIdentity(ctx, o.store, id)
	if err != nil || sameIdentity(id, next) {
		return id, err
	}
	return next, keystoreHint(peercrypto.ReplaceKeystore(o.app.keystorePath(), next, ks), o.app.cfg.data)
}

// sameIdentity compares key and history.
func sameIdentity(a, b peercrypto.Identity) bool {
	return a.User.Public() == b.User.Public() && slices.EqualFunc(a.History, b.History, bytes.Equal)
}

func (a *app) rotateKey(ctx context.Context) error {
	id, ks, err := a.unlock()
	if err != nil {
		return err
	}
	defer clear(ks.Passphrase)
	return a.offline(func(o offline) error {
		id, err := o.settle(ctx, id, ks)
		if err != nil {
			return err
		}
		err = o.open(ctx, id, func(e *groupsync.Engine) error { return e.RotateKey(ctx, keys.Rotated, nil) })
		if errors.Is(err, groupsync.ErrKeyPending) || errors.Is(err, groupsync.ErrKeyFrozen) {
			return hinted{err, "Use the 24 words: peerd recover."}
		}
		if err != nil {
			return err
		}
		if id, err = o.settle(ctx, id, ks); err != nil {
			return err
		}
		return o.open(ctx, id, func(e *groupsync.Engine) error { return a.showChanged(ctx, id, e) })
	})
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
func (o offline) commitKey(ctx context.Context, id peercrypto.Identity, ks peercrypto.KeystoreOptions, next peercrypto.SigningKey, line []keys.Event) error {
	id, err := setKey(id, next, line)
	if err != nil {
		return err
	}
	if err := peercrypto.ReplaceKeystore(o.app.keystorePath(), id, ks); err != nil {
		return keystoreHint(err, o.app.cfg.data)
	}
	return o.open(ctx, id, func(e *groupsync.Engine) error { return o.app.showChanged(ctx, id, e) })
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
