package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/peersignal/peersignal/internal/admin"
	"github.com/peersignal/peersignal/internal/audit"
	"github.com/peersignal/peersignal/internal/ice"
	"github.com/peersignal/peersignal/internal/signaling"
	"github.com/peersignal/peersignal/internal/turn"
	"github.com/peersignal/peersignal/pkg/wire"
)

// The server's parts do not know each other; what one needs of another is
// translated here.

// minter makes the embedded relay's credentials for internal/ice.
type minter struct{ server *turn.Server }

// Credentials implements ice.Minter.
func (m minter) Credentials(session, user string) (username, password string, expires time.Time, err error) {
	c, err := m.server.Credentials(session, user)
	return c.Username, c.Password, c.Expires, err
}

// iceAdapter gives internal/signaling the servers of the sources.
type iceAdapter struct{ sources *iceSources }

// ICEServers implements signaling.ICESource.
func (a iceAdapter) ICEServers(ctx context.Context, r signaling.ICERequest) ([]wire.ICEServer, time.Time, error) {
	res, err := a.sources.chain().ICEServers(ctx, ice.Request{Session: r.Session, User: r.User, Host: r.Host})
	if err != nil {
		return nil, time.Time{}, err
	}
	servers := make([]wire.ICEServer, len(res.Servers))
	for i, s := range res.Servers {
		servers[i] = wire.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential}
	}
	return servers, res.Expires, nil
}

// auditReload is the kind of a reload, by whatever way.
const auditReload = "reload"

// auditKinds are those that signaling and admin write.
func auditKinds() []string {
	return []string{
		string(signaling.AuditRegistered), string(signaling.AuditResumed), string(signaling.AuditRefused),
		string(signaling.AuditEnded), string(signaling.AuditCredentials), string(signaling.AuditKicked),
		string(signaling.AuditBlocked), string(signaling.AuditUnblocked), string(signaling.AuditDrain),
		auditReload, admin.AuditLogLevel,
	}
}

// auditor writes what signaling and admin tell into the audit log.
type auditor struct{ log *audit.Log }

// Audit implements signaling.Auditor.
func (a auditor) Audit(e signaling.AuditEvent) {
	a.log.Record(audit.Event{
		Time: e.Time, Kind: string(e.Kind), Session: e.Session, Device: e.Device, User: e.User, Address: e.Address,
		Code: e.Code, Detail: e.Detail,
	})
}

// operated is admin.Config.Audit.
func (a *app) operated(kind, detail string) {
	if a.audit == nil {
		return
	}
	a.audit.Record(audit.Event{Time: time.Now(), Kind: kind, Detail: detail})
}

// adminSessions gives internal/admin the sessions and blocks of signaling.
type adminSessions struct {
	server *signaling.Server
	cut    func(signaling.Block) // ends what a new block concerns beside sessions
}

func (a adminSessions) selector(sel admin.Selector) (signaling.Selector, error) {
	out := signaling.Selector{Session: sel.Session, Device: sel.Device, User: sel.User, State: signaling.SessionState(sel.State)}
	switch out.State {
	case "", signaling.StateConnected, signaling.StateParked:
	default:
		return out, fmt.Errorf("the state %.32q is neither %s nor %s", sel.State, signaling.StateConnected, signaling.StateParked)
	}
	var err error
	out.Network, err = network(sel.Network)
	return out, err
}

// network reads an address or a network; "" is none.
func network(text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%.64q is neither an address like 192.0.2.1 nor a network like 192.0.2.0/24", text)
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// Sessions implements admin.Signaling.
func (a adminSessions) Sessions(sel admin.Selector, limit int) ([]admin.Session, error) {
	own, err := a.selector(sel)
	if err != nil {
		return nil, err
	}
	var out []admin.Session
	for _, s := range a.server.Sessions(own, limit) {
		out = append(out, admin.Session{
			Session: s.Session, Device: s.Device, User: s.User, Address: s.Address, Since: s.Since, Topics: s.Topics,
			Queued: s.Queued, State: string(s.State),
		})
	}
	return out, nil
}

// Kick implements admin.Signaling.
func (a adminSessions) Kick(sel admin.Selector, message string) (int, error) {
	own, err := a.selector(sel)
	if err != nil {
		return 0, err
	}
	return a.server.Kick(own, message)
}

func toBlock(b admin.Block) (signaling.Block, error) {
	out := signaling.Block{Device: b.Device, User: b.User, Reason: b.Reason, Expires: b.Expires, Created: b.Created}
	var err error
	out.Network, err = network(b.Network)
	return out, err
}

// Block implements admin.Blocker.
func (a adminSessions) Block(b admin.Block) (int, error) {
	own, err := toBlock(b)
	if err != nil {
		return 0, err
	}
	ended, err := a.server.Block(own)
	if err == nil {
		a.cut(own)
	}
	return ended, err
}

// Unblock implements admin.Blocker.
func (a adminSessions) Unblock(b admin.Block) (bool, error) {
	own, err := toBlock(b)
	if err != nil {
		return false, err
	}
	return a.server.Unblock(own)
}

// Blocked implements admin.Blocker.
func (a adminSessions) Blocked() []admin.Block {
	var out []admin.Block
	for _, b := range a.server.Blocked() {
		block := admin.Block{Device: b.Device, User: b.User, Reason: b.Reason, Expires: b.Expires, Created: b.Created}
		if b.Network.IsValid() {
			block.Network = b.Network.String()
		}
		out = append(out, block)
	}
	return out
}

// SetBlocks implements admin.Blocker.
func (a adminSessions) SetBlocks(list []admin.Block) (int, error) {
	own := make([]signaling.Block, len(list))
	for i, b := range list {
		var err error
		if own[i], err = toBlock(b); err != nil {
			return 0, fmt.Errorf("block %d: %w", i+1, err)
		}
	}
	before := map[string]bool{}
	for _, b := range a.server.Blocked() {
		before[b.Target()] = true
	}
	ended, err := a.server.SetBlocks(own)
	if err != nil {
		return ended, err
	}
	for _, b := range a.server.Blocked() {
		if !before[b.Target()] {
			a.cut(b)
		}
	}
	return ended, nil
}
