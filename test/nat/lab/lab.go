//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// MaxNodes bounds the namespaces of one lab.
const MaxNodes = 16

// prefix begins the names of all namespaces that labs make: prefix, pid, start time of that process, number of the lab,
// number of the node, role, joined by "-".
const prefix = "psnat"

var labs atomic.Int64

// A Lab owns namespaces. Close deletes them and ends what still runs in them.
type Lab struct {
	id     string
	mu     sync.Mutex
	nodes  []*Node
	closed bool
}

// Missing tells what this machine lacks, in words for people; nothing if labs can be made.
func Missing() []string {
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root: network namespaces need it")
	}
	for _, tool := range [][2]string{{"ip", "iproute2"}, {"nft", "nftables"}, {"conntrack", "conntrack"}} {
		if _, err := exec.LookPath(tool[0]); err != nil {
			missing = append(missing, fmt.Sprintf("%s: install the package %s", tool[0], tool[1]))
		}
	}
	if len(missing) > 0 {
		return missing
	}
	ctx := context.Background()
	l := New()
	n, err := l.Node(ctx, "check")
	if err == nil {
		err = n.Rules(ctx, "table ip nat {\n chain post {\n  type nat hook postrouting priority srcnat\n  masquerade fully-random\n }\n}\n")
	}
	if err = errors.Join(err, l.Close()); err != nil {
		missing = append(missing, fmt.Sprintf("network namespaces with NAT: %v", err))
	}
	return missing
}

// New makes an empty lab.
func New() *Lab {
	start, err := startTime(os.Getpid())
	if err != nil {
		start = "0"
	}
	return &Lab{id: fmt.Sprintf("%s-%d-%s-%d", prefix, os.Getpid(), start, labs.Add(1))}
}

// Node makes a namespace with its loopback up.
func (l *Lab) Node(ctx context.Context, role string) (*Node, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.nodes) == MaxNodes {
		return nil, fmt.Errorf("namespace %s: the lab is closed or has %d already", role, MaxNodes)
	}
	n := &Node{Name: fmt.Sprintf("%s-%d-%s", l.id, len(l.nodes), role), Role: role}
	if err := run(ctx, "", "ip", "netns", "add", n.Name); err != nil {
		return nil, err
	}
	l.nodes = append(l.nodes, n)
	return n, n.IP(ctx, "link", "set", "lo", "up")
}

// Link connects two nodes by a cable with the device names given. Both ends are up.
func (l *Lab) Link(ctx context.Context, a *Node, aDev string, b *Node, bDev string) error {
	if err := run(ctx, "", "ip", "link", "add", aDev, "netns", a.Name, "type", "veth", "peer", "name", bDev, "netns", b.Name); err != nil {
		return err
	}
	return errors.Join(a.IP(ctx, "link", "set", aDev, "up"), b.IP(ctx, "link", "set", bDev, "up"))
}

// Close is idempotent. Programs should have been stopped before; what is left is killed.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	var errs []error
	for _, n := range l.nodes {
		errs = append(errs, remove(context.Background(), n.Name))
	}
	l.nodes = nil
	return errors.Join(errs...)
}

// Sweep deletes the namespaces of labs whose process is gone, with what runs in them, and returns their names.
func Sweep(ctx context.Context) ([]string, error) {
	names, err := namespaces(ctx)
	if err != nil {
		return nil, err
	}
	var swept []string
	var errs []error
	for _, name := range names {
		if !abandoned(name) {
			continue
		}
		if err := remove(ctx, name); err != nil {
			errs = append(errs, err)
			continue
		}
		swept = append(swept, name)
	}
	return swept, errors.Join(errs...)
}

func namespaces(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "ip", "netns", "list").Output()
	if err != nil {
		return nil, fmt.Errorf("listing network namespaces: %w", err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 0 {
			names = append(names, fields[0])
		}
	}
	return names, nil
}

// abandoned tells whether a lab made this namespace whose process does not run any more. The start time is in the name
// because another process may have got the pid.
func abandoned(name string) bool {
	parts := strings.Split(name, "-")
	if len(parts) < 6 || parts[0] != prefix {
		return false
	}
	pid, err := strconv.Atoi(parts[1])
	if err != nil || pid <= 0 {
		return false
	}
	start, err := startTime(pid)
	return err != nil || start != parts[2]
}

// startTime is when a process began, in ticks since boot.
func startTime(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The second field is the program's name in parentheses and can hold anything; the start time is the 22nd.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("process %d: unexpected stat", pid)
	}
	return fields[19], nil
}

// remove kills what runs in one of our namespaces and deletes it.
func remove(ctx context.Context, name string) error {
	out, err := exec.CommandContext(ctx, "ip", "netns", "pids", name).Output()
	if err == nil {
		for _, field := range strings.Fields(string(out)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 1 && pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	err = run(ctx, "", "ip", "netns", "del", name)
	if err == nil {
		return nil
	}
	if names, listErr := namespaces(ctx); listErr == nil && !slices.Contains(names, name) {
		return nil
	}
	return err
}

// run executes a tool and puts what it says into the error.
func run(ctx context.Context, in string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
