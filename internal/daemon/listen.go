package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/peersignal/peersignal/internal/daemon/api"
)

// ErrSocketInUse means that another daemon answers on the socket.
var ErrSocketInUse = errors.New("the socket is in use by another daemon")

// listen opens the socket in a folder that only this user can enter. A socket
// that a dead daemon left behind is replaced.
func listen(path string) (net.Listener, error) {
	if len(path) > api.MaxSocketPath {
		return nil, fmt.Errorf("opening the API socket: the path has %d bytes, at most %d are possible: choose a shorter one (--api)", len(path), api.MaxSocketPath)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the API socket: %w", err)
	}
	if err := checkPrivate(dir); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	lis, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening the API socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protecting the API socket: %w", err), lis.Close())
	}
	return lis, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at the API socket: %w", err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("opening the API socket: %s exists and is no socket: remove it or choose another path (--api)", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("opening the API socket %s: %w", path, ErrSocketInUse)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the API socket of a daemon that ended: %w", err)
	}
	return nil
}
