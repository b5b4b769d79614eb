package daemon

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/peersignal/peersignal/internal/daemon/api"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// ownKeyRoutes adds the routes about the own user's devices and key.
func (s *Server) ownKeyRoutes(add func(string, handler)) {
	add("GET /devices", s.ownDevices)
	add("POST /devices", s.addDevice)
	add("POST /rotate", s.rotate)
	add("GET /proposals", s.proposals)
	add("POST /proposals", s.propose)
	add("POST /proposals/{id}/approve", s.approve)
}

func (s *Server) ownDevices(w http.ResponseWriter, r *http.Request) error {
	list, err := s.cfg.Peer.Devices(r.Context())
	if err != nil {
		return err
	}
	out := make([]api.OwnDevice, len(list))
	for i, d := range list {
		out[i] = api.OwnDevice{Device: string(d.ID), Key: d.Key.String(), Self: d.Self, Listed: d.Listed, HasKey: d.Met}
	}
	return answer(w, out)
}

func (s *Server) addDevice(w http.ResponseWriter, r *http.Request) error {
	var in api.AddDevice
	if err := decode(r, &in); err != nil {
		return err
	}
	req, err := groupsync.ParseDeviceRequest(in.Request)
	if err != nil {
		return err
	}
	welcome, err := s.cfg.Peer.AddDevice(r.Context(), req)
	if err != nil {
		return err
	}
	return answer(w, api.AddedDevice{Device: string(req.Device()), Welcome: welcome.Text()})
}

// findDevices resolves ids of own devices, or the begin of them.
func (s *Server) findDevices(r *http.Request, texts []string) ([]peercrypto.ID, error) {
	list, err := s.cfg.Peer.Devices(r.Context())
	if err != nil {
		return nil, err
	}
	out := make([]peercrypto.ID, len(texts))
	for i, text := range texts {
		var found []peercrypto.ID
		for _, d := range list {
			if fits(d.ID, text) {
				found = append(found, d.ID)
			}
		}
		switch len(found) {
		case 0:
			return nil, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("none of your devices is %q", text), Hint: "`peerd device ls` lists them."}
		case 1:
			out[i] = found[0]
		default:
			return nil, &api.Error{Code: api.CodeAmbiguous, Message: fmt.Sprintf("%d of your devices fit %q", len(found), text), Hint: "Use the id."}
		}
	}
	return out, nil
}

// reasonOf reads a reason; "" means the default.
func reasonOf(text string, def keys.Reason) (keys.Reason, error) {
	switch r := keys.Reason(text); r {
	case "":
		return def, nil
	case keys.Rotated, keys.Lost, keys.Compromised:
		return r, nil
	}
	return "", invalid(fmt.Sprintf("%q is no reason", text), "Reasons are rotated, lost and compromised.")
}

func (s *Server) rotate(w http.ResponseWriter, r *http.Request) error {
	var in api.Rotate
	if err := decode(r, &in); err != nil {
		return err
	}
	reason, err := reasonOf(in.Reason, keys.Rotated)
	if err != nil {
		return err
	}
	without, err := s.findDevices(r, in.Without)
	if err != nil {
		return err
	}
	return s.done(w, s.cfg.Peer.RotateKey(r.Context(), reason, without))
}

func proposalJSON(p groupsync.Proposal) api.Proposal {
	last := p.Events[len(p.Events)-1]
	out := api.Proposal{
		Proposal: p.ID.String(), What: string(last.Op), Reason: string(last.Reason), Signed: []string{}, Missing: p.Missing,
		Mine: p.Mine, Since: p.Since.UnixMilli(),
	}
	if last.Key != nil {
		out.Key = last.Key.String()
	}
	for _, ev := range p.Events {
		if ev.Op == keys.RevokeDevice {
			out.Without = append(out.Without, string(ev.Device.ID))
		}
	}
	for _, d := range p.Signed {
		out.Signed = append(out.Signed, string(d))
	}
	return out
}

func (s *Server) proposals(w http.ResponseWriter, r *http.Request) error {
	list, err := s.cfg.Peer.Proposals(r.Context())
	if err != nil {
		return err
	}
	out := make([]api.Proposal, len(list))
	for i, p := range list {
		out[i] = proposalJSON(p)
	}
	return answer(w, out)
}

func (s *Server) propose(w http.ResponseWriter, r *http.Request) error {
	var in api.Propose
	if err := decode(r, &in); err != nil {
		return err
	}
	reason, err := reasonOf(in.Reason, keys.Lost)
	if err != nil {
		return err
	}
	without, err := s.findDevices(r, in.Without)
	if err != nil {
		return err
	}
	p, err := s.cfg.Peer.ProposeKeys(r.Context(), groupsync.ProposeOptions{Revoke: in.Revoke, Without: without, Reason: reason})
	if err != nil {
		return err
	}
	return answer(w, proposalJSON(p))
}

// approve takes the hash of a proposal or the begin of one.
func (s *Server) approve(w http.ResponseWriter, r *http.Request) error {
	list, err := s.cfg.Peer.Proposals(r.Context())
	if err != nil {
		return err
	}
	text := r.PathValue("id")
	var found []peercrypto.Hash
	for _, p := range list {
		if len(text) >= minPrefix && strings.HasPrefix(p.ID.String(), text) {
			found = append(found, p.ID)
		}
	}
	if len(found) != 1 {
		return &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("%s with %q", begins(len(found), "proposal"), text), Hint: "`peerd key proposals` lists them."}
	}
	p, err := s.cfg.Peer.ApproveKeys(r.Context(), found[0])
	if err != nil {
		return err
	}
	return answer(w, proposalJSON(p))
}
