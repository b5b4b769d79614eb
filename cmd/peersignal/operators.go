package main

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/peersignal/peersignal/internal/admin"
	"github.com/peersignal/peersignal/internal/audit"
	"github.com/peersignal/peersignal/internal/buildinfo"
)

// adminSocketName is the admin socket in systemd's RUNTIME_DIRECTORY.
const adminSocketName = "admin.sock"

// newAudit opens the audit log, if there is to be one.
func (a *app) newAudit(s *settings) (err error) {
	if s.audit.Path == "" {
		return nil
	}
	cfg := s.audit
	cfg.Kinds, cfg.Detail = auditKinds(), "peersignal "+buildinfo.Version
	cfg.Registerer, cfg.Logger = a.registry, a.log.With("part", "audit")
	a.audit, err = audit.Open(cfg)
	return err
}

// newAdmin puts the blocks in force that were kept, and makes the server for
// operators.
func (a *app) newAdmin(s *settings) (err error) {
	sessions := adminSessions{a.signaling, a.cutRelays}
	if a.blocks, err = admin.NewBlocklist(s.blockFile, sessions); err != nil {
		return usageError{err}
	}
	a.admin = admin.NewServer(admin.Config{
		Signaling: sessions, Process: a, Blocks: a.blocks, Audit: a.operated, Logger: a.log.With("part", "admin"),
	})
	return nil
}

// Status implements admin.Process.
func (a *app) Status() admin.Status {
	reason, ready, _ := a.readiness()
	st := a.signaling.Stats()
	l := a.current().limits
	out := admin.Status{
		Version: buildinfo.Version, Go: buildinfo.Go(), PID: os.Getpid(), Started: a.started, Ready: ready,
		Draining: a.draining.Load() || st.Draining, LogLevel: strings.ToLower(a.level.Level().String()),
		Figures: []admin.Figure{
			{Name: "sessions", Value: st.Sessions, Limit: l.Sessions}, {Name: "parked sessions", Value: st.Parked},
			{Name: "pending", Value: st.Pending, Limit: l.Pending}, {Name: "topics", Value: st.Topics, Limit: l.TopicsTotal},
			{Name: "users", Value: st.Users}, {Name: "blocks", Value: st.Blocks},
		},
		ICESources: []admin.ICESource{},
		Listeners:  a.addresses(),
	}
	if !ready {
		out.Reason = strings.TrimPrefix(reason, "not ready: ")
	}
	if st.Nodes > 0 {
		out.Figures = append(out.Figures, admin.Figure{Name: "other nodes", Value: st.Nodes},
			admin.Figure{Name: "their sessions", Value: st.RemoteSessions})
	}
	for _, h := range a.sources.chain().Health() {
		out.ICESources = append(out.ICESources, admin.ICESource{Name: h.Source, OK: h.OK, Reason: h.Reason})
	}
	if a.audit != nil {
		seq, hash := a.audit.Head()
		out.Audit = &admin.AuditHead{Seq: seq, Hash: hash}
	}
	return out
}

func (a *app) addresses() []admin.ListenAddress {
	var out []admin.ListenAddress
	add := func(use string, l net.Listener) {
		if l != nil {
			out = append(out, admin.ListenAddress{Use: use, Address: l.Addr().String()})
		}
	}
	l := &a.listeners
	add("clients", l.clients)
	add("metrics", l.metrics)
	add("admin", l.adminSocket)
	add("admin", l.adminTCP)
	add("acme", l.acme)
	if a.turn != nil {
		for _, at := range a.turn.Addrs() {
			out = append(out, admin.ListenAddress{Use: "turn", Address: at.String()})
		}
		for _, at := range a.turn.TLSAddrs() {
			out = append(out, admin.ListenAddress{Use: "turns", Address: at.String()})
		}
	}
	return out
}

// Drain implements admin.Process.
func (a *app) Drain(window time.Duration) error {
	if a.draining.Load() {
		return errors.New("the server is draining already")
	}
	select {
	case a.drains <- window:
		return nil
	default:
		return errors.New("the server is draining already")
	}
}

// Reload implements admin.Process.
func (a *app) Reload() ([]admin.Change, error) { return a.reload() }

// LogLevel implements admin.Process.
func (a *app) LogLevel() slog.Level { return a.level.Level() }

// SetLogLevel implements admin.Process. A reload that changes log-level changes
// it again.
func (a *app) SetLogLevel(l slog.Level) { a.level.Set(l) }
