package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"strings"
)

const (
	// maxSecretFile is the largest file that can be a secret.
	maxSecretFile = 4 << 10
	// maxConfigFile is the largest file of settings.
	maxConfigFile = 4 << 20
)

// inputs are the files that settings are read from, by their paths. Each is read
// once, since a pipe, like <(…) of a shell, has nothing for a second reader.
type inputs map[string]input

type input struct {
	content []byte
	err     error
	pipe    bool
}

// pipes are those that a reload can't read again: they say what they said.
func (in inputs) pipes() inputs {
	kept := maps.Clone(in)
	maps.DeleteFunc(kept, func(_ string, i input) bool { return !i.pipe })
	return kept
}

// read gives what is in a file of at most so many bytes.
func (in inputs) read(path string, most int64) ([]byte, error) {
	i, ok := in[path]
	if !ok {
		i.content, i.pipe, i.err = readInput(path, most)
		in[path] = i
	}
	return i.content, i.err
}

func readInput(path string, most int64) (content []byte, pipe bool, err error) {
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil {
		pipe = info.Mode()&fs.ModeNamedPipe != 0
	}
	content, err = io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(content)) > most {
		content, err = nil, fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return content, pipe, err
}

// secret gives the secret that is in a file.
func (in inputs) secret(path string) (string, error) {
	content, err := in.read(path, maxSecretFile)
	if err != nil {
		return "", err
	}
	value := strings.TrimSpace(string(content))
	if value == "" {
		return "", errors.New(path + " is empty")
	}
	return value, nil
}
