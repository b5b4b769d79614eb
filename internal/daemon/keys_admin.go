package daemon

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/peersignal/peersignal/internal/daemon/api"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// anyUser is findUser for deeds that also concern users who are no members now: they are named by their whole id.
func anyUser(people []groupsync.MemberInfo, text string) (peercrypto.ID, error) {
	user, err := findUser(people, text)
	var e *api.Error
	if errors.As(err, &e) && e.Code == api.CodeNotFound {
		if id, parseErr := peercrypto.ParseID(text); parseErr == nil {
			return id, nil
		}
	}
	return user, err
}

func (s *Server) block(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	var in api.Block
	if err := decode(r, &in); err != nil {
		return err
	}
	user, err := anyUser(g.Members, in.User)
	if err != nil {
		return err
	}
	return s.done(w, s.cfg.Peer.Block(r.Context(), g.ID, user))
}

func (s *Server) checkpoint(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	var in api.Checkpoint
	if err := decode(r, &in); err != nil {
		return err
	}
	var user peercrypto.ID
	if in.User != "" {
		var err error
		if user, err = anyUser(g.Members, in.User); err != nil {
			return err
		}
	}
	n, err := s.cfg.Peer.Checkpoint(r.Context(), g.ID, user)
	if err != nil {
		return err
	}
	return answer(w, api.Checkpointed{Chains: n})
}

func (s *Server) adopt(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	var in api.Adopt
	if err := decode(r, &in); err != nil {
		return err
	}
	hashes := make([]peercrypto.Hash, len(in.Entries))
	for i, text := range in.Entries {
		var err error
		if hashes[i], err = peercrypto.ParseHash(text); err != nil {
			return invalid(fmt.Sprintf("%q is no hash of an entry", text), "`peerd quarantine` lists them.")
		}
	}
	return s.done(w, s.cfg.Peer.Adopt(r.Context(), g.ID, hashes))
}

// keyRoutes adds the routes about keys of users, and what admins do with entries and users.
func (s *Server) keyRoutes(add func(string, handler)) {
	add("GET /keys/{user}", s.ofUser(s.userKeys))
	add("GET /keys/{user}/safety-number", s.ofUser(s.safetyNumber))
	add("POST /keys/{user}/verify", s.ofUser(s.verifyUser))
	add("GET /keys/{user}/card", s.ofUser(s.card))
	add("POST /groups/{group}/block", s.inGroup(s.block))
	add("POST /groups/{group}/checkpoint", s.inGroup(s.checkpoint))
	add("POST /groups/{group}/adopt", s.inGroup(s.adopt))
}
