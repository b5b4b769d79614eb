package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/peersignal/peersignal/internal/buildinfo"
	"github.com/peersignal/peersignal/internal/daemon"
	"github.com/peersignal/peersignal/internal/daemon/api"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
	"github.com/peersignal/peersignal/pkg/wire"
)

func (a *app) upCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "up", Short: "Run the daemon in the foreground",
		Long: `Opens the data folder, reaches the signaling server, connects to the devices of
the members of your groups and keeps the groups in sync, until SIGTERM, SIGINT or
peerd down. Without a server it works offline.`,
		Example: "  peerd up --server https://signal.example.org\n  peerd up --ice-transport relay        # others do not learn your address",
		Args:    args(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.up(cmd.Context()) },
	}
	f := cmd.Flags()
	f.String("server", "", "signaling server, an http or https URL (default: the one given to init; none: offline)")
	f.String("ice-transport", "all", "network paths: all, relay or no-relay")
	f.Bool("allow-loopback", false, "use 127.0.0.1 and ::1 too, for several daemons on one machine")
	f.String("passphrase-file", "", "file whose first line is the passphrase")
	f.String("log-level", "info", "debug, info, warn or error")
	f.String("log-format", "text", "text or json")
	fileFlags(f)
	return cmd
}

func (a *app) logger() *slog.Logger {
	o := &slog.HandlerOptions{Level: a.cfg.logLevel}
	if a.cfg.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(a.err, o))
	}
	return slog.New(slog.NewTextHandler(a.err, o))
}

func (a *app) up(ctx context.Context) error {
	privateFiles()
	if a.cfg.server != "" {
		if _, _, err := wire.CanonicalServer(a.cfg.server); err != nil {
			return usageError{fmt.Errorf("server: %w", err)}
		}
	}
	log := a.logger()
	id, ks, err := a.unlock()
	if err != nil {
		return err
	}
	if ks.Insecure {
		log.Warn("the key store has no passphrase: whoever reads the file has the keys", "file", a.keystorePath())
	}
	store, err := sqlite.Open(filepath.Join(a.cfg.data, storeName), sqlite.Options{})
	if err != nil {
		return storeHint(err, a.cfg.data)
	}
	ended := make(chan struct{})
	defer close(ended)
	err = a.serveAll(ctx, id, ks, store, log, ended)
	if closeErr := store.Close(); closeErr != nil {
		err = errors.Join(err, fmt.Errorf("closing the store: %w", closeErr))
	}
	return err
}

// serveAll serves, and anew after each change of the user's key.
func (a *app) serveAll(ctx context.Context, id peercrypto.Identity, ks peercrypto.KeystoreOptions, store groupsync.Store, log *slog.Logger, ended <-chan struct{}) error {
	for first := true; ; first = false {
		next, err := groupsync.CurrentIdentity(ctx, store, id)
		if err != nil {
			return storeHint(err, a.cfg.data)
		}
		if !sameIdentity(id, next) {
			if err := a.keepIdentity(next, ks, log); err != nil {
				return err
			}
		}
		clear(ks.Passphrase)
		ks.Passphrase = nil
		id = next
		if err := a.serve(ctx, id, store, log, ended, first); !errors.Is(err, peer.ErrNewKey) {
			return err
		}
		log.Info("your key was replaced; the daemon begins anew with the new one")
	}
}

// keepIdentity writes a key or history that is only in the store into the key store. Without the passphrase, which is not kept in memory,
// the next start does it.
func (a *app) keepIdentity(id peercrypto.Identity, ks peercrypto.KeystoreOptions, log *slog.Logger) error {
	if !ks.Insecure && ks.Passphrase == nil {
		if a.cfg.passphraseFile == "" {
			log.Info("the new key is in the store; the next start writes it into the key store, too")
			return nil
		}
		var err error
		if ks.Passphrase, err = readPassphrase(a.cfg.passphraseFile); err != nil {
			return err
		}
		defer clear(ks.Passphrase)
		if _, err := peercrypto.LoadKeystore(a.keystorePath(), ks); err != nil {
			return keystoreHint(err, a.cfg.data)
		}
	}
	return keystoreHint(peercrypto.ReplaceKeystore(a.keystorePath(), id, ks), a.cfg.data)
}

func storeHint(err error, data string) error {
	if errors.Is(err, groupsync.ErrOtherUser) {
		return hinted{err, fmt.Sprintf("%s and %s in %s do not belong together: put back the one that was there.", keystoreName, storeName, data)}
	}
	if errors.Is(err, groupsync.ErrStoreReadOnly) {
		return hinted{err, fmt.Sprintf("%s is read-only: check its permissions and whether its disk is mounted read-only.", data)}
	}
	return err
}

// serve runs peer and API until ctx ends, a client asks, or one of them fails.
func (a *app) serve(ctx context.Context, id peercrypto.Identity, store groupsync.Store, log *slog.Logger, ended <-chan struct{}, first bool) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	kept, err := a.openFiles()
	if err != nil {
		return storeHint(err, a.cfg.data)
	}
	defer func() { _ = kept.Close() }() // what it could not flush is verified at the next start
	// The peer outlives ctx, so that the API can finish what it serves.
	p, err := peer.Open(context.WithoutCancel(ctx), peer.Config{
		Identity: id, Store: store, Server: a.cfg.server, Name: a.cfg.name, Auto: true,
		ICETransport: a.cfg.iceTransport, AllowLoopback: a.cfg.allowLoopback, Logger: log,
		Files: kept, FileLimits: a.cfg.files.limits,
	})
	if err != nil {
		return storeHint(err, a.cfg.data)
	}
	server, err := daemon.New(daemon.Config{
		Peer: p, Socket: a.cfg.socket, Shutdown: stop, Ended: ended, ServerURL: a.cfg.server, Data: a.cfg.data, Version: buildinfo.Version,
		ID: a.idOf(id), Logger: log,
	})
	if err != nil {
		return errors.Join(err, p.Close())
	}
	if first {
		a.ready(p)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Run(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-p.Done():
			return fmt.Errorf("the peer ended: %w", p.Err())
		}
	})
	err = g.Wait()
	if closeErr := p.Close(); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	log.Info("peerd has ended")
	return err
}

func (a *app) idOf(id peercrypto.Identity) api.ID {
	return api.ID{
		User: string(id.UserID()), Device: string(id.DeviceID()), Name: a.cfg.name,
		UserKey: id.User.Public().String(), DeviceKey: id.Device.Public().String(), Genesis: id.Genesis.Hash().String(),
	}
}

// ready prints the one line that says that commands work now.
func (a *app) ready(p *peer.Peer) {
	server := a.cfg.server
	if server == "" {
		server = "none (offline)"
	}
	a.printf("peerd is ready: user %s, device %s, server %s, socket %s (pid %d)\n", p.User(), p.Device(), server, a.cfg.socket, os.Getpid())
}

func (a *app) downCmd() *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "End the running daemon, and wait until it has ended", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.client().Do(cmd.Context(), "POST", "/shutdown", nil, nil)
		},
	}
}
