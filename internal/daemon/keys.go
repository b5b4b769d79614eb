package daemon

import (
	"context"
	"net/http"

	"github.com/peersignal/peersignal/internal/daemon/api"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// people are the members of all groups here.
func (s *Server) people(ctx context.Context) ([]groupsync.MemberInfo, error) {
	groups, err := s.cfg.Peer.Groups(ctx)
	if err != nil {
		return nil, err
	}
	var people []groupsync.MemberInfo
	seen := map[peercrypto.ID]bool{}
	for _, g := range groups {
		for _, m := range g.Members {
			if !seen[m.UserID] {
				seen[m.UserID] = true
				people = append(people, m)
			}
		}
	}
	return people, nil
}

// ofUser resolves {user}: "me", an id, or the begin of an id or the name of a member of any group here.
func (s *Server) ofUser(h func(http.ResponseWriter, *http.Request, peercrypto.ID) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		text := r.PathValue("user")
		if text == "me" {
			return h(w, r, s.cfg.Peer.User())
		}
		people, err := s.people(r.Context())
		if err != nil {
			return err
		}
		user, err := anyUser(people, text)
		if err != nil {
			return err
		}
		return h(w, r, user)
	}
}

func (s *Server) userKeys(w http.ResponseWriter, r *http.Request, user peercrypto.ID) error {
	k, err := s.cfg.Peer.UserKeys(r.Context(), user)
	if err != nil {
		return err
	}
	p := k.Pin
	out := api.UserKeys{
		User: string(user), Self: user == s.cfg.Peer.User(), Key: p.Key.String(), Genesis: p.Genesis.String(), Trust: string(p.Trust),
		Since: p.Since, Rotated: p.Rotated, Frozen: p.Frozen, Ended: p.Ended, Events: []api.KeyEvent{},
	}
	for _, c := range p.Conflicts {
		out.Conflicts = append(out.Conflicts, c.String())
	}
	for _, e := range k.Events {
		ev := api.KeyEvent{Seq: e.Seq, Op: string(e.Op), By: string(e.By), Reason: string(e.Reason), Time: e.Modified, Stands: k.History.Holds(e.Hash())}
		if e.Key != nil {
			ev.Key = e.Key.String()
		}
		out.Events = append(out.Events, ev)
	}
	return answer(w, out)
}

func (s *Server) safetyNumber(w http.ResponseWriter, r *http.Request, user peercrypto.ID) error {
	number, err := s.cfg.Peer.SafetyNumber(r.Context(), user)
	if err != nil {
		return err
	}
	return answer(w, api.SafetyNumber{User: string(user), Number: number})
}

func (s *Server) verifyUser(w http.ResponseWriter, r *http.Request, user peercrypto.ID) error {
	var in api.SafetyNumber
	if err := decode(r, &in); err != nil {
		return err
	}
	_, err := s.cfg.Peer.VerifyUser(r.Context(), user, in.Number)
	return s.done(w, err)
}

func (s *Server) card(w http.ResponseWriter, r *http.Request, user peercrypto.ID) error {
	card, err := s.cfg.Peer.Card(r.Context(), user, r.URL.Query().Get("groups") != "")
	if err != nil {
		return err
	}
	return answer(w, api.Card{User: string(user), Card: card.Text(), Groups: len(card.Groups)})
}
