package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/files"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

const patience = 5 * time.Minute

// device is one peer with its stores.
type device struct {
	p     *peer.Peer
	store *sqlite.Store
	files *files.Store
	dir   string
	group peercrypto.ID
}

func (d *device) handle(req request) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch req.Op {
	case "open":
		return "", d.open(req.Server, req.Dir)
	case "invite":
		g, err := d.p.CreateGroup(ctx, "bench")
		if err != nil {
			return "", err
		}
		d.group = g.ID
		inv, err := d.p.Invite(ctx, g.ID, groupsync.InviteOptions{})
		return inv.Link(), err
	case "join":
		return "", d.join(ctx, req.Text)
	case "add":
		content := io.LimitReader(rand.NewChaCha8([32]byte{1}), req.Size)
		info, err := d.p.AddFile(ctx, d.group, content, peer.FileMeta{Name: "bench"})
		return info.ID.String(), err
	}
	id, err := files.ParseID(req.Text)
	if err != nil {
		return "", err
	}
	switch req.Op {
	case "await":
		for ctx.Err() == nil {
			if _, err := d.p.File(ctx, d.group, id); err == nil {
				return "", nil
			}
			time.Sleep(10 * time.Millisecond)
		}
		return "", ctx.Err()
	case "fetch":
		return "", d.p.FetchFile(ctx, d.group, id, nil)
	}
	return "", fmt.Errorf("unknown request %q", req.Op)
}

func (d *device) open(server, dir string) error {
	d.dir = dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	me, _, err := peercrypto.NewIdentity(time.Now())
	if err != nil {
		return err
	}
	if d.store, err = sqlite.Open(filepath.Join(dir, "peers.db"), sqlite.Options{}); err != nil {
		return err
	}
	if d.files, err = files.Open(filepath.Join(dir, "files"), files.Options{}); err != nil {
		return err
	}
	d.p, err = peer.Open(context.Background(), peer.Config{
		Identity: me, Store: d.store, Files: d.files, Server: server, Auto: true, AllowLoopback: true,
		DialDelay: 300 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	return err
}

func (d *device) join(ctx context.Context, link string) error {
	inv, err := entry.ParseInvitation(link)
	if err != nil {
		return err
	}
	d.group = inv.Group
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := d.p.Events(ctx)
	if err := d.p.Join(ctx, inv); err != nil {
		return err
	}
	for ev := range events {
		if _, ok := ev.(peer.Synced); ok {
			return nil
		}
	}
	return fmt.Errorf("joining: %w", ctx.Err())
}

func (d *device) close() {
	if d.p != nil {
		_ = d.p.Close()
	}
	if d.files != nil {
		_ = d.files.Close()
	}
	if d.store != nil {
		_ = d.store.Close()
	}
	_ = os.RemoveAll(d.dir)
}
