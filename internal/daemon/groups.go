package daemon

import (
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/peersignal/peersignal/internal/daemon/api"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

func groupJSON(g groupsync.GroupInfo) api.Group {
	out := api.Group{
		ID: string(g.ID), Name: g.Name, Role: string(g.Role), Owner: string(g.Owner),
		Joined: g.Joined, Left: g.Left, Untold: g.Untold, Offered: g.Offered, OfferedBy: string(g.OfferedBy), OfferedRole: string(g.OfferedRole),
		Deleted: g.GroupDeleted, Members: membersJSON(g.Members),
		Documents: g.Documents, Tombstones: g.Deleted, Operations: g.Operations, Entries: g.Entries,
		Fingerprint: g.Fingerprint, RotationDue: g.RotationDue, Quarantined: g.Quarantined, Alarms: g.Alarms,
	}
	if r := g.Removed; r != nil {
		out.Removed = &api.Removal{By: string(r.By), Name: r.Name, Reason: r.Reason, Time: r.At.UnixMilli()}
	}
	return out
}

func membersJSON(members []groupsync.MemberInfo) []api.Member {
	out := make([]api.Member, len(members))
	for i, m := range members {
		out[i] = api.Member{User: string(m.UserID), Name: m.Name, Role: string(m.Role), Owner: m.Owner, Self: m.Self}
	}
	return out
}

func (s *Server) groups(w http.ResponseWriter, r *http.Request) error {
	groups, err := s.cfg.Peer.Groups(r.Context())
	if err != nil {
		return err
	}
	out := make([]api.Group, len(groups))
	for i, g := range groups {
		out[i] = groupJSON(g)
	}
	return answer(w, out)
}

// checkName refuses what can be no group's name, in words for who chose it.
func checkName(name string) error {
	if entry.CheckName(name) != nil {
		return invalid(fmt.Sprintf("the name of a group has 1 to %d bytes and no control characters", entry.MaxName), "")
	}
	return nil
}

func (s *Server) createGroup(w http.ResponseWriter, r *http.Request) error {
	var in api.CreateGroup
	if err := decode(r, &in); err != nil {
		return err
	}
	if err := checkName(in.Name); err != nil {
		return err
	}
	g, err := s.cfg.Peer.CreateGroup(r.Context(), in.Name)
	if err != nil {
		return err
	}
	return answer(w, groupJSON(g))
}

func (s *Server) group(w http.ResponseWriter, _ *http.Request, g groupsync.GroupInfo) error {
	return answer(w, groupJSON(g))
}

func (s *Server) deleteGroup(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	return s.done(w, s.cfg.Peer.DeleteGroup(r.Context(), g.ID))
}

func (s *Server) members(w http.ResponseWriter, _ *http.Request, g groupsync.GroupInfo) error {
	return answer(w, membersJSON(g.Members))
}

func (s *Server) invite(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	var in api.Invite
	if err := decode(r, &in); err != nil {
		return err
	}
	role, err := roleOf(in.Role)
	if err != nil {
		return err
	}
	if in.Expires < 0 || in.Expires > int64(30*24*time.Hour/time.Second) {
		return invalid("an invitation is valid for at most 30 days", "")
	}
	inv, err := s.cfg.Peer.Invite(r.Context(), g.ID, groupsync.InviteOptions{
		Role: role, Uses: in.Uses, Expires: time.Duration(in.Expires) * time.Second, Manual: in.Manual,
	})
	if err != nil {
		return err
	}
	return answer(w, api.Invitation{
		Link: inv.Link(), Group: string(inv.Group), Name: inv.Name, Role: string(inv.Role), Expires: inv.Expires, Servers: inv.Servers,
	})
}

// roleOf reads a role; "" means the default.
func roleOf(text string) (entry.Role, error) {
	role := entry.Role(text)
	if text != "" && !role.Valid() {
		return "", invalid(fmt.Sprintf("%q is no role", text), "Roles are read, write and admin.")
	}
	return role, nil
}

func (s *Server) invitations(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	open, err := s.cfg.Peer.Invitations(r.Context(), g.ID)
	if err != nil {
		return err
	}
	out := make([]api.OpenInvitation, len(open))
	for i, inv := range open {
		out[i] = api.OpenInvitation{
			Invite: inv.Hash.String(), Role: string(inv.Role), UsesLeft: inv.UsesLeft, Expires: inv.Expires.UnixMilli(), Manual: inv.Manual,
		}
	}
	return answer(w, out)
}

// uninvite takes the hash of an invitation or the begin of one.
func (s *Server) uninvite(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	var in api.Uninvite
	if err := decode(r, &in); err != nil {
		return err
	}
	open, err := s.cfg.Peer.Invitations(r.Context(), g.ID)
	if err != nil {
		return err
	}
	var found []peercrypto.Hash
	for _, inv := range open {
		if len(in.Invite) >= minPrefix && strings.HasPrefix(inv.Hash.String(), in.Invite) {
			found = append(found, inv.Hash)
		}
	}
	if len(found) != 1 {
		return &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("%s with %q", begins(len(found), "open invitation"), in.Invite), Hint: "`peerd group invitations` lists them."}
	}
	return s.done(w, s.cfg.Peer.Uninvite(r.Context(), g.ID, found[0]))
}

func (s *Server) requests(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	requests, err := s.cfg.Peer.JoinRequests(r.Context())
	if err != nil {
		return err
	}
	out := []api.JoinRequest{}
	for _, q := range requests {
		if q.Group == g.ID {
			out = append(out, api.JoinRequest{User: string(q.UserID), Name: q.Name, Role: string(q.Role), Arrived: q.Arrived.UnixMilli()})
		}
	}
	return answer(w, out)
}

func (s *Server) admit(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	var in api.Admit
	if err := decode(r, &in); err != nil {
		return err
	}
	requests, err := s.cfg.Peer.JoinRequests(r.Context())
	if err != nil {
		return err
	}
	var people []groupsync.MemberInfo
	for _, q := range requests {
		if q.Group == g.ID {
			people = append(people, groupsync.MemberInfo{UserID: q.UserID, Name: q.Name})
		}
	}
	user, err := findUser(people, in.User)
	if err != nil {
		return err
	}
	return s.done(w, s.cfg.Peer.Admit(r.Context(), g.ID, user))
}

// maxReason is how many bytes the reason of a removal can have.
const maxReason = 256

// minPrefix is how much of an id names something.
const minPrefix = 4

// begins says that not exactly one thing begins with something.
func begins(n int, what string) string {
	if n == 0 {
		return "no " + what + " begins"
	}
	return fmt.Sprintf("%d %ss begin", n, what)
}

// fits tells whether a text is an id, the begin of it, or the begin of its random part, as logs and messages show ids.
func fits(id peercrypto.ID, text string) bool {
	return string(id) == text || len(text) >= minPrefix && (strings.HasPrefix(string(id), text) || strings.HasPrefix(id.Short(), text))
}

// findUser resolves an id, the begin of one or a name.
func findUser(people []groupsync.MemberInfo, text string) (peercrypto.ID, error) {
	var byName, byPrefix []peercrypto.ID
	for _, m := range people {
		switch {
		case string(m.UserID) == text:
			return m.UserID, nil
		case m.Name == text && text != "":
			byName = append(byName, m.UserID)
		case fits(m.UserID, text):
			byPrefix = append(byPrefix, m.UserID)
		}
	}
	found := byName
	if len(found) == 0 {
		found = byPrefix
	}
	switch len(found) {
	case 0:
		return "", &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("nobody here is called %q", text), Hint: "`peerd group members` lists ids and names."}
	case 1:
		return found[0], nil
	}
	return "", &api.Error{Code: api.CodeAmbiguous, Message: fmt.Sprintf("%d users fit %q", len(found), text), Hint: "Use the id."}
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	var in api.Remove
	if err := decode(r, &in); err != nil {
		return err
	}
	user, err := findUser(g.Members, in.User)
	if err != nil {
		return err
	}
	if len(in.Reason) > maxReason || strings.ContainsFunc(in.Reason, unicode.IsControl) {
		return invalid(fmt.Sprintf("the reason has more than %d bytes, or control characters", maxReason), "")
	}
	return s.done(w, s.cfg.Peer.Remove(r.Context(), g.ID, user, in.Reason))
}

func (s *Server) setRole(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	var in api.SetRole
	if err := decode(r, &in); err != nil {
		return err
	}
	role, err := roleOf(in.Role)
	if err != nil {
		return err
	}
	user, err := findUser(g.Members, in.User)
	if err != nil {
		return err
	}
	return s.done(w, s.cfg.Peer.SetRole(r.Context(), g.ID, user, role))
}

func (s *Server) rename(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	var in api.Rename
	if err := decode(r, &in); err != nil {
		return err
	}
	if err := checkName(in.Name); err != nil {
		return err
	}
	return s.done(w, s.cfg.Peer.Rename(r.Context(), g.ID, in.Name))
}

func (s *Server) leave(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	return s.done(w, s.cfg.Peer.Leave(r.Context(), g.ID))
}

func (s *Server) purge(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	return s.done(w, s.cfg.Peer.Purge(r.Context(), g.ID))
}

func (s *Server) accept(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	return s.done(w, s.cfg.Peer.Accept(r.Context(), g.ID))
}

func (s *Server) decline(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	return s.done(w, s.cfg.Peer.Decline(r.Context(), g.ID))
}

// done answers {} when a deed succeeded.
func (s *Server) done(w http.ResponseWriter, err error) error {
	if err != nil {
		return err
	}
	return answer(w, empty{})
}
