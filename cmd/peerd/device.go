package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/internal/daemon/client"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// requestName is the file with the keys of a device that is nobody's yet.
const requestName = "device-request.json"

// hasRequest tells whether the device of a data folder has asked to be a user's and was not answered yet.
func hasRequest(data string) bool {
	_, err := os.Lstat(filepath.Join(data, requestName))
	return err == nil
}

func (a *app) deviceCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "device", Short: "Your devices",
		Long: `A device that is on your list has your key, gets new ones by itself, and counts
when a majority of your devices replaces a key (peerd key propose).

A new device takes four steps, and three texts of which none is secret:`,
		Example: `  peerd key card                             # 1. here: prints peers:card#…
  peerd device new 'peers:card#…' --name alice  # 2. on the new device: prints peers:device#… and a code
  peerd device add 'peers:device#…'          # 3. here: compare the code; prints peers:welcome#…
  peerd device join 'peers:welcome#…'        # 4. on the new device; then peerd up`,
	}
	needsSubcommand(cmd)
	cmd.AddCommand(a.deviceLsCmd(), a.deviceNewCmd(), a.deviceAddCmd(), a.deviceJoinCmd(), a.deviceRevokeCmd())
	return cmd
}

func (a *app) deviceLsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List your devices", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []api.OwnDevice
			if err := a.client().Do(cmd.Context(), "GET", "/devices", nil, &list); err != nil {
				return err
			}
			return a.print(list, func() {
				a.table(func(w io.Writer) {
					row(w, "DEVICE", "ON THE LIST", "HAS THE KEY", "")
					for _, d := range list {
						row(w, d.Device, yesNo(d.Listed), seenNo(d.HasKey), self(d.Self))
					}
				})
			})
		},
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// seenNo tells what this device knows: that another one has the key is known when it was met.
func seenNo(b bool) string {
	if b {
		return "yes"
	}
	return "not seen yet"
}

func self(b bool) string {
	if b {
		return "this one"
	}
	return ""
}

func (a *app) deviceNewCmd() *cobra.Command {
	var insecure, again bool
	cmd := &cobra.Command{
		Use: "new CARD", Short: "On a new device: ask to become one of yours",
		Long: `Makes the keys of this device and prints a request for peerd device add, and a
code. The request is not secret, but the code must be compared: who swaps the
request for another one gets your key.`,
		Example: "  peerd device new 'peers:card#…' --name alice",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			card, err := groupsync.ParseCard(args[0])
			if err != nil {
				return usageError{err}
			}
			return a.newDevice(card, insecure, again)
		},
	}
	f := cmd.Flags()
	f.String("name", "", "your name, as members of your groups see it")
	f.String("server", "", "signaling server (default: the other device's)")
	f.String("passphrase-file", "", "file whose first line is the passphrase")
	f.BoolVar(&insecure, "insecure-keystore", false, "no passphrase: whoever reads the file has your keys")
	f.BoolVar(&again, "again", false, "make a new request from a new card, with the keys of the one before")
	return cmd
}

type newDevice struct {
	User    string `json:"user"`
	Device  string `json:"device"`
	Code    string `json:"code"`
	Request string `json:"request"`
}

func (a *app) newDevice(card groupsync.Card, insecure, again bool) error {
	id, err := a.deviceKeys(card, insecure, again)
	if err != nil {
		return err
	}
	r, err := groupsync.NewDeviceRequest(id, card, time.Now())
	if err != nil {
		return err
	}
	out := newDevice{string(card.Genesis.ID()), string(r.Device()), r.Code(), r.Text()}
	return a.print(out, func() {
		a.printf("%s\n", out.Request)
		a.note("\nCode: %s\n\nNext, on a device that you have: peerd device add 'REQUEST', and compare the code.\n", out.Code)
	})
}

// deviceKeys makes and stores the keys of a device that is to be the user's of a card, or reads those that were made before.
func (a *app) deviceKeys(card groupsync.Card, insecure, again bool) (peercrypto.Identity, error) {
	path := filepath.Join(a.cfg.data, requestName)
	if a.hasIdentity() {
		return peercrypto.Identity{}, keystoreHint(peercrypto.ErrKeystoreExists, a.cfg.data)
	}
	if again {
		id, _, err := a.unlockFile(path)
		if err == nil && id.Genesis.Hash() != card.Genesis.Hash() {
			err = usageError{errors.New("the card is of another user than the first one")}
		}
		return id, err
	}
	if err := a.checkInit(); err != nil {
		return peercrypto.Identity{}, err
	}
	o := peercrypto.KeystoreOptions{Insecure: insecure}
	if !insecure {
		var err error
		if o.Passphrase, err = a.newPassphrase(); err != nil {
			return peercrypto.Identity{}, err
		}
	}
	defer clear(o.Passphrase)
	id, _, err := peercrypto.NewIdentity(time.Now()) // its user key means nothing
	if err != nil {
		return id, fmt.Errorf("making the keys: %w", err)
	}
	id.Genesis = card.Genesis
	if err := os.MkdirAll(a.cfg.data, 0o700); err != nil {
		return id, fmt.Errorf("making the data folder: %w", err)
	}
	err = peercrypto.SaveKeystore(path, id, o)
	if errors.Is(err, peercrypto.ErrKeystoreExists) {
		return id, hinted{err, "There is a request already: --again makes a new text of it."}
	}
	if err != nil {
		return id, err
	}
	return id, a.writeConfig()
}

func (a *app) deviceAddCmd() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "add REQUEST", Short: "Let a new device be one of yours",
		Long: `Puts the device on your list and prints a welcome for it: your key, sealed so that
only that device can open it. Compare the code with what the new device shows.
Do this on one of your devices only, or let them sync in between: two devices
that are added on two devices that do not know of each other freeze your key
until you use the 24 words.`,
		Example: "  peerd device add 'peers:device#…'",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := groupsync.ParseDeviceRequest(args[0])
			if err != nil {
				return usageError{err}
			}
			a.note("Code: %s\n", r.Code())
			if err := a.confirm("Does the new device show the same code?", yes); err != nil {
				return err
			}
			var out api.AddedDevice
			if err := a.client().Do(cmd.Context(), "POST", "/devices", api.AddDevice{Request: args[0]}, &out); err != nil {
				return err
			}
			return a.print(out, func() {
				a.printf("%s\n", out.Welcome)
				a.note("\nNext, on the new device: peerd device join 'WELCOME'\n")
			})
		},
	}
	yesFlag(cmd, &yes)
	return cmd
}

func (a *app) deviceJoinCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "join WELCOME", Short: "On a new device: become one of yours", Args: args(cobra.ExactArgs(1)),
		Long:    "Stores your key. Your groups come from your other devices, or from members, when the daemon runs.",
		Example: "  peerd device join 'peers:welcome#…'\n  peerd up",
		RunE: func(_ *cobra.Command, args []string) error {
			w, err := groupsync.ParseWelcome(args[0])
			if err != nil {
				return usageError{err}
			}
			return a.joinDevice(w)
		},
	}
	cmd.Flags().String("passphrase-file", "", "file whose first line is the passphrase")
	return cmd
}

func (a *app) joinDevice(w groupsync.Welcome) error {
	path := filepath.Join(a.cfg.data, requestName)
	id, o, err := a.unlockFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return hinted{fmt.Errorf("there is no request in %s", a.cfg.data), "Make one here: peerd device new CARD."}
	}
	if err != nil {
		return err
	}
	defer clear(o.Passphrase)
	id, err = w.Accept(id)
	if errors.Is(err, peercrypto.ErrOpen) {
		return hinted{err, "It is for another request. Make a new one: peerd device new CARD --again."}
	}
	if err != nil {
		return err
	}
	if err := peercrypto.SaveKeystore(a.keystorePath(), id, o); err != nil {
		return keystoreHint(err, a.cfg.data)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing the request: %w", err)
	}
	if a.cfg.server == "" && w.Server() != "" {
		if err := a.addServer(w.Server()); err != nil {
			return err
		}
	}
	out := changedKey{User: string(id.UserID()), Device: string(id.DeviceID()), Key: id.User.Public().String()}
	return a.print(out, func() {
		a.printf("user    %s\ndevice  %s\nkey     %s\n\nNext: peerd up\n", out.User, out.Device, out.Key)
	})
}

func (a *app) deviceRevokeCmd() *cobra.Command {
	var yes bool
	var reason string
	cmd := &cobra.Command{
		Use: "revoke DEVICE", Short: "Take a device off your list and replace your key",
		Long: `The device gets no new key any more, and yours is replaced, since that device has
the old one. If somebody has the device, that is not enough, because the old key
can sign, too: use the 24 words (peerd recover) or a majority of your devices
(peerd key propose --without DEVICE).`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.confirm(fmt.Sprintf("Take %s off your list and replace your key?", args[0]), yes); err != nil {
				return err
			}
			return a.rotateOnline(cmd.Context(), api.Rotate{Reason: reason, Without: args})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "rotated", "for people: rotated, lost or compromised")
	yesFlag(cmd, &yes)
	return cmd
}

// restartWithin is how long a daemon may take to begin anew.
const restartWithin = 15 * time.Second

// rotateOnline lets the daemon set a new key and waits until it works with it.
func (a *app) rotateOnline(ctx context.Context, in api.Rotate) error {
	var before, now api.ID
	if err := a.client().Do(ctx, "GET", "/id", nil, &before); err != nil {
		return err
	}
	if err := a.client().Do(ctx, "POST", "/rotate", in, nil); err != nil {
		return err
	}
	for end := time.Now().Add(restartWithin); now.UserKey == "" || now.UserKey == before.UserKey; {
		if time.Now().After(end) {
			return errors.New("the new key is stored, and the daemon did not begin anew with it: see its log")
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := a.client().Do(ctx, "GET", "/id", nil, &now); err != nil {
			now = api.ID{} // between
		}
	}
	var groups []api.Group
	if err := a.client().Do(ctx, "GET", "/groups", nil, &groups); err != nil {
		return err
	}
	out := changedKey{User: now.User, Device: now.Device, Key: now.UserKey}
	for _, g := range groups {
		if g.Joined {
			out.Groups++
		}
	}
	return a.print(out, func() {
		a.printf("user    %s\ndevice  %s\nkey     %s\n%d groups know the new key.\n", out.User, out.Device, out.Key, out.Groups)
		a.note("The daemon works with the new key. Your other devices get it when they meet one that has it: peerd device ls.\n")
	})
}

func proposalPath(more ...string) string {
	return client.Path(append([]string{"proposals"}, more...)...)
}
