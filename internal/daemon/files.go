package daemon

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/peersignal/peersignal/internal/daemon/api"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/files"
)

// minFilePrefix is the shortest begin of an id that names a file.
const minFilePrefix = 6

func fileJSON(f peer.FileInfo) api.File {
	out := api.File{
		File: f.ID.String(), Ref: f.Text(), Size: f.Size, Name: f.Name, Type: f.Type, Group: string(f.Group), Document: string(f.Document),
		Public: f.Public, Complete: f.Complete, Have: f.Have, Pinned: f.Pinned, Fetching: f.Fetching, Sources: f.Sources, Error: errText(f.Err),
	}
	if !f.Modified.IsZero() {
		out.Modified = f.Modified.UnixMilli()
	}
	for _, u := range f.Users {
		out.Users = append(out.Users, string(u))
	}
	return out
}

func filesJSON(list []peer.FileInfo) []api.File {
	out := make([]api.File, len(list))
	for i, f := range list {
		out[i] = fileJSON(f)
	}
	return out
}

// fileRoutes is the part of the table that is about files.
func (s *Server) fileRoutes(add, stream func(string, handler)) {
	stream("PUT /groups/{group}/files", s.inGroup(s.addFile))
	add("GET /groups/{group}/files", s.inGroup(s.files))
	add("GET /groups/{group}/files/{file}", s.inGroup(s.file))
	stream("GET /groups/{group}/files/{file}/content", s.inGroup(s.fileContent))
	stream("POST /groups/{group}/files/{file}/fetch", s.inGroup(s.fetchFile))
	add("POST /groups/{group}/files/{file}/share", s.inGroup(s.shareFile))
	add("POST /groups/{group}/files/{file}/pin", s.inGroup(s.pinFile))
	add("DELETE /groups/{group}/files/{file}", s.inGroup(s.forgetFile))

	add("GET /files", s.localFiles)
	stream("POST /files/fetch", s.fetchRef)
	stream("GET /files/{file}/content", s.refContent)
	add("DELETE /files/{file}", s.forgetRef)
}

// addFile stores the body.
func (s *Server) addFile(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	users, err := s.usersOf(r, r.URL.Query()["user"])
	if err == nil {
		err = s.cfg.Peer.FileRoom(r.ContentLength)
	}
	if err != nil {
		if r.Header.Get("Expect") == "" { // else nothing comes before we ask for it
			drain(w, r)
		}
		return err
	}
	q := r.URL.Query()
	info, err := s.cfg.Peer.AddFile(r.Context(), g.ID, r.Body, peer.FileMeta{
		Name: q.Get("name"), Type: q.Get("type"), Public: q.Get("public") == "1", Users: users,
	})
	if err != nil {
		drain(w, r)
		return err
	}
	return answer(w, fileJSON(info))
}

// drainBody is how much of a body is read that is of no use any more.
const drainBody = 16 << 20

// drain lets a client that is in the middle of sending hear the answer.
func drain(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTimeout))
	_, _ = io.CopyN(io.Discard, r.Body, drainBody)
}

// usersOf resolves users by the members of all groups; a whole id may be of
// anybody.
func (s *Server) usersOf(r *http.Request, texts []string) ([]peercrypto.ID, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	groups, err := s.cfg.Peer.Groups(r.Context())
	if err != nil {
		return nil, err
	}
	seen := map[peercrypto.ID]bool{}
	var people []groupsync.MemberInfo
	for _, g := range groups {
		for _, m := range g.Members {
			if !seen[m.UserID] {
				seen[m.UserID] = true
				people = append(people, m)
			}
		}
	}
	var out []peercrypto.ID
	for _, text := range texts {
		id, err := peercrypto.ParseID(text)
		if err != nil {
			if id, err = findUser(people, text); err != nil {
				return nil, err
			}
		}
		out = append(out, id)
	}
	return out, nil
}

func (s *Server) files(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	list, err := s.cfg.Peer.Files(r.Context(), g.ID)
	if err != nil {
		return err
	}
	return answer(w, filesJSON(list))
}

// findFile resolves {file}: an id, the begin of one or a name.
func (s *Server) findFile(r *http.Request, group peercrypto.ID) (peer.FileInfo, error) {
	text := r.PathValue("file")
	if id, err := files.ParseID(text); err == nil {
		return s.cfg.Peer.File(r.Context(), group, id)
	}
	list, err := s.cfg.Peer.Files(r.Context(), group)
	if err != nil {
		return peer.FileInfo{}, err
	}
	return matchFile(list, text)
}

func matchFile(list []peer.FileInfo, text string) (peer.FileInfo, error) {
	var found []peer.FileInfo
	for _, f := range list {
		if f.Name == text && text != "" || len(text) >= minFilePrefix && strings.HasPrefix(f.ID.String(), text) {
			found = append(found, f)
		}
	}
	switch len(found) {
	case 0:
		return peer.FileInfo{}, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("no file here is called %q", text), Hint: "`peerd file list` shows names and ids."}
	case 1:
		return found[0], nil
	}
	return peer.FileInfo{}, &api.Error{Code: api.CodeAmbiguous, Message: fmt.Sprintf("%d files fit %q", len(found), text), Hint: "Use the id."}
}

func (s *Server) file(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	f, err := s.findFile(r, g.ID)
	if err != nil {
		return err
	}
	return answer(w, fileJSON(f))
}

func (s *Server) fileContent(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	f, err := s.findFile(r, g.ID)
	if err != nil {
		return err
	}
	content, err := s.cfg.Peer.OpenFile(r.Context(), g.ID, f.ID)
	if err != nil {
		return err
	}
	serveContent(w, r, f, content)
	return nil
}

// serveContent answers with the bytes of a file, or of the ranges that are asked
// for. What members made is never shown as a page of this origin.
func serveContent(w http.ResponseWriter, r *http.Request, f peer.FileInfo, content *peer.FileReader) {
	defer func() { _ = content.Close() }()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	if typ, params, err := mime.ParseMediaType(f.Type); err == nil {
		h.Set("Content-Type", mime.FormatMediaType(typ, params))
	}
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": f.Name}))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("Cache-Control", "no-store")
	h.Set("ETag", `"`+f.ID.String()+`"`)
	http.ServeContent(slowWriter{w, http.NewResponseController(w)}, r, "", time.Time{}, content)
}

// slowWriter gives each write a deadline of its own.
type slowWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (s slowWriter) Write(b []byte) (int, error) {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	return s.ResponseWriter.Write(b)
}

// fetchFile streams the progress of a fetch; the fetch goes on when the client
// goes away.
func (s *Server) fetchFile(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	f, err := s.findFile(r, g.ID)
	if err != nil {
		return err
	}
	return s.streamFetch(w, func(progress func(peer.FileInfo)) (peer.FileInfo, error) {
		if err := s.cfg.Peer.FetchFile(r.Context(), g.ID, f.ID, progress); err != nil {
			return f, err
		}
		return s.cfg.Peer.File(r.Context(), g.ID, f.ID)
	})
}

func (s *Server) streamFetch(w http.ResponseWriter, fetch func(func(peer.FileInfo)) (peer.FileInfo, error)) error {
	lines := newLineWriter(w)
	last, err := fetch(func(f peer.FileInfo) {
		if f.Complete {
			return // the last line says so
		}
		_ = lines.line(fileJSON(f)) // a client that went away ends the context
		_ = lines.flush()
	})
	if err == nil {
		err = lines.line(fileJSON(last))
	}
	return lines.finish(err)
}

func (s *Server) fetchRef(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, api.MaxBody)
	var in api.FetchRef
	if err := decode(r, &in); err != nil {
		return err
	}
	ref, err := files.ParseRef(in.Ref)
	if err != nil {
		return err
	}
	return s.streamFetch(w, func(progress func(peer.FileInfo)) (peer.FileInfo, error) {
		if err := s.cfg.Peer.FetchFileRef(r.Context(), ref, progress); err != nil {
			return peer.FileInfo{}, err
		}
		return s.cfg.Peer.FileByRef(ref)
	})
}

// localFile resolves {file} among the files on this device.
func (s *Server) localFile(r *http.Request) (peer.FileInfo, error) {
	list, _, _, err := s.cfg.Peer.LocalFiles()
	if err != nil {
		return peer.FileInfo{}, err
	}
	return matchFile(list, r.PathValue("file"))
}

func (s *Server) refContent(w http.ResponseWriter, r *http.Request) error {
	f, err := s.localFile(r)
	if err != nil {
		return err
	}
	content, err := s.cfg.Peer.OpenFileRef(r.Context(), f.ID)
	if err != nil {
		return err
	}
	serveContent(w, r, f, content)
	return nil
}

func (s *Server) forgetRef(w http.ResponseWriter, r *http.Request) error {
	f, err := s.localFile(r)
	if err != nil {
		return err
	}
	return s.done(w, s.cfg.Peer.ForgetFile(r.Context(), f.ID))
}

// localFiles lists what is on this device, with what a group says about it.
func (s *Server) localFiles(w http.ResponseWriter, r *http.Request) error {
	list, used, quota, err := s.cfg.Peer.LocalFiles()
	if err != nil {
		return err
	}
	known, err := s.knownFiles(r)
	if err != nil {
		return err
	}
	for i, f := range list {
		if info, ok := known[f.Ref]; ok {
			list[i] = info
		}
	}
	return answer(w, api.LocalFiles{Used: used, Quota: quota, Files: filesJSON(list)})
}

// knownFiles returns the files that groups name; of several groups the first.
func (s *Server) knownFiles(r *http.Request) (map[files.Ref]peer.FileInfo, error) {
	groups, err := s.cfg.Peer.Groups(r.Context())
	if err != nil {
		return nil, err
	}
	known := map[files.Ref]peer.FileInfo{}
	for _, g := range groups {
		if !g.Joined && !g.Left {
			continue
		}
		list, err := s.cfg.Peer.Files(r.Context(), g.ID)
		if err != nil {
			return nil, err
		}
		for _, f := range list {
			if _, ok := known[f.Ref]; !ok {
				known[f.Ref] = f
			}
		}
	}
	return known, nil
}

func (s *Server) shareFile(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	var in api.ShareFile
	if err := decode(r, &in); err != nil {
		return err
	}
	users, err := s.usersOf(r, in.Users)
	if err != nil {
		return err
	}
	f, err := s.findFile(r, g.ID)
	if err == nil {
		f, err = s.cfg.Peer.ShareFile(r.Context(), g.ID, f.ID, users, in.Public)
	}
	if err != nil {
		return err
	}
	return answer(w, fileJSON(f))
}

func (s *Server) pinFile(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	var in api.PinFile
	if err := decode(r, &in); err != nil {
		return err
	}
	f, err := s.findFile(r, g.ID)
	if err != nil {
		return err
	}
	return s.done(w, s.cfg.Peer.PinFile(f.ID, in.Pinned))
}

// forgetFile removes a file from this device and, with document=1, the document
// about it, for everybody.
func (s *Server) forgetFile(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	f, err := s.findFile(r, g.ID)
	if err != nil {
		return err
	}
	everywhere := r.URL.Query().Get("document") == "1"
	if everywhere {
		if err := s.cfg.Peer.Delete(r.Context(), g.ID, f.Document); err != nil {
			return err
		}
	}
	err = s.cfg.Peer.ForgetFile(r.Context(), f.ID)
	if everywhere && errors.Is(err, files.ErrNotFound) {
		err = nil
	}
	return s.done(w, err)
}
