package daemon

import (
	"io"
	"net/http"
	"time"

	"github.com/peersignal/peersignal/internal/daemon/api"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// A handler returns what went wrong; when it has written nothing yet, that is
// the answer.
type handler func(w http.ResponseWriter, r *http.Request) error

// routes is the table of the API. Bodies are at most 1 MiB, except of streams.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	add := func(pattern string, h handler) { mux.Handle(withPrefix(pattern), s.plain(h)) }
	stream := func(pattern string, h handler) { mux.Handle(withPrefix(pattern), s.stream(h)) }

	add("GET /status", s.status)
	add("GET /id", s.id)
	add("POST /shutdown", s.shutdown)
	stream("GET /events", s.events)
	add("GET /quarantine", s.quarantine)

	add("GET /groups", s.groups)
	add("POST /groups", s.createGroup)
	add("GET /groups/{group}", s.inGroup(s.group))
	add("DELETE /groups/{group}", s.inGroup(s.deleteGroup))
	add("GET /groups/{group}/members", s.inGroup(s.members))
	add("POST /groups/{group}/invite", s.inGroup(s.invite))
	add("GET /groups/{group}/invitations", s.inGroup(s.invitations))
	add("POST /groups/{group}/uninvite", s.inGroup(s.uninvite))
	add("GET /groups/{group}/requests", s.inGroup(s.requests))
	add("POST /groups/{group}/admit", s.inGroup(s.admit))
	add("POST /groups/{group}/remove", s.inGroup(s.remove))
	add("POST /groups/{group}/notify", s.inGroup(s.notify))
	add("GET /notifications", s.notifications)
	add("DELETE /notifications", s.clearNotifications)
	add("POST /groups/{group}/role", s.inGroup(s.setRole))
	add("POST /groups/{group}/rename", s.inGroup(s.rename))
	add("POST /groups/{group}/leave", s.inGroup(s.leave))
	add("POST /groups/{group}/purge", s.inGroup(s.purge))
	add("POST /groups/{group}/accept", s.inGroup(s.accept))
	add("POST /groups/{group}/decline", s.inGroup(s.decline))

	add("POST /join", s.join)
	add("GET /joins", s.joins)
	add("DELETE /joins/{group}", s.cancelJoin)

	stream("GET /groups/{group}/docs", s.inGroup(s.list))
	add("POST /groups/{group}/docs", s.inGroup(s.put))
	stream("PUT /groups/{group}/docs", s.inGroup(s.importDocs))
	add("GET /groups/{group}/docs/{id}", s.inGroup(s.get))
	add("DELETE /groups/{group}/docs/{id}", s.inGroup(s.deleteDoc))
	stream("GET /groups/{group}/watch", s.inGroup(s.watch))
	stream("GET /groups/{group}/export", s.inGroup(s.export))

	s.fileRoutes(add, stream)
	s.findRoutes(add, stream)
	s.keyRoutes(add)
	s.ownKeyRoutes(add)

	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, &api.Error{Code: api.CodeNotFound, Message: "no such route: " + r.Method + " " + r.URL.Path, Hint: "docs/api.md lists them."})
	})
	return mux
}

// withPrefix puts the API's version in front of a pattern's path.
func withPrefix(pattern string) string {
	for i := range pattern {
		if pattern[i] == '/' {
			return pattern[:i] + api.Prefix + pattern[i:]
		}
	}
	return pattern
}

// plain runs a handler with a bounded body and deadlines.
func (s *Server) plain(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
		r.Body = http.MaxBytesReader(w, r.Body, api.MaxBody)
		if err := h(w, r); err != nil {
			s.fail(w, err)
		}
		_ = control.SetReadDeadline(time.Time{})
		_ = control.SetWriteDeadline(time.Time{})
	})
}

// inGroup resolves {group}: an id, the begin of an id or a name.
func (s *Server) inGroup(h func(http.ResponseWriter, *http.Request, groupsync.GroupInfo) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		g, err := s.cfg.Peer.FindGroup(r.Context(), r.PathValue("group"))
		if err != nil {
			return err
		}
		return h(w, r, g)
	}
}

// decode reads a JSON body strictly: no unknown or duplicate members.
func decode(r *http.Request, v any) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	return peercrypto.UnmarshalStrict(body, v)
}

type empty struct{}
