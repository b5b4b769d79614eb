package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// recovery is what the command line of recover says.
type recovery struct {
	words, reason string
	insecure      bool
}

func (a *app) recoverCmd() *cobra.Command {
	var r recovery
	cmd := &cobra.Command{
		Use: "recover [CARD]", Short: "Set a new key with your 24 words",
		Long: `The 24 words replace a key that was stolen or lost. They overrule whatever was
signed with it: what the old key writes from now on counts nowhere.

On a device that still has your data: end the daemon and run this without a card.
On a new device: give --name and a card, which any member of a group of yours gets
from peerd key card YOU --way-back. The groups come back from the members.`,
		Example: `  peerd recover --words-file words.txt
  peerd recover 'peers:card#…' --name alice --words-file words.txt`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return a.recover(cmd.Context(), r, args) },
	}
	f := cmd.Flags()
	f.StringVar(&r.words, "words-file", "", "file with the 24 words; - or none: standard input")
	f.StringVar(&r.reason, "reason", string(keys.Lost), "why the old key ends, for people: lost or compromised")
	f.String("name", "", "your name, as members of your groups see it (new device)")
	f.String("server", "", "signaling server (default: the card's)")
	f.String("passphrase-file", "", "file whose first line is the passphrase")
	f.BoolVar(&r.insecure, "insecure-keystore", false, "no passphrase: whoever reads the file has your keys")
	return cmd
}

func (a *app) recover(ctx context.Context, r recovery, args []string) error {
	if r.reason != string(keys.Lost) && r.reason != string(keys.Compromised) {
		return usageError{fmt.Errorf("--reason is %q: want lost or compromised", r.reason)}
	}
	var card *groupsync.Card
	if len(args) > 0 {
		c, err := groupsync.ParseCard(args[0])
		if err != nil {
			return usageError{err}
		}
		card = &c
	}
	fresh := !a.hasIdentity()
	if fresh && card == nil {
		return usageError{hinted{fmt.Errorf("there is no identity in %s", a.cfg.data), "A new device needs a card: a member gets it with `peerd key card YOU --way-back`."}}
	}
	words, err := a.readWords(r.words)
	if err != nil {
		return err
	}
	if fresh {
		return a.recoverFresh(ctx, r, words, *card)
	}
	return a.recoverHere(ctx, r, words, card)
}

// readWords reads the 24 words, separated by any white space.
func (a *app) readWords(path string) (peercrypto.Recovery, error) {
	in := a.in
	if path != "" && path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return peercrypto.Recovery{}, usageError{err}
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	if isTerminal(in) {
		a.note("The 24 words, then Ctrl-D:\n")
	}
	text, err := io.ReadAll(io.LimitReader(in, maxPassphraseFile))
	if err != nil {
		return peercrypto.Recovery{}, fmt.Errorf("reading the recovery words: %w", err)
	}
	words, err := peercrypto.ParseRecovery(strings.Fields(string(text)))
	if err != nil {
		return words, usageError{err}
	}
	return words, nil
}

// recoverEvent makes the new key and the history that leads to it.
func recoverEvent(words peercrypto.Recovery, genesis peercrypto.UserGenesis, events []keys.Event, reason string) (peercrypto.SigningKey, []keys.Event, error) {
	next, err := peercrypto.GenerateSigningKey()
	if err != nil {
		return next, nil, err
	}
	h := keys.Evaluate(keys.Genesis(genesis), events)
	event, err := keys.Recover(words, h.State, next, keys.Reason(reason), time.Now().UnixMilli())
	if errors.Is(err, keys.ErrNoRecovery) {
		err = hinted{err, "These are another user's words, or the card is another user's."}
	}
	return next, append(standing(events, h), event), err
}

// recoverHere replaces the key of this data folder's user.
func (a *app) recoverHere(ctx context.Context, r recovery, words peercrypto.Recovery, card *groupsync.Card) error {
	id, o, err := a.unlock()
	if err != nil {
		return err
	}
	defer clear(o.Passphrase)
	if card != nil && card.Genesis.Hash() != id.Genesis.Hash() {
		return usageError{fmt.Errorf("the card is of another user than the identity in %s", a.cfg.data)}
	}
	return a.offline(ctx, func(open func(peercrypto.Identity, func(*groupsync.Engine) error) error) error {
		var events []keys.Event
		done := false
		err := open(id, func(e *groupsync.Engine) error {
			known, err := e.UserKeys(ctx, id.UserID())
			if err != nil {
				return err
			}
			events = known.Events
			if card == nil {
				return nil
			}
			events = append(events, card.Keys...)
			h := keys.Evaluate(keys.Genesis(id.Genesis), events)
			// A recovery that was interrupted goes on where it was.
			if done = len(id.History) > 0 && h.State.Key() == id.User.Public() && !h.Frozen(); done {
				if err := returnAll(ctx, e, *card); err != nil {
					return err
				}
				return a.showChanged(ctx, id, e)
			}
			return returnAll(ctx, e, *card)
		})
		if err != nil || done {
			return err
		}
		next, line, err := recoverEvent(words, id.Genesis, events, r.reason)
		if err != nil {
			return err
		}
		return a.commitKey(ctx, id, o, next, line, open)
	})
}

// recoverFresh makes a new device of a user who lost everything but the words.
func (a *app) recoverFresh(ctx context.Context, r recovery, words peercrypto.Recovery, card groupsync.Card) error {
	if a.cfg.server == "" && len(card.Groups) > 0 {
		a.cfg.server = card.Groups[0].Server
	}
	if err := a.checkInit(); err != nil {
		return err
	}
	next, line, err := recoverEvent(words, card.Genesis, card.Keys, r.reason)
	if err != nil {
		return err
	}
	o := peercrypto.KeystoreOptions{Insecure: r.insecure}
	if !r.insecure {
		if o.Passphrase, err = a.newPassphrase(); err != nil {
			return err
		}
	}
	device, _, err := peercrypto.NewIdentity(time.Now()) // for the keys of the device
	if err != nil {
		return fmt.Errorf("making the keys: %w", err)
	}
	device.Genesis = card.Genesis
	id, err := setKey(device, next, line)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.cfg.data, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	if err := peercrypto.SaveKeystore(filepath.Join(a.cfg.data, keystoreName), id, o); err != nil {
		return keystoreHint(err, a.cfg.data)
	}
	if err := a.writeConfig(); err != nil {
		return err
	}
	return a.offline(ctx, func(open func(peercrypto.Identity, func(*groupsync.Engine) error) error) error {
		return open(id, func(e *groupsync.Engine) error {
			if err := returnAll(ctx, e, card); err != nil {
				return err
			}
			return a.showChanged(ctx, id, e)
		})
	})
}

func returnAll(ctx context.Context, e *groupsync.Engine, card groupsync.Card) error {
	for _, g := range card.Groups {
		if err := e.Return(ctx, g); err != nil {
			return err
		}
	}
	return nil
}
