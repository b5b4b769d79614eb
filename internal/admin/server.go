package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// MinTokenBytes is the shortest token of a listener.
const MinTokenBytes = 16

const (
	maxRequest   = 64 << 10
	maxSessions  = 10_000
	someSessions = 100 // unless asked for another number
	maxMessage   = 256
)

// Signaling is what the server of sessions does for an operator. Its errors are
// mistakes of the request.
type Signaling interface {
	Sessions(sel Selector, limit int) ([]Session, error)
	Kick(sel Selector, message string) (ended int, err error)
	Blocker
}

// Process is what the program does for an operator.
type Process interface {
	Status() Status
	// Drain begins to end the process as SIGTERM does; zero: within the
	// configured window. It does not wait.
	Drain(window time.Duration) error
	// Reload reads the configuration again; an error means that nothing has
	// changed.
	Reload() ([]Change, error)
	LogLevel() slog.Level
	SetLogLevel(slog.Level)
}

// Config configures a Server.
type Config struct {
	Signaling Signaling
	Process   Process
	Blocks    *Blocklist
	// Audit is told what an operator did that Signaling and Process do not tell
	// of themselves; nil: nobody wants to know. It must not block.
	Audit  func(kind, detail string)
	Logger *slog.Logger // nil: discard
}

// AuditLogLevel is a kind that Config.Audit is called with.
const AuditLogLevel = "log-level"

// Server answers operators.
type Server struct {
	cfg Config
	mux *http.ServeMux
}

// NewServer makes a server; Handler and TokenHandler serve it.
func NewServer(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Audit == nil {
		cfg.Audit = func(string, string) {}
	}
	s := &Server{cfg: cfg, mux: http.NewServeMux()}
	for pattern, answer := range map[string]func(*http.Request) (any, error){
		"GET /v1/status": s.status, "GET /v1/sessions": s.sessions, "POST /v1/kick": s.kick,
		"POST /v1/block": s.block, "POST /v1/unblock": s.unblock, "GET /v1/blocked": s.blocked,
		"POST /v1/drain": s.drain, "POST /v1/reload": s.reload,
		"GET /v1/log-level": s.logLevel, "PUT /v1/log-level": s.setLogLevel,
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
			v, err := answer(r)
			s.write(w, v, err)
		})
	}
	s.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	s.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	s.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.write(w, nil, &Error{http.StatusNotFound, "there is no " + r.Method + " " + r.URL.Path + " for operators"})
	})
	return s
}

// Handler serves whoever can connect: for a socket that has permissions.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		if fromBrowser(r.Header) {
			s.write(w, nil, &Error{http.StatusForbidden, "web pages may not do this"})
			return
		}
		s.mux.ServeHTTP(w, r)
	})
}

// fromBrowser tells requests that a web page made.
func fromBrowser(h http.Header) bool {
	for name := range h {
		if name == "Origin" || strings.HasPrefix(name, "Sec-Fetch-") {
			return true
		}
	}
	return false
}

// TokenHandler serves those who send "Authorization: Bearer" and the token,
// which token gives at each request, so that it can change.
func (s *Server) TokenHandler(token func() string) http.Handler {
	next := s.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if want := token(); !ok || len(want) < MinTokenBytes || !sameSecret(given, want) {
			s.cfg.Logger.Warn("an operator's request has no valid token", "path", r.URL.Path)
			w.Header().Set("WWW-Authenticate", "Bearer")
			s.write(w, nil, &Error{http.StatusUnauthorized, "the token is missing or wrong"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// sameSecret takes a time that tells nothing, not even of lengths.
func sameSecret(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

func (s *Server) write(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	if err != nil {
		status = http.StatusInternalServerError
		if e, ok := errors.AsType[*Error](err); ok {
			status = e.Status
		}
		v = Failure{err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		s.cfg.Logger.Debug("an answer to an operator was not sent", "error", err)
	}
}

// decode reads the one JSON value of a request. Without one, v stays.
func decode(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return mistake("the request is not what is expected: %v", err)
	}
	if d.More() {
		return mistake("the request has more than one JSON value")
	}
	return nil
}

func (s *Server) status(*http.Request) (any, error) { return s.cfg.Process.Status(), nil }

func (s *Server) sessions(r *http.Request) (any, error) {
	q := r.URL.Query()
	limit := someSessions
	if text := q.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxSessions {
			return nil, mistake("limit is no number from 1 to %d", maxSessions)
		}
	}
	if err := onlyKnown(q, "limit", "session", "device", "user", "network", "state"); err != nil {
		return nil, err
	}
	found, err := s.cfg.Signaling.Sessions(Selector{
		Session: q.Get("session"), Device: q.Get("device"), User: q.Get("user"), Network: q.Get("network"), State: q.Get("state"),
	}, limit+1)
	if err != nil {
		return nil, mistake("%v", err)
	}
	if found == nil {
		found = []Session{}
	}
	more := len(found) > limit
	return Sessions{Sessions: found[:min(limit, len(found))], More: more}, nil
}

// onlyKnown refuses a misspelt filter, which would choose everybody.
func onlyKnown(q url.Values, names ...string) error {
	for name := range q {
		known := false
		for _, n := range names {
			known = known || n == name
		}
		if !known {
			return mistake("%.32q is none of %s", name, strings.Join(names, ", "))
		}
	}
	return nil
}

func (s *Server) kick(r *http.Request) (any, error) {
	k := Kick{}
	if err := decode(r, &k); err != nil {
		return nil, err
	}
	if k.IsZero() {
		return nil, mistake("say whom: a session, a device, a user or a network")
	}
	if len(k.Message) > maxMessage {
		return nil, mistake("the message is longer than %d bytes", maxMessage)
	}
	n, err := s.cfg.Signaling.Kick(k.Selector, k.Message)
	if err != nil {
		return nil, mistake("%v", err)
	}
	s.cfg.Logger.Info("an operator ended sessions", "ended", n)
	return Ended{n}, nil
}

func (s *Server) block(r *http.Request) (any, error) {
	b := Block{}
	if err := decode(r, &b); err != nil {
		return nil, err
	}
	n, err := s.cfg.Blocks.Block(b)
	if err != nil {
		return nil, err
	}
	s.cfg.Logger.Info("an operator blocked", "ended", n)
	return Ended{n}, nil
}

func (s *Server) unblock(r *http.Request) (any, error) {
	b := Block{}
	if err := decode(r, &b); err != nil {
		return nil, err
	}
	found, err := s.cfg.Blocks.Unblock(b)
	if err != nil {
		return nil, err
	}
	s.cfg.Logger.Info("an operator lifted a block", "found", found)
	return Unblocked{found}, nil
}

func (s *Server) blocked(*http.Request) (any, error) {
	list := s.cfg.Signaling.Blocked()
	if list == nil {
		list = []Block{}
	}
	return Blocks{list, s.cfg.Blocks.Kept()}, nil
}

func (s *Server) drain(r *http.Request) (any, error) {
	d := Drain{}
	if err := decode(r, &d); err != nil {
		return nil, err
	}
	window := time.Duration(0)
	if d.Window != "" {
		var err error
		if window, err = time.ParseDuration(d.Window); err != nil || window <= 0 {
			return nil, mistake("%.32q is not a time with a unit, like 30s", d.Window)
		}
	}
	if err := s.cfg.Process.Drain(window); err != nil {
		return nil, &Error{http.StatusConflict, err.Error()}
	}
	return struct{}{}, nil
}

func (s *Server) reload(*http.Request) (any, error) {
	changes, err := s.cfg.Process.Reload()
	if err != nil {
		return nil, &Error{http.StatusUnprocessableEntity, err.Error()}
	}
	if changes == nil {
		changes = []Change{}
	}
	return Reload{changes}, nil
}

func (s *Server) logLevel(*http.Request) (any, error) {
	return LogLevel{strings.ToLower(s.cfg.Process.LogLevel().String())}, nil
}

func (s *Server) setLogLevel(r *http.Request) (any, error) {
	l := LogLevel{}
	if err := decode(r, &l); err != nil {
		return nil, err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return nil, mistake("%.16q is none of debug, info, warn and error", l.Level)
	}
	s.cfg.Process.SetLogLevel(level)
	s.cfg.Audit(AuditLogLevel, strings.ToLower(level.String()))
	return s.logLevel(r)
}
