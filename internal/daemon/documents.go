package daemon

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/peersignal/peersignal/internal/daemon/api"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

const (
	listPage  = 500 // documents read from the store at once, so that a slow client holds no snapshot
	listLimit = 1_000_000_000
)

func docJSON(d groupsync.Document) api.Document {
	return api.Document{
		Group: string(d.Group), ID: string(d.Subject), Type: d.Type, Modified: d.Modified, Version: d.Version, Deleted: d.Deleted, Doc: d.JSON,
	}
}

// intQuery reads a number from the query; def when it is absent.
func intQuery(r *http.Request, name string, def, most int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > most {
		return 0, invalid(fmt.Sprintf("%s is no number from 0 to %d", name, most), "")
	}
	return n, nil
}

// list streams documents in the order of their ids.
func (s *Server) list(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	limit, err := intQuery(r, "limit", 0, listLimit)
	if err != nil {
		return err
	}
	if limit == 0 {
		limit = listLimit
	}
	q := groupsync.DocumentQuery{Group: g.ID, Type: r.URL.Query().Get("type"), After: peercrypto.ID(r.URL.Query().Get("after"))}
	lines := newLineWriter(w)
	for limit > 0 {
		q.Limit = int(min(limit, listPage))
		var page []groupsync.Document
		err := s.cfg.Peer.List(r.Context(), q, func(d groupsync.Document) error {
			page = append(page, d)
			return nil
		})
		if err != nil {
			return lines.finish(err)
		}
		for _, d := range page {
			if err := lines.line(docJSON(d)); err != nil {
				return lines.finish(err)
			}
			q.After = d.Subject
		}
		limit -= int64(len(page))
		if len(page) < q.Limit {
			break
		}
	}
	return lines.finish(nil)
}

// put stores one document. The query may give type and id.
func (s *Server) put(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	doc, err := completed(body, g.ID, r.URL.Query().Get("type"), r.URL.Query().Get("id"))
	if err != nil {
		return err
	}
	d, err := s.cfg.Peer.Put(r.Context(), g.ID, doc)
	if err != nil {
		return err
	}
	return answer(w, docJSON(d))
}

// completed sets members of a document that the request names beside it.
func completed(body []byte, group peercrypto.ID, typ, id string) (json.RawMessage, error) {
	canonical, err := peercrypto.Canonicalize(body)
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(canonical, &members); err != nil || members == nil {
		return nil, invalid("the document is no JSON object", "")
	}
	set := map[string]string{"group": string(group)}
	if typ != "" {
		set["type"] = typ
	}
	if id != "" {
		set["id"] = id
	}
	for name, value := range set {
		var own string
		if raw, ok := members[name]; ok && (json.Unmarshal(raw, &own) != nil || own != value) {
			return nil, invalid(fmt.Sprintf("the document's own member %q differs from what the request says", name), "")
		}
		if members[name], err = json.Marshal(value); err != nil {
			return nil, err
		}
	}
	if _, ok := members["type"]; !ok {
		return nil, invalid("the document has no member \"type\"", "Add one or name it: --type TYPE.")
	}
	return peercrypto.MarshalCanonical(members)
}

// importDocs takes a stream of documents and tells what is durable while more is read.
func (s *Server) importDocs(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		return err
	}
	lines := newLineWriter(w)
	told := func(p peer.ImportResult, done bool) error {
		if err := lines.line(api.Import{Read: p.Read, New: p.New, Changed: p.Changed, Unchanged: p.Unchanged, Done: done}); err != nil {
			return err
		}
		return lines.flush()
	}
	result, err := s.cfg.Peer.Import(r.Context(), g.ID, r.Body, peer.ImportOptions{
		Type: r.URL.Query().Get("type"), Key: r.URL.Query().Get("key"),
		Progress: func(p peer.ImportResult) { _ = told(p, false) },
	})
	if err == nil {
		err = told(result, true)
	}
	return lines.finish(err)
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	id, err := s.findDocument(r, g)
	if err != nil {
		return err
	}
	switch tie := r.URL.Query().Get("tie"); tie {
	case "":
		d, err := s.cfg.Peer.Get(r.Context(), g.ID, id)
		if err != nil {
			return err
		}
		return answer(w, docJSON(d))
	case "local":
		d, tied, err := s.cfg.Peer.GetFirstSeen(r.Context(), g.ID, id)
		if err != nil {
			return err
		}
		out := docJSON(d)
		out.Tied = tied
		return answer(w, out)
	default:
		return invalid("the rule for ties is local or none", "")
	}
}

func (s *Server) deleteDoc(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	id, err := s.findDocument(r, g)
	if err != nil {
		return err
	}
	return s.done(w, s.cfg.Peer.Delete(r.Context(), g.ID, id))
}

// findDocument resolves {id}: an id, or the begin of one.
func (s *Server) findDocument(r *http.Request, g groupsync.GroupInfo) (peercrypto.ID, error) {
	text := r.PathValue("id")
	if id, err := peercrypto.ParseID(text); err == nil {
		return id, nil
	}
	if len(text) < minPrefix {
		return "", invalid(fmt.Sprintf("%q is no id, and too short for the begin of one: %d characters at least", text, minPrefix), "`peerd ls` lists them.")
	}
	var found []peercrypto.ID
	err := s.cfg.Peer.List(r.Context(), groupsync.DocumentQuery{Group: g.ID, After: peercrypto.ID(text), Limit: 2}, func(d groupsync.Document) error {
		if strings.HasPrefix(string(d.Subject), text) {
			found = append(found, d.Subject)
		}
		return nil
	})
	switch {
	case err != nil:
		return "", err
	case len(found) == 0:
		return "", &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("no document of the group begins with %q", text), Hint: "`peerd ls` lists them."}
	case len(found) > 1:
		return "", &api.Error{Code: api.CodeAmbiguous, Message: fmt.Sprintf("several documents begin with %q", text), Hint: "Use the id."}
	}
	return found[0], nil
}

// watch streams documents as they change. after is a version; without it only
// what changes from now on is told.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	after, err := intQuery(r, "after", -1, 1<<53)
	if err == nil && after < 0 {
		after, err = s.cfg.Peer.LastVersion(r.Context(), g.ID)
	}
	if err != nil {
		return err
	}
	lines := newLineWriter(w)
	if err := lines.flush(); err != nil { // the client learns that it is watching
		return err
	}
	err = s.cfg.Peer.Watch(r.Context(), g.ID, after, func(d groupsync.Document) error {
		if err := lines.line(docJSON(d)); err != nil {
			return err
		}
		return lines.flush()
	})
	return lines.finish(err)
}

func (s *Server) export(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	lines := newLineWriter(w)
	return lines.finish(s.cfg.Peer.Export(r.Context(), g.ID, lines))
}

func (s *Server) quarantine(w http.ResponseWriter, r *http.Request) error {
	limit, err := intQuery(r, "limit", 1000, 100_000)
	if err != nil {
		return err
	}
	var group peercrypto.ID
	if text := r.URL.Query().Get("group"); text != "" {
		g, err := s.cfg.Peer.FindGroup(r.Context(), text)
		if err != nil {
			return err
		}
		group = g.ID
	}
	items, err := s.cfg.Peer.Quarantine(r.Context(), group, int(limit))
	if err != nil {
		return err
	}
	out := make([]api.Quarantined, len(items))
	for i, q := range items {
		out[i] = api.Quarantined{
			Group: string(q.Group), Hash: q.Hash.String(), From: string(q.From), Received: q.Received, Bytes: len(q.Raw), Waits: waits(q.Waits),
		}
	}
	return answer(w, out)
}

func waits(ws []groupsync.Wait) []string {
	out := make([]string, len(ws))
	for i, w := range ws {
		out[i] = w.Kind + " " + w.Ref
		if ms, err := strconv.ParseInt(w.Ref, 10, 64); err == nil && w.Kind == "time" {
			out[i] = w.Kind + " " + time.UnixMilli(ms).UTC().Format(time.RFC3339)
		}
	}
	return out
}
