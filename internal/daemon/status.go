package daemon

import (
	"io"
	"net/http"
	"os"
	"time"

	"github.com/peersignal/peersignal/internal/daemon/api"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
)

func (s *Server) id(w http.ResponseWriter, _ *http.Request) error { return answer(w, s.cfg.ID) }

// shutdown ends the daemon. Its answer stays open until everything has ended: who has read it can start another daemon on the folder.
func (s *Server) shutdown(w http.ResponseWriter, _ *http.Request) error {
	s.log.Info("ending, as a client asked")
	defer s.cfg.Shutdown()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return answer(w, empty{})
	}
	_ = conn.SetDeadline(time.Time{})
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{}\n")
	ended := s.cfg.Ended
	if ended == nil {
		ended = s.ended
	}
	go func() {
		<-ended
		_ = conn.Close()
	}()
	return nil
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) error {
	groups, err := s.cfg.Peer.Groups(r.Context())
	if err != nil {
		return err
	}
	st := s.cfg.Peer.Status()
	out := api.Status{
		Version: s.cfg.Version, PID: os.Getpid(), Started: s.started.UnixMilli(),
		User: string(st.User), Device: string(st.Device), Name: st.Name, Data: s.cfg.Data,
		Server: serverJSON(st, s.cfg.ServerURL), Devices: []api.Device{}, Groups: []api.Group{},
	}
	names := map[peercrypto.ID]string{}
	for _, g := range groups {
		out.Groups = append(out.Groups, groupJSON(g))
		for _, m := range g.Members {
			if m.Name != "" {
				names[m.UserID] = m.Name
			}
		}
	}
	for _, d := range st.Devices {
		out.Devices = append(out.Devices, deviceJSON(d, names[d.User]))
	}
	if out.Joins, err = s.pendingJoins(r); err != nil {
		return err
	}
	return answer(w, out)
}

func serverJSON(st peer.Status, url string) api.Server {
	l := st.Server
	out := api.Server{
		URL: url, Name: l.Server, Connected: l.Session != "", Address: l.Addr, LastError: l.LastError,
		Topics: l.Topics, Published: l.Published, Peers: l.Peers, Refused: l.Refused,
	}
	if !l.Since.IsZero() {
		out.Since = l.Since.UnixMilli()
	}
	return out
}

func deviceJSON(d peer.DeviceStatus, name string) api.Device {
	out := api.Device{
		Device: string(d.Device), User: string(d.User), Name: name,
		Present: d.Present, Connected: d.Connected, Pursued: d.Pursued, Failures: d.Failures,
	}
	if d.LastError != nil {
		out.LastError = d.LastError.Error()
	}
	if !d.Connected {
		return out
	}
	st := d.Stats
	out.LocalCandidate, out.RemoteCandidate, out.Protocol = st.LocalCandidateType, st.RemoteCandidateType, st.Protocol
	switch {
	case st.LocalCandidateType == "":
	case d.Relayed():
		out.Path = "relay"
	default:
		out.Path = "direct"
	}
	out.RTT = float64(st.RTT) / float64(time.Millisecond)
	out.BytesIn, out.BytesOut = st.BytesIn, st.BytesOut
	out.Since, out.Outgoing, out.Syncing = d.Since.UnixMilli(), d.Outgoing, d.Syncing
	for _, g := range d.Groups {
		out.Groups = append(out.Groups, api.DeviceGroup{Group: string(g.Group), Synced: g.Synced, Have: g.Have, Want: g.Want, Unsent: g.Unsent})
	}
	return out
}
