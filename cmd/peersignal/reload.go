package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/peersignal/peersignal/internal/admin"
	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/internal/turn"
)

// live are the settings that a running server takes over. Files that settings
// name are read again, too.
var live = []string{
	"allow-origin", "trusted-proxy", "drain-window", "drain-timeout", "admin-token", "turn-allow-peer", "turn-deny-peer",
	"turn-secrets", "ice-*", "twilio-*", "cloudflare-*", "turn-rest-*", "turn-endpoint-*", "log-level",
	"max-sessions*", "max-devices-per-user", "max-pending*", "max-topic*", "messages-per-10s", "offers-*",
}

func (k key) isLive() bool {
	name := strings.TrimSuffix(k.name, fileSuffix)
	return slices.ContainsFunc(live, func(pattern string) bool {
		prefix, open := strings.CutSuffix(pattern, "*")
		return name == pattern || open && strings.HasPrefix(name, prefix)
	})
}

// reload reads the configuration again, applies what can be, and says what has
// changed. A configuration with a mistake changes nothing.
func (a *app) reload() ([]admin.Change, error) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	a.tell(notifyReloading, monotonic())
	defer a.tell(notifyReady)
	changes, err := a.reloadLocked()
	if err != nil {
		a.log.Error("the configuration was not reloaded; nothing has changed", "error", err)
		a.operated(auditReload, "refused, nothing changed")
		return nil, err
	}
	names := make([]string, 0, len(changes))
	for _, c := range changes {
		names = append(names, c.Setting)
		outcome := "applied"
		if !c.Applied {
			outcome = "needs a restart"
		}
		a.log.Info("setting changed", "setting", c.Setting, "outcome", outcome)
	}
	a.log.Info("the configuration was reloaded", "changed", len(changes))
	a.operated(auditReload, "changed: "+cmp.Or(strings.Join(names, " "), "nothing"))
	return changes, nil
}

func (a *app) reloadLocked() ([]admin.Change, error) {
	v, err := loadValues(a.values.flags, a.values)
	if err != nil {
		return nil, err
	}
	s, err := v.settings()
	if err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	changed := changedKeys(a.values, v)
	if err := a.apply(s, changed); err != nil {
		return nil, err
	}
	changes := make([]admin.Change, len(changed))
	for i, k := range changed {
		changes[i] = admin.Change{Setting: k.name, Applied: k.isLive() && !a.pinned(k, s)}
	}
	a.values, a.settings = v, s
	return changes, nil
}

// pinned tells changes of a live setting that a running server can't follow.
func (a *app) pinned(k key, s *settings) bool {
	name := strings.TrimSuffix(k.name, fileSuffix)
	switch {
	case name == "turn-secrets":
		return len(s.relay.Secrets) == 0 // the key that was made at the start is gone
	case strings.HasPrefix(name, "admin-token"):
		return a.listeners.adminTCP == nil
	}
	return false
}

// apply gives the parts their new settings. What can fail was checked before.
func (a *app) apply(s *settings, changed []key) error {
	if _, err := a.blocks.Reload(); err != nil {
		return err
	}
	err := a.signaling.Reload(signaling.Live{AllowedOrigins: s.origins, TrustedProxies: s.proxies, Limits: s.limits})
	if err != nil {
		return err
	}
	if anyOf(changed, "ice-", "twilio-", "cloudflare-", "turn-rest-", "turn-endpoint-") {
		chain, err := newChain(s, a.embedded, a.log.With("part", "ice"))
		if err != nil {
			return err
		}
		if err := a.sources.replace(chain); err != nil {
			return err
		}
	}
	if a.turn != nil && anyOf(changed, "turn-allow-peer", "turn-deny-peer", "turn-secrets") {
		err := a.turn.Reload(turn.Live{Secrets: s.relay.Secrets, AllowPeers: s.relay.AllowPeers, DenyPeers: s.relay.DenyPeers})
		if err != nil {
			return err
		}
	}
	a.iceRequired.Store(s.iceRequired)
	a.adminToken.Store(&s.adminToken)
	a.proxies.Store(&s.proxies)
	if anyOf(changed, "log-level") {
		a.level.Set(s.logLevel) // else one that an operator set stays
	}
	for _, c := range a.certificates {
		c.reload()
	}
	return nil
}

func anyOf(changed []key, prefixes ...string) bool {
	return slices.ContainsFunc(changed, func(k key) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(k.name, p) })
	})
}

// changedKeys are the settings that are others than before, in their order.
func changedKeys(before, after *values) []key {
	var out []key
	for k := range eachKey {
		if before.prints[k.name] != after.prints[k.name] {
			out = append(out, k)
		}
	}
	return out
}

// fingerprints are what settings are compared by: their values, and of secret
// files what is in them.
func (v *values) fingerprints() map[string]string {
	r := &reader{v: v.viper, files: v.files}
	out := make(map[string]string)
	for k := range eachKey {
		var print string
		switch k.kind {
		case list:
			print = strings.Join(r.list(k.name), "\x00")
		case duration:
			print = r.duration(k.name).String()
		case number:
			print = strconv.Itoa(r.integer(k.name, math.MinInt))
		case boolean:
			print = strconv.FormatBool(r.boolean(k.name))
		default:
			print = fmt.Sprint(v.viper.Get(k.name))
		}
		if base, ok := strings.CutSuffix(k.name, fileSuffix); ok && isSecret(base) {
			if path := r.str(k.name); path != "" {
				content, _ := r.files.secret(path) // settings() tells of its mistakes
				print += "\x00" + content
			}
		}
		out[k.name] = print
	}
	return out
}

func isSecret(name string) bool {
	k, ok := findKey(name)
	return ok && k.kind == secret
}
