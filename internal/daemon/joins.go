package daemon

import (
	"net/http"
	"slices"

	"github.com/peersignal/peersignal/internal/daemon/api"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

// join keeps an invitation until a device of the group answers.
func (s *Server) join(w http.ResponseWriter, r *http.Request) error {
	var in api.JoinLink
	if err := decode(r, &in); err != nil {
		return err
	}
	inv, err := entry.ParseInvitation(in.Link)
	if err != nil {
		return invalid(err.Error(), "Copy the whole link, from peers:join# to its end.")
	}
	if err := s.cfg.Peer.Join(r.Context(), inv); err != nil {
		return err
	}
	return answer(w, api.Join{Group: string(inv.Group), Name: inv.Name, Role: string(inv.Role), Servers: inv.Servers, Expires: inv.Expires})
}

func (s *Server) pendingJoins(r *http.Request) ([]api.Join, error) {
	pending, err := s.cfg.Peer.PendingJoins(r.Context())
	if err != nil {
		return nil, err
	}
	out := make([]api.Join, len(pending))
	for i, j := range pending {
		out[i] = api.Join{
			Group: string(j.Group), Name: j.Name, Role: string(j.Role), Servers: j.Servers,
			Expires: j.Expires.UnixMilli(), Since: j.Since.UnixMilli(), Refusal: j.Refusal,
			Checked: j.Checked, Users: j.Users,
		}
	}
	return out, nil
}

func (s *Server) joins(w http.ResponseWriter, r *http.Request) error {
	out, err := s.pendingJoins(r)
	if err != nil {
		return err
	}
	return answer(w, out)
}

func (s *Server) cancelJoin(w http.ResponseWriter, r *http.Request) error {
	pending, err := s.cfg.Peer.PendingJoins(r.Context())
	if err != nil {
		return err
	}
	id := peercrypto.ID(r.PathValue("group"))
	for _, j := range pending {
		if j.Name == string(id) {
			id = j.Group
		}
	}
	known := slices.ContainsFunc(pending, func(j groupsync.PendingJoin) bool { return j.Group == id })
	if !known {
		return &api.Error{Code: api.CodeNotFound, Message: "no such pending join", Hint: "`peerd status` lists them."}
	}
	return s.done(w, s.cfg.Peer.CancelJoin(r.Context(), id))
}
