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
	keep          []string // devices that stay on the list
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
from peerd key card YOU --way-back. The groups come back from the members.

Your other devices are taken off your list, since who has one of them has the old
key: --keep DEVICE (an id, the begin of one, or "all") leaves one on it, and it gets
the new key by itself. The others have to be added anew (peerd device).`,
		Example: `  peerd recover --words-file words.txt
  peerd recover 'peers:card#…' --name alice --words-file words.txt`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return a.recover(cmd.Context(), r, args) },
	}
	f := cmd.Flags()
	f.StringVar(&r.words, "words-file", "", "file with the 24 words; - or none: standard input")
	f.StringVar(&r.reason, "reason", string(keys.Lost), "why the old key ends, for people: lost or compromised")
	f.StringSliceVar(&r.keep, "keep", nil, "other devices that stay on your list and get the new key, or all")
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

// recoverEvents makes the new key and the history that leads to it, without the devices that are not kept.
func (r recovery) recoverEvents(words peercrypto.Recovery, device peercrypto.Identity, genesis peercrypto.UserGenesis, events []keys.Event) (peercrypto.SigningKey, []keys.Event, error) {
	next, err := peercrypto.GenerateSigningKey()
	if err != nil {
		return next, nil, err
	}
	keep, err := r.kept(keys.Evaluate(keys.Genesis(genesis), events).State.Devices())
	if err != nil {
		return next, nil, err
	}
	line, err := groupsync.WordsRecovery{
		Words: words, Genesis: genesis, Events: events, Key: next, Reason: keys.Reason(r.reason), Now: time.Now().UnixMilli(),
		Device: keys.DeviceSigner{ID: device.DeviceID(), Key: device.Device}, Keep: keep,
	}.Line()
	if errors.Is(err, keys.ErrNoRecovery) {
		err = hinted{err, "These are another user's words or old ones, or the card is another user's."}
	}
	return next, line, err
}

// kept are the listed devices that stay on the list.
func (r recovery) kept(listed []keys.Device) ([]peercrypto.ID, error) {
	var keep []peercrypto.ID
	used := map[string]bool{"all": true}
	for _, d := range listed {
		for _, text := range r.keep {
			if text == "all" || len(text) >= 4 && (strings.HasPrefix(string(d.ID), text) || strings.HasPrefix(d.ID.Short(), text)) {
				keep, used[text] = append(keep, d.ID), true
			}
		}
	}
	for _, text := range r.keep {
		if !used[text] {
			return nil, usageError{fmt.Errorf("--keep %s: none of your devices is called so", text)}
		}
	}
	return keep, nil
}

// recoverHere replaces the key of this data folder's user.
func (a *app) recoverHere(ctx context.Context, r recovery, words peercrypto.Recovery, card *groupsync.Card) error {
	id, ks, err := a.unlock()
	if err != nil {
		return err
	}
	defer clear(ks.Passphrase)
	if card != nil && card.Genesis.Hash() != id.Genesis.Hash() {
		return usageError{fmt.Errorf("the card is of another user than the identity in %s", a.cfg.data)}
	}
	return a.offline(func(o offline) error {
		id, err := o.settle(ctx, id, ks)
		if err != nil {
			return err
		}
		var events []keys.Event
		done := false
		err = o.open(ctx, id, func(e *groupsync.Engine) error {
			events, done, err = a.knownHistory(ctx, e, id, card)
			return err
		})
		if err != nil || done {
			return err
		}
		next, line, err := r.recoverEvents(words, id, id.Genesis, events)
		if err != nil {
			return err
		}
		return o.commitKey(ctx, id, ks, next, line)
	})
}

// knownHistory returns all key events that the device and a card know, and begins the way back that the card has. done: a recovery that
// was interrupted went on where it was.
func (a *app) knownHistory(ctx context.Context, e *groupsync.Engine, id peercrypto.Identity, card *groupsync.Card) (events []keys.Event, done bool, err error) {
	known, err := e.UserKeys(ctx, id.UserID())
	if err != nil || card == nil {
		return known.Events, false, err
	}
	events = append(known.Events, card.Keys...)
	h := keys.Evaluate(keys.Genesis(id.Genesis), events)
	if err := returnAll(ctx, e, *card); err != nil {
		return events, false, err
	}
	if !recovered(h) || h.State.Key() != id.User.Public() || h.Frozen() {
		return events, false, nil
	}
	return events, true, a.showChanged(ctx, id, e)
}

// recovered tells whether the key that stands was set by the words.
func recovered(h keys.History) bool {
	out := false
	for _, e := range h.Line {
		if e.Op == keys.Rotate {
			out = e.By == keys.ByRecovery
		}
	}
	return out
}

// recoverFresh makes a new device of a user who lost everything but the words.
func (a *app) recoverFresh(ctx context.Context, r recovery, words peercrypto.Recovery, card groupsync.Card) error {
	if a.cfg.server == "" && len(card.Groups) > 0 {
		a.cfg.server = card.Groups[0].Server
	}
	if err := a.checkInit(); err != nil {
		return err
	}
	device, _, err := peercrypto.NewIdentity(time.Now()) // for the keys of the device
	if err != nil {
		return fmt.Errorf("making the keys: %w", err)
	}
	device.Genesis = card.Genesis
	next, line, err := r.recoverEvents(words, device, card.Genesis, card.Keys)
	if err != nil {
		return err
	}
	o := peercrypto.KeystoreOptions{Insecure: r.insecure}
	if !r.insecure {
		if o.Passphrase, err = a.newPassphrase(); err != nil {
			return err
		}
	}
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
	return a.offline(func(o offline) error {
		return o.open(ctx, id, func(e *groupsync.Engine) error {
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
