//go:build linux

package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// A Node is one namespace: a host or a router.
type Node struct {
	Name string // of the namespace, for ip netns
	Role string
	// links counts what is plugged in, for device names.
	links int
}

// Command is what a program is started by so that it runs in the node.
func (n *Node) Command() []string { return []string{"ip", "netns", "exec", n.Name} }

// IP runs ip(8) in the node.
func (n *Node) IP(ctx context.Context, args ...string) error {
	return run(ctx, "", "ip", append([]string{"-n", n.Name}, args...)...)
}

// Rules adds nftables rules, one statement a line.
func (n *Node) Rules(ctx context.Context, rules string) error {
	if err := run(ctx, rules, "ip", append(n.Command()[1:], "nft", "-f", "-")...); err != nil {
		return fmt.Errorf("packet filter of %s: %w", n.Role, err)
	}
	return nil
}

// Forget makes the node's connection tracking forget everything, as if it was switched off and on.
func (n *Node) Forget(ctx context.Context) error {
	return run(ctx, "", "ip", append(n.Command()[1:], "conntrack", "-F")...)
}

// Sysctl sets a kernel setting of the node, such as "net.ipv4.ip_forward".
func (n *Node) Sysctl(key, value string) error {
	return n.Do(func() error {
		path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return fmt.Errorf("setting %s of %s: %w", key, n.Role, err)
		}
		return nil
	})
}

// Do calls f inside the node. Sockets that f opens on this goroutine belong to the node for good, and can be used
// anywhere later.
func (n *Node) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread is not unlocked when it could not be brought back: then it ends with this goroutine.
		runtime.LockOSThread()
		back, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- fmt.Errorf("entering %s: %w", n.Role, err)
			return
		}
		defer func() { _ = back.Close() }()
		if err := enter(filepath.Join("/run/netns", n.Name)); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("entering %s: %w", n.Role, err)
			return
		}
		err = f()
		if unix.Setns(int(back.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

func enter(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	return unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
}
