package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

func (a *app) initCmd() *cobra.Command {
	var insecure bool
	cmd := &cobra.Command{
		Use: "init", Short: "Make your identity and the data folder",
		Long: `Makes your user and device keys, stores them encrypted with a passphrase in the
data folder, and prints your ids and 24 recovery words. The words are shown this
once and kept nowhere: write them down.`,
		Example: "  peerd init --name alice\n  peerd init --name alice --passphrase-file ~/.peerd-passphrase --server https://signal.example.org",
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return a.init(insecure)
		},
	}
	cmd.Flags().String("name", "", "your name, as members of your groups see it")
	cmd.Flags().String("server", "", "signaling server, kept as the default of peerd up")
	cmd.Flags().String("passphrase-file", "", "file whose first line is the passphrase")
	cmd.Flags().BoolVar(&insecure, "insecure-keystore", false, "no passphrase: whoever reads the file has your keys")
	return cmd
}

type initResult struct {
	User     string   `json:"user"`
	Device   string   `json:"device"`
	Name     string   `json:"name"`
	Data     string   `json:"data"`
	Recovery []string `json:"recovery"`
}

func (a *app) init(insecure bool) error {
	if err := a.checkInit(); err != nil {
		return err
	}
	if hasRequest(a.cfg.data) {
		return hinted{fmt.Errorf("%s is of a device that waits for its welcome: it is to be another user's", a.cfg.data),
			"Go on with peerd device join WELCOME, or choose another folder (--data)."}
	}
	o := peercrypto.KeystoreOptions{Insecure: insecure}
	if !insecure {
		var err error
		if o.Passphrase, err = a.newPassphrase(); err != nil {
			return err
		}
	}
	id, recovery, err := peercrypto.NewIdentity(time.Now())
	if err != nil {
		return fmt.Errorf("making the keys: %w", err)
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
	result := initResult{
		User: string(id.UserID()), Device: string(id.DeviceID()), Name: a.cfg.name, Data: a.cfg.data, Recovery: recovery.Words(),
	}
	return a.print(result, func() { a.showInit(result, insecure) })
}

// checkInit refuses what would fail later, before keys are made.
func (a *app) checkInit() error {
	if a.cfg.name == "" {
		return usageError{errors.New("a name is missing: --name NAME says how members of your groups see you")}
	}
	if len(a.cfg.name) > peercrypto.MaxUserName || strings.ContainsFunc(a.cfg.name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return usageError{fmt.Errorf("the name must have at most %d bytes and no control characters", peercrypto.MaxUserName)}
	}
	if a.cfg.server != "" {
		if _, _, err := wire.CanonicalServer(a.cfg.server); err != nil {
			return usageError{fmt.Errorf("server: %w", err)}
		}
	}
	return nil
}

// writeConfig keeps what `peerd up` needs, unless there is a file already.
func (a *app) writeConfig() error {
	text, err := yaml.Marshal(struct {
		Name   string `yaml:"name"`
		Server string `yaml:"server,omitempty"`
	}{a.cfg.name, a.cfg.server})
	if err != nil {
		return fmt.Errorf("writing the configuration file: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(a.cfg.data, configName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("writing the configuration file: %w", err)
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

func (a *app) showInit(r initResult, insecure bool) {
	a.printf("user    %s\ndevice  %s\ndata    %s\n\n", r.User, r.Device, r.Data)
	a.showWords(r.Recovery)
	a.printf("\nNext: peerd up --server URL\n")
	if insecure {
		a.note("Warning: the key store has no passphrase: whoever reads %s has your keys.\n", filepath.Join(r.Data, keystoreName))
	}
}

// keystoreHint says what to do about a key store.
func keystoreHint(err error, data string) error {
	switch {
	case errors.Is(err, peercrypto.ErrKeystoreExists):
		return hinted{err, fmt.Sprintf("There is an identity in %s already: use it (`peerd up`) or choose another folder (--data).", data)}
	case errors.Is(err, os.ErrNotExist):
		if hasRequest(data) {
			return hinted{fmt.Errorf("this device waits for its welcome"), "On a device that you have: peerd device add REQUEST. Then here: peerd device join WELCOME."}
		}
		return hinted{fmt.Errorf("there is no identity in %s", data), "Make one with `peerd init --name NAME`."}
	case errors.Is(err, peercrypto.ErrKeystoreFormat):
		return hinted{err, "Take the file from a backup. Without one your 24 words make a new one: peerd recover CARD, in another folder (--data)."}
	}
	return err
}

// addServer adds the signaling server to the configuration file.
func (a *app) addServer(url string) error {
	line, err := yaml.Marshal(map[string]string{"server": url})
	if err != nil {
		return fmt.Errorf("writing the configuration file: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(a.cfg.data, configName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("writing the configuration file: %w", err)
	}
	_, err = f.Write(line)
	return errors.Join(err, f.Close())
}
