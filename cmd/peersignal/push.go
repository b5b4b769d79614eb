package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	notifier "github.com/peersignal/peersignal/internal/notify"
	"github.com/peersignal/peersignal/internal/signaling"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// pusher gives internal/signaling the sender of Web Push.
type pusher struct{ sender *notifier.Sender }

// PublicKey implements signaling.Pusher.
func (p pusher) PublicKey() string { return p.sender.PublicKey() }

// Token implements signaling.Pusher.
func (p pusher) Token(device peercrypto.ID, sub wire.PushSubscription) (string, time.Time, error) {
	return p.sender.Token(device, notifier.Subscription{Endpoint: sub.Endpoint, P256dh: sub.P256dh, Auth: sub.Auth})
}

// Push implements signaling.Pusher.
func (p pusher) Push(w *wire.Wake, from peercrypto.ID) error {
	err := p.sender.Push(w.Token, w.To, notifier.Message{
		ID: string(w.Conn), From: from, Eph: w.Eph, Sealed: w.CT, TTL: time.Duration(w.TTL) * time.Second,
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, notifier.ErrBusy):
		return signaling.ErrPushBusy
	default:
		return signaling.ErrPushGone
	}
}

// newPushKeyCommand makes `peersignal push-key`.
func newPushKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "push-key", Short: "Make a key for Web Push (setting push-key)", Args: noArguments,
		Long: `Make a private key for Web Push and print it. Keep it in a file that only the
server can read, and name that in push-key-file; all nodes of a server need the
same. With another key, browsers have to subscribe again.`,
		Example: `  (umask 077; peersignal push-key > push.key)
  peersignal --push-key-file push.key --push-contact mailto:operator@example.org`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := notifier.NewKey()
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintln(cmd.OutOrStdout(), key)
			return nil
		},
	}
}
