package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A Scenario is what the devices do.
type Scenario string

// The scenarios.
const (
	// Pairs send each other offers and answers.
	Pairs Scenario = "pairs"
	// Groups hold a topic together; devices leave it and join it again.
	Groups Scenario = "groups"
	// Newcomers join one large group, one after the other.
	Newcomers Scenario = "newcomers"
	// Idle devices connect, hold their topics, and say nothing.
	Idle Scenario = "idle"
	// Auth connects, authenticates and leaves, again and again.
	Auth Scenario = "auth"
	// Storm cuts all connections at once; all come back as fast as they can.
	Storm Scenario = "storm"
)

// Scenarios are all of them, in the order of the documentation.
func Scenarios() []Scenario { return []Scenario{Pairs, Groups, Newcomers, Idle, Auth, Storm} }

// Config says what load to make. Zero values mean the defaults given here.
type Config struct {
	// URL is the server: http, https, ws or wss, host and port.
	URL string
	// Dialect is what is spoken there.
	Dialect Dialect `json:"-"`
	// TLS is for https and wss; nil: the system's roots.
	TLS *tls.Config `json:"-"`
	// From are local addresses to connect from, in turn; empty: the system's
	// choice. One address can hold about 28,000 connections to a server.
	From []string

	Scenario Scenario // default Pairs
	// Devices are connected at a time; default 100. In the scenario Auth they are
	// how many do it at a time.
	Devices int
	// GroupsOf is the size of groups, at most Devices; default 10, in Newcomers
	// all devices.
	GroupsOf int
	// Topics of each device; default 5.
	Topics int
	// Size of a whole envelope message in bytes; default 1,600.
	Size int
	// Rate is how much is done in a second, spread over all devices: messages in
	// Pairs, joins and leaves in Groups. 0: as fast as answers come (closed loop)
	// in Pairs, 100 in Groups.
	Rate float64
	// Count is how many newcomers, or storms; default 100, or 1.
	Count int
	// Burst is how many newcomers join at the same time; default 1. All stay until
	// the last has come.
	Burst int

	// Duration is how long it is measured, after all are connected and Warmup is
	// over; default 10 s.
	Duration time.Duration
	Warmup   time.Duration
	// ConnectRate is the most connections a second; 0: no limit.
	ConnectRate float64
	// Connecting is how many connect at the same time; default 64.
	Connecting int
	// ConnectTimeout is for one device, until it is in and holds its topics;
	// default 20 s.
	ConnectTimeout time.Duration

	// ServerPID is the server's process when it is on this machine: its processor
	// time and memory are measured, too. Linux only; 0: none.
	ServerPID int
	// Progress is told a line a second; nil: nobody is.
	Progress func(line string) `json:"-"`
	// Connected is called when all are connected and nothing else has begun; nil:
	// nothing is.
	Connected func() `json:"-"`
}

// ErrConfig is the error of a Config that makes no sense.
var ErrConfig = errors.New("configuring the load")

const (
	maxDevices = 1_000_000
	minSize    = 320
)

func (c Config) withDefaults() (Config, error) {
	setDefault(&c.Scenario, Pairs)
	setDefault(&c.Devices, 100)
	setDefault(&c.Topics, 5)
	setDefault(&c.Size, 1600)
	setDefault(&c.Duration, 10*time.Second)
	setDefault(&c.Connecting, 64)
	setDefault(&c.ConnectTimeout, 20*time.Second)
	setDefault(&c.Burst, 1)
	switch c.Scenario {
	case Newcomers:
		setDefault(&c.Count, 100)
		setDefault(&c.GroupsOf, c.Devices)
	case Groups:
		setDefault(&c.Rate, 100)
		setDefault(&c.GroupsOf, min(10, c.Devices))
	case Storm:
		setDefault(&c.Count, 1)
	case Pairs:
		c.GroupsOf = 2
	}
	setDefault(&c.GroupsOf, 1)
	if err := c.validate(); err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return c, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) validate() error {
	for _, v := range []struct {
		bad  bool
		text string
	}{
		{!slices.Contains(Scenarios(), c.Scenario), fmt.Sprintf("%q is none of the scenarios %v", c.Scenario, Scenarios())},
		{c.Dialect == nil, "it needs a dialect"},
		{c.Devices < 1 || c.Devices > maxDevices, fmt.Sprintf("devices must be 1 to %d", maxDevices)},
		{c.Scenario == Pairs && c.Devices%2 != 0, "pairs need an even number of devices"},
		{c.GroupsOf < 1 || c.GroupsOf > c.Devices, "groups have at least one device, and not more than there are"},
		{c.Topics < 1 || c.Topics > 10_000, "topics must be 1 to 10,000"},
		{c.Size < minSize || c.Size > MaxSize, fmt.Sprintf("the size must be %d to %d bytes", minSize, MaxSize)},
		{c.Rate < 0 || c.ConnectRate < 0, "a rate cannot be negative"},
		{c.Count < 0 || c.Burst < 0, "a count cannot be negative"},
		{c.Duration < 0 || c.Warmup < 0 || c.ConnectTimeout < 0, "a duration cannot be negative"},
		{c.Connecting < 1, "at least one device has to connect at a time"},
	} {
		if v.bad {
			return errors.New(v.text)
		}
	}
	return nil
}

// target finds out where to dial.
func (c *Config) target() (*target, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("%w: the URL %q is not like http://localhost:8080", ErrConfig, c.URL)
	}
	t := &target{host: u.Host}
	port := u.Port()
	switch u.Scheme {
	case "http", "ws":
		setDefault(&port, "80")
	case "https", "wss":
		setDefault(&port, "443")
		if t.tls = c.TLS.Clone(); t.tls == nil {
			t.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		setDefault(&t.tls.ServerName, u.Hostname())
		t.tls.NextProtos = []string{"http/1.1"}
	default:
		return nil, fmt.Errorf("%w: the URL %q does not begin with http://, https://, ws:// or wss://", ErrConfig, c.URL)
	}
	t.address = net.JoinHostPort(strings.Trim(u.Hostname(), "[]"), port)
	for _, from := range c.From {
		ip := net.ParseIP(from)
		if ip == nil {
			return nil, fmt.Errorf("%w: the local address %q is not an IP address", ErrConfig, from)
		}
		t.from = append(t.from, &net.TCPAddr{IP: ip})
	}
	return t, nil
}
