package crypto

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// SaveKeystore writes a new key store: mode 0600, in a directory of mode 0700
// that is made if it is missing. It never replaces a file: if path exists, the
// error is [ErrKeystoreExists]. When it returns nil the file is on disk.
func SaveKeystore(path string, id Identity, o KeystoreOptions) error {
	if err := saveKeystore(path, id, o); err != nil {
		return fmt.Errorf("saving key store %s: %w", path, err)
	}
	return nil
}

func saveKeystore(path string, id Identity, o KeystoreOptions) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%w: move it away first", ErrKeystoreExists)
	}
	raw, err := encodeKeystore(id, o)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := checkDir(dir); err != nil {
		return err
	}
	temp, err := writeTemp(dir, append(raw, '\n'))
	if err != nil {
		return err
	}
	if err := publish(temp, path); err != nil {
		return err
	}
	return syncDir(dir)
}

// ReplaceKeystore puts another identity in the place of the one in path, which
// must exist. A crash leaves the old one or the new one, whole. When it returns
// nil the new one is on disk, and the old one is gone.
func ReplaceKeystore(path string, id Identity, o KeystoreOptions) error {
	if err := replaceKeystore(path, id, o); err != nil {
		return fmt.Errorf("replacing key store %s: %w", path, err)
	}
	return nil
}

func replaceKeystore(path string, id Identity, o KeystoreOptions) error {
	if _, err := readKeystore(path); err != nil {
		return err
	}
	raw, err := encodeKeystore(id, o)
	if err != nil {
		return err
	}
	if len(raw) >= maxKeystore {
		return fmt.Errorf("%w: larger than %d bytes", ErrKeystoreFormat, maxKeystore)
	}
	dir := filepath.Dir(path)
	temp, err := writeTemp(dir, append(raw, '\n'))
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDir(dir)
}

// publish gives temp the name path, unless somebody has made path meanwhile,
// and removes the name temp in any case.
func publish(temp, path string) error {
	err := os.Link(temp, path) // unlike a rename it fails if path exists
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// A file system without links: take the name, then replace it.
		var f *os.File
		f, err = os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the path is the user's choice
		if err == nil {
			if err = firstError(f.Close(), os.Rename(temp, path)); err != nil {
				_ = os.Remove(path) // our own empty file
			}
		}
	}
	if removeErr := os.Remove(temp); err == nil && !errors.Is(removeErr, fs.ErrNotExist) {
		err = removeErr
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: move it away first", ErrKeystoreExists)
	}
	return err
}

// writeTemp writes a new file of mode 0600, synced, and returns its name.
func writeTemp(dir string, content []byte) (string, error) {
	f, err := os.CreateTemp(dir, ".keystore-*") // made with mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// LoadKeystore reads a key store. It refuses a file or directory that others
// can reach.
func LoadKeystore(path string, o KeystoreOptions) (Identity, error) {
	raw, err := readKeystore(path)
	if err != nil {
		return Identity{}, fmt.Errorf("loading key store %s: %w", path, err)
	}
	id, err := decodeKeystore(raw, o)
	if err != nil {
		return Identity{}, fmt.Errorf("loading key store %s: %w", path, err)
	}
	return id, nil
}

func readKeystore(path string) ([]byte, error) {
	if err := checkDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	// Before opening, because opening a pipe would block.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", ErrKeystoreFormat)
	}
	f, err := os.Open(path) //nolint:gosec // the path is the user's choice
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err = f.Stat()
	if err != nil {
		return nil, err
	}
	if looser(info) {
		return nil, fmt.Errorf("%w: run: chmod 600 %q", ErrKeystoreModes, path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxKeystore+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxKeystore {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrKeystoreFormat, maxKeystore)
	}
	return raw, nil
}

func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if looser(info) {
		return fmt.Errorf("%w: run: chmod 700 %q", ErrKeystoreModes, dir)
	}
	return nil
}

// looser reports whether group or others have any right. Windows has no such
// modes.
func looser(info fs.FileInfo) bool {
	return runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0
}

// syncDir makes a new name in dir durable. Windows cannot sync a directory.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir) //nolint:gosec // the path is the user's choice
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
