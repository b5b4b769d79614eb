package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

const maxPassphraseFile = 4096

// passphrase gets the passphrase of an existing key store.
func (a *app) passphrase() ([]byte, error) {
	if a.cfg.passphraseFile != "" {
		return readPassphrase(a.cfg.passphraseFile)
	}
	if !isTerminal(a.in) {
		return nil, peercrypto.ErrPassphraseNeeded
	}
	return a.ask("Passphrase: ")
}

// newPassphrase gets one for a new key store, twice from a person.
func (a *app) newPassphrase() ([]byte, error) {
	if a.cfg.passphraseFile != "" {
		return readPassphrase(a.cfg.passphraseFile)
	}
	if !isTerminal(a.in) {
		return nil, usageError{hinted{errors.New("the key store needs a passphrase"),
			"Run this in a terminal, or name a file with one (--passphrase-file), or say that you want none (--insecure-keystore)."}}
	}
	first, err := a.ask("New passphrase: ")
	if err != nil {
		return nil, err
	}
	second, err := a.ask("Once more: ")
	if err != nil {
		return nil, err
	}
	if len(first) == 0 {
		return nil, usageError{errors.New("the passphrase is empty")}
	}
	if !bytes.Equal(first, second) {
		return nil, usageError{errors.New("the two passphrases differ")}
	}
	return first, nil
}

func (a *app) ask(prompt string) ([]byte, error) {
	a.note("%s", prompt)
	text, err := term.ReadPassword(int(a.in.(*os.File).Fd()))
	a.note("\n")
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	return text, nil
}

// readPassphrase reads the first line of a file.
func readPassphrase(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usageError{fmt.Errorf("passphrase file: %w", err)}
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxPassphraseFile))
	if err != nil {
		return nil, usageError{fmt.Errorf("passphrase file: %w", err)}
	}
	text, _, _ = bytes.Cut(text, []byte("\n"))
	text = bytes.TrimSuffix(text, []byte("\r"))
	if len(text) == 0 {
		return nil, usageError{fmt.Errorf("passphrase file %s: its first line is empty", path)}
	}
	return text, nil
}
