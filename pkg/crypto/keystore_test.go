package crypto_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

var insecure = peercrypto.KeystoreOptions{Insecure: true}

func sameIdentity(t testing.TB, got, want peercrypto.Identity) {
	t.Helper()
	if !bytes.Equal(got.Genesis.Canonical(), want.Genesis.Canonical()) || got.DeviceCreated != want.DeviceCreated ||
		!bytes.Equal(got.User.ExportSeed(), want.User.ExportSeed()) ||
		!bytes.Equal(got.Device.ExportSeed(), want.Device.ExportSeed()) ||
		!bytes.Equal(got.DeviceBox.ExportBytes(), want.DeviceBox.ExportBytes()) {
		t.Error("another identity came back")
	}
}

func TestKeystorePassphrase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "keys.json")
	id := goldenIdentity(t)
	o := peercrypto.KeystoreOptions{Passphrase: []byte("correct horse")}
	if err := peercrypto.SaveKeystore(path, id, o); err != nil {
		t.Fatal(err)
	}
	back, err := peercrypto.LoadKeystore(path, o)
	if err != nil {
		t.Fatal(err)
	}
	sameIdentity(t, back, id)
	for name, test := range map[string]struct {
		o    peercrypto.KeystoreOptions
		want error
	}{
		"wrong":          {peercrypto.KeystoreOptions{Passphrase: []byte("battery")}, peercrypto.ErrWrongPassphrase},
		"none":           {peercrypto.KeystoreOptions{}, peercrypto.ErrPassphraseNeeded},
		"none, insecure": {insecure, peercrypto.ErrPassphraseNeeded},
		"long":           {peercrypto.KeystoreOptions{Passphrase: make([]byte, 70_000)}, peercrypto.ErrWrongPassphrase},
	} {
		if _, err := peercrypto.LoadKeystore(path, test.o); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range [][]byte{id.User.ExportSeed(), id.Device.ExportSeed(), id.DeviceBox.ExportBytes()} {
		if bytes.Contains(raw, secret) || bytes.Contains(raw, []byte(peercrypto.EncodeB64u(secret))) {
			t.Error("the file holds a secret in clear")
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, %v", entries, err)
	}
	if info, _ := os.Stat(path); runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if info, _ := os.Stat(filepath.Dir(path)); runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("directory mode %v", info.Mode())
	}
}

// privateDir returns a directory of mode 0700.
func privateDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "private")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestKeystoreInsecure(t *testing.T) {
	path := filepath.Join(privateDir(t), "keys.json")
	id := goldenIdentity(t)
	if err := peercrypto.SaveKeystore(path, id, peercrypto.KeystoreOptions{}); !errors.Is(err, peercrypto.ErrPassphraseNeeded) {
		t.Errorf("neither passphrase nor insecure: %v", err)
	}
	if err := peercrypto.SaveKeystore(path, peercrypto.Identity{}, insecure); !errors.Is(err, peercrypto.ErrGenesis) {
		t.Errorf("no identity: %v", err)
	}
	if _, err := peercrypto.LoadKeystore(path, insecure); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := peercrypto.SaveKeystore(path, id, insecure); err != nil {
		t.Fatal(err)
	}
	if _, err := peercrypto.LoadKeystore(path, peercrypto.KeystoreOptions{}); !errors.Is(err, peercrypto.ErrKeystoreInsecure) {
		t.Errorf("not allowed: %v", err)
	}
	if _, err := peercrypto.LoadKeystore(path, peercrypto.KeystoreOptions{Passphrase: []byte("x")}); !errors.Is(err, peercrypto.ErrKeystoreInsecure) {
		t.Errorf("passphrase for a file without: %v", err)
	}
	back, err := peercrypto.LoadKeystore(path, insecure)
	if err != nil {
		t.Fatal(err)
	}
	sameIdentity(t, back, id)
}

func TestKeystoreIsNeverReplaced(t *testing.T) {
	path := filepath.Join(privateDir(t), "keys.json")
	var saved, refused atomic.Int32
	var wg sync.WaitGroup
	id := goldenIdentity(t)
	for range 8 {
		wg.Go(func() {
			switch err := peercrypto.SaveKeystore(path, id, insecure); {
			case err == nil:
				saved.Add(1)
			case errors.Is(err, peercrypto.ErrKeystoreExists):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if saved.Load() != 1 || refused.Load() != 7 {
		t.Errorf("%d saved, %d refused", saved.Load(), refused.Load())
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	link := filepath.Join(filepath.Dir(path), "dangling")
	if err := os.Symlink("nowhere", link); err == nil {
		if err := peercrypto.SaveKeystore(link, id, insecure); !errors.Is(err, peercrypto.ErrKeystoreExists) {
			t.Errorf("through a dangling link: %v", err)
		}
	}
}

func TestKeystoreModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such modes")
	}
	dir := privateDir(t)
	path := filepath.Join(dir, "keys.json")
	id := goldenIdentity(t)
	if err := peercrypto.SaveKeystore(path, id, insecure); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o610, 0o666} {
		chmod(t, path, mode)
		if _, err := peercrypto.LoadKeystore(path, insecure); !errors.Is(err, peercrypto.ErrKeystoreModes) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("file mode %o: %v", mode, err)
		}
	}
	chmod(t, path, 0o400)
	if _, err := peercrypto.LoadKeystore(path, insecure); err != nil {
		t.Errorf("file mode 400: %v", err)
	}
	for _, mode := range []os.FileMode{0o750, 0o705, 0o711} {
		chmod(t, dir, mode)
		if _, err := peercrypto.LoadKeystore(path, insecure); !errors.Is(err, peercrypto.ErrKeystoreModes) || !strings.Contains(err.Error(), "chmod 700") {
			t.Errorf("directory mode %o: %v", mode, err)
		}
		if err := peercrypto.SaveKeystore(path+"2", id, insecure); !errors.Is(err, peercrypto.ErrKeystoreModes) {
			t.Errorf("saving with directory mode %o: %v", mode, err)
		}
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestKeystoreFormat(t *testing.T) {
	id := goldenIdentity(t)
	raw, err := peercrypto.EncodeKeystoreWith(id, insecure, [16]byte{}, [24]byte{})
	if err != nil {
		t.Fatal(err)
	}
	none := string(raw)
	argon := `{"ct":"AAAAAAAAAAAAAAAAAAAAAA","kdf":{"m":65536,"name":"argon2id","p":1,"salt":"AAAAAAAAAAAAAAAAAAAAAA","t":3},"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","v":1}`
	replace := strings.Replace
	for name, bad := range map[string]string{
		"empty":         "",
		"not JSON":      "keys",
		"version":       replace(none, `"v":1`, `"v":2`, 1),
		"unknown":       replace(none, `"v":1`, `"v":1,"x":1`, 1),
		"kdf":           replace(none, `"none"`, `"scrypt"`, 1),
		"kdf none + t":  replace(none, `"none"`, `"none","t":1`, 1),
		"no nonce":      replace(none, `"nonce"`, `"n"`, 1),
		"short nonce":   replace(none, `"nonce":"AAAA`, `"nonce":"`, 1),
		"ct":            replace(none, `"ct":"`, `"ct":"AAAA`, 1),
		"no ct":         `{"kdf":{"name":"none"},"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","v":1}`,
		"memory bomb":   replace(argon, "65536", "4294967295", 1),
		"memory":        replace(argon, "65536", "262145", 1),
		"little memory": replace(argon, "65536", "7", 1),
		"time bomb":     replace(argon, `"t":3`, `"t":17`, 1),
		"no time":       replace(argon, `"t":3`, `"t":0`, 1),
		"lanes":         replace(argon, `"p":1`, `"p":5`, 1),
		"no lanes":      replace(argon, `"p":1`, `"p":0`, 1),
		"many lanes":    replace(argon, `"p":1`, `"p":256`, 1),
		"salt":          replace(argon, `"salt":"AAAA`, `"salt":"`, 1),
		"negative":      replace(argon, `"t":3`, `"t":-3`, 1),
	} {
		o := peercrypto.KeystoreOptions{Insecure: true}
		if strings.Contains(bad, "argon") {
			o.Passphrase = []byte("x")
		}
		if _, err := peercrypto.DecodeKeystore([]byte(bad), o); !errors.Is(err, peercrypto.ErrKeystoreFormat) {
			t.Errorf("%s: %v, want ErrKeystoreFormat", name, err)
		}
	}
	dir := privateDir(t)
	if _, err := peercrypto.LoadKeystore(dir, insecure); err == nil {
		t.Error("a directory was read")
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, bytes.Repeat([]byte(" "), 20_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := peercrypto.LoadKeystore(large, insecure); !errors.Is(err, peercrypto.ErrKeystoreFormat) {
		t.Errorf("a large file: %v", err)
	}
}
