package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"

	"github.com/peersignal/peersignal/internal/ice"
)

// reader reads typed settings and collects what is wrong with them. Its errors
// name the key, and not the value, which can be a secret in the wrong place.
type reader struct {
	v     *viper.Viper
	files inputs
	errs  []error
}

func (r *reader) fail(key, text string) {
	r.errs = append(r.errs, fmt.Errorf("setting %s: %s", key, text))
}

// str reads text. A number in the file is none: the digits that it was written
// with are lost.
func (r *reader) str(key string) string {
	switch v := r.v.Get(key).(type) {
	case nil:
	case string:
		return strings.TrimSpace(v)
	default:
		r.fail(key, "it is not text; put it in quotes")
	}
	return ""
}

// list reads a list; in the environment its items are separated by commas.
func (r *reader) list(key string) []string {
	var items []string
	switch v := r.v.Get(key).(type) {
	case nil:
	case string:
		items = strings.Split(v, ",")
	case []string:
		items = v
	case []any:
		for _, item := range v {
			s, ok := item.(string)
			if !ok {
				r.fail(key, "an item of the list is not text; put it in quotes")
				return nil
			}
			items = append(items, s)
		}
	default:
		r.fail(key, "it is not a list")
	}
	var out []string
	for _, item := range items {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

func (r *reader) boolean(key string) bool {
	switch v := r.v.Get(key).(type) {
	case bool:
		return v
	case string:
		if b, err := strconv.ParseBool(v); err == nil {
			return b
		}
	}
	r.fail(key, "it is neither true nor false")
	return false
}

// integer reads a number where 0 means the default.
func (r *reader) integer(key string, least int) int {
	n, ok := 0, false
	switch v := r.v.Get(key).(type) {
	case int:
		n, ok = v, true
	case string:
		var err error
		n, err = strconv.Atoi(v)
		ok = err == nil
	}
	if !ok || n < least {
		r.fail(key, fmt.Sprintf("it is not a number from %d", least))
	}
	return n
}

func (r *reader) duration(key string) time.Duration {
	if v, ok := r.v.Get(key).(string); ok {
		if d, err := time.ParseDuration(v); err == nil && d > 0 {
			return d
		}
	}
	r.fail(key, "it is not a time with a unit, like 90m or 12h")
	return 0
}

// secret reads a secret, or the file that holds it.
func (r *reader) secret(key string) ice.Secret {
	value, path := r.str(key), r.str(key+fileSuffix)
	if path != "" {
		if value != "" {
			r.fail(key, "it is set, and so is "+key+fileSuffix+"; choose one")
			return ice.Secret{}
		}
		var err error
		if value, err = r.files.secret(path); err != nil {
			r.fail(key+fileSuffix, err.Error())
			return ice.Secret{}
		}
	}
	if strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		r.fail(key, "it has a line break or another control character")
		return ice.Secret{}
	}
	return ice.NewSecret(value)
}

func (r *reader) addr(key string) netip.Addr {
	s := r.str(key)
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		r.fail(key, "it is not an IP address")
	}
	return a
}

// listens reads addresses to listen on.
func (r *reader) listens(key string) []string {
	all := r.list(key)
	for _, s := range all {
		r.checkListen(key, s)
	}
	return all
}

func (r *reader) checkListen(key, s string) {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		r.fail(key, "it is not an address like :8080 or 192.0.2.1:8080")
	}
}

func (r *reader) ports(key string) (ports [2]uint16) {
	low, high, ok := strings.Cut(r.str(key), "-")
	for i, s := range []string{low, high} {
		n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16)
		if err != nil || !ok {
			r.fail(key, "it is not a range of ports like 49152-65535")
			return ports
		}
		ports[i] = uint16(n)
	}
	if ports[0] < 1024 || ports[1] < ports[0] {
		r.fail(key, "the range must ascend from 1024 or more")
	}
	return ports
}

// keyPair reads the files of a certificate and its key.
func (r *reader) keyPair(cert, key string) (p keyPair) {
	p.cert, p.key = r.str(cert), r.str(key)
	if (p.cert == "") != (p.key == "") {
		r.fail(cert, "it needs "+key+", and the other way round")
	}
	return p
}

// servers reads the static source's list.
func (r *reader) servers() []ice.Server {
	var out []ice.Server
	for _, u := range r.list("ice-server") {
		out = append(out, ice.Server{URLs: []string{u}})
	}
	var more []struct {
		URLs       []string `mapstructure:"urls"`
		Username   string   `mapstructure:"username"`
		Credential string   `mapstructure:"credential"`
	}
	if _, ok := r.v.Get(iceServersKey).([]any); !ok && r.v.IsSet(iceServersKey) {
		r.fail(iceServersKey, "it is not a list")
		return out
	}
	err := r.v.UnmarshalKey(iceServersKey, &more, func(c *mapstructure.DecoderConfig) {
		c.ErrorUnused, c.WeaklyTypedInput, c.DecodeHook = true, false, nil
	})
	if err != nil {
		r.fail(iceServersKey, "it is not a list of {urls: [text], username: text, credential: text}")
		return out
	}
	for _, m := range more {
		out = append(out, ice.Server{URLs: m.URLs, Username: m.Username, Credential: m.Credential})
	}
	return out
}
