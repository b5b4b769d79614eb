//go:build unix

package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

func TestReadOnlyModes(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("modes don't bind root")
	}
	path := fillStore(t, 1)
	for name, mode := range map[string]os.FileMode{path: 0o400, filepath.Dir(path): 0o500} {
		if name != path { // the lock file would do
			_ = os.Remove(path + ".lock")
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := sqlite.Open(path, sqlite.Options{}); !errors.Is(err, groupsync.ErrStoreReadOnly) {
			t.Errorf("with modes %v of %s Open returned %v", mode, name, err)
		}
		if err := os.Chmod(name, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}
