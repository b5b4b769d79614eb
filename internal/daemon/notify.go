package daemon

import (
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/peersignal/peersignal/internal/daemon/api"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer/link"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// notify sends a message to the devices of a member.
func (s *Server) notify(w http.ResponseWriter, r *http.Request, g groupsync.GroupInfo) error {
	var in api.Notify
	if err := decode(r, &in); err != nil {
		return err
	}
	if in.Text == "" || len(in.Text) > link.MaxNotification || !utf8.ValidString(in.Text) {
		return invalid(fmt.Sprintf("the text has to have 1 to %d bytes of UTF-8", link.MaxNotification), "")
	}
	user, err := findUser(g.Members, in.User)
	if err != nil {
		return err
	}
	results, err := s.cfg.Peer.Notify(r.Context(), g.ID, user, []byte(in.Text))
	if err != nil {
		return err
	}
	out := make([]api.Notified, len(results))
	for i, n := range results {
		out[i] = api.Notified{Device: string(n.Device), Delivery: string(n.Delivery), Error: errText(n.Err)}
	}
	return answer(w, out)
}

// notifications lists what came.
func (s *Server) notifications(w http.ResponseWriter, r *http.Request) error {
	list, err := s.cfg.Peer.Notifications(r.Context())
	if err != nil {
		return err
	}
	people, err := s.people(r.Context())
	if err != nil {
		return err
	}
	names := map[peercrypto.ID]string{}
	for _, p := range people {
		names[p.UserID] = p.Name
	}
	out := make([]api.Notification, len(list))
	for i, n := range list {
		out[i] = api.Notification{
			ID: string(n.ID), Device: string(n.Device), User: string(n.User), Name: names[n.User], Time: n.Time.UnixMilli(), Text: string(n.Body),
		}
	}
	return answer(w, out)
}

func (s *Server) clearNotifications(w http.ResponseWriter, r *http.Request) error {
	return s.done(w, s.cfg.Peer.ClearNotifications(r.Context()))
}
