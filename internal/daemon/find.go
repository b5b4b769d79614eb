package daemon

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/peersignal/peersignal/internal/daemon/api"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

func (s *Server) findRoutes(add, stream func(string, handler)) {
	stream("GET /groups/{group}/find", s.inGroup(s.find))
	add("GET /indexes", s.indexes)
	add("PUT /indexes/{name}", s.ensureIndex)
	add("DELETE /indexes/{name}", s.dropIndex)
}

// find streams what a query selects: a page and where it goes on, or with
// watch=1 everything and its changes.
func (s *Server) find(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	params := r.URL.Query()
	limit, err := intQuery(r, "limit", 0, listLimit)
	if err != nil {
		return err
	}
	q := groupsync.DocumentQuery{
		Group: g.ID, Type: params.Get("type"), OrderBy: params.Get("order"), Descending: params.Get("desc") == "1",
		Cursor: params.Get("after"), Limit: int(limit),
	}
	if q.Where, err = conditions(params); err != nil {
		return err
	}
	if q.OrderBy == "" {
		q.OrderBy = rangeField(q.Where)
	}
	if params.Get("watch") == "1" {
		return s.watchQuery(w, r, q)
	}
	lines := newLineWriter(w)
	left := int(limit)
	for {
		page, err := s.cfg.Peer.Find(r.Context(), q)
		if err != nil {
			return lines.finish(withIndex(err, q))
		}
		for _, d := range page.Documents {
			if err := lines.line(docJSON(d)); err != nil {
				return lines.finish(err)
			}
		}
		if page.Next == "" {
			return lines.finish(nil)
		}
		if limit > 0 {
			if left -= len(page.Documents); left <= 0 {
				return lines.finish(lines.line(api.FindEnd{Next: page.Next}))
			}
			q.Limit = left
		}
		q.Cursor = page.Next
	}
}

func (s *Server) watchQuery(w http.ResponseWriter, r *http.Request, q groupsync.DocumentQuery) error {
	lines := newLineWriter(w)
	ready := false
	err := s.cfg.Peer.WatchQuery(r.Context(), q, func(c groupsync.Change) error {
		line := api.Change{Change: string(c.Kind)}
		if c.Kind == groupsync.Ready {
			ready = true
		} else {
			d := docJSON(c.Document)
			line.Document = &d
		}
		err := lines.line(line)
		if err == nil && ready {
			err = lines.flush()
		}
		return err
	})
	return lines.finish(withIndex(err, q))
}

// rangeField is the field that a query compares with something else than =; an index that selects by it gives its order.
func rangeField(where []groupsync.Condition) string {
	for _, c := range where {
		if c.Op != groupsync.Equal {
			return c.Field
		}
	}
	return ""
}

// withIndex says which index would answer a query that none answers.
func withIndex(err error, q groupsync.DocumentQuery) error {
	if !errors.Is(err, groupsync.ErrNoIndex) {
		return err
	}
	if q.Type == "" {
		return &api.Error{Code: api.CodeInvalid, Message: "fields can be compared in the documents of one type only", Hint: "Say which: --type TYPE."}
	}
	var fields []string
	for _, c := range q.Where {
		if c.Op == groupsync.Equal && !slices.Contains(fields, c.Field) {
			fields = append(fields, c.Field)
		}
	}
	if q.OrderBy != "" && !slices.Contains(fields, q.OrderBy) {
		fields = append(fields, q.OrderBy)
	}
	return &api.Error{
		Code: api.CodeInvalid, Message: "no index of " + q.Type + " answers this query",
		Hint: "This one would: peerd index add NAME " + q.Type + " " + strings.Join(fields, " "),
	}
}

// conditions reads the parameters "where": a field, an operator and a value,
// which is JSON or else a text.
func conditions(params url.Values) ([]groupsync.Condition, error) {
	var list []groupsync.Condition
	for _, text := range params["where"] {
		at := strings.IndexAny(text, "<>=")
		if at <= 0 {
			return nil, invalid("the condition "+text+" has no field or operator", "Write field=value, or with <, <=, > or >=.")
		}
		op := text[at : at+1]
		if op != "=" && strings.HasPrefix(text[at+1:], "=") {
			op += "="
		}
		value := text[at+len(op):]
		c := groupsync.Condition{Field: text[:at], Op: groupsync.Operator(op), Value: value}
		var parsed any
		if json.Unmarshal([]byte(value), &parsed) == nil {
			c.Value = parsed
		}
		list = append(list, c)
	}
	return list, nil
}

func (s *Server) indexes(w http.ResponseWriter, r *http.Request) error {
	list, err := s.cfg.Peer.Indexes(r.Context())
	if err != nil {
		return err
	}
	out := make([]api.Index, len(list))
	for i, x := range list {
		out[i] = api.Index{Name: x.Name, Type: x.Type, Fields: x.Fields}
	}
	return answer(w, out)
}

func (s *Server) ensureIndex(w http.ResponseWriter, r *http.Request) error {
	var body api.Index
	if err := decode(r, &body); err != nil {
		return err
	}
	name := r.PathValue("name")
	if body.Name != "" && body.Name != name {
		return invalid("the index has two names", "")
	}
	return s.done(w, s.cfg.Peer.EnsureIndex(r.Context(), groupsync.IndexSpec{Name: name, Type: body.Type, Fields: body.Fields}))
}

func (s *Server) dropIndex(w http.ResponseWriter, r *http.Request) error {
	return s.done(w, s.cfg.Peer.DropIndex(r.Context(), r.PathValue("name")))
}
