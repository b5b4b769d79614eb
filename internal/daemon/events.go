package daemon

import (
	"net/http"

	"github.com/peersignal/peersignal/internal/daemon/api"
	"github.com/peersignal/peersignal/pkg/peer"
)

// events streams what happens, beginning with the state.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	lines := newLineWriter(w)
	events := s.cfg.Peer.Events(r.Context())
	// The client knows by this line that nothing after it is missed.
	if err := lines.line(api.Event{Kind: "subscribed", Time: s.cfg.Now().UnixMilli()}); err != nil {
		return err
	}
	if err := lines.flush(); err != nil {
		return err
	}
	for ev := range events {
		out := eventJSON(ev)
		if out.Kind == "" {
			continue
		}
		out.Time = s.cfg.Now().UnixMilli()
		if err := lines.line(out); err != nil {
			return lines.finish(err)
		}
		if err := lines.flush(); err != nil {
			return lines.finish(err)
		}
	}
	return lines.finish(r.Context().Err())
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func eventJSON(ev peer.Event) api.Event {
	switch ev := ev.(type) {
	case peer.ServerUp:
		return api.Event{Kind: "server-up", Server: ev.Name}
	case peer.ServerDown:
		return api.Event{Kind: "server-down", Error: errText(ev.Err), Final: ev.Retry < 0}
	case peer.DeviceDiscovered:
		return api.Event{Kind: "device-discovered", Device: string(ev.Device), User: string(ev.User)}
	case peer.DeviceGone:
		return api.Event{Kind: "device-gone", Device: string(ev.Device), User: string(ev.User)}
	case peer.DeviceConnected:
		return api.Event{Kind: "device-connected", Device: string(ev.Device), User: string(ev.User)}
	case peer.DeviceDisconnected:
		return api.Event{Kind: "device-disconnected", Device: string(ev.Device), User: string(ev.User), Error: errText(ev.Err)}
	case peer.ConnectFailed:
		return api.Event{Kind: "connect-failed", Device: string(ev.Device), User: string(ev.User), Error: errText(ev.Err)}
	case peer.PathChanged:
		text := "lost"
		if !ev.Lost {
			text = ev.Path.Local + "/" + ev.Path.Remote + " over " + ev.Path.Protocol
		}
		return api.Event{Kind: "path-changed", Device: string(ev.Device), User: string(ev.User), Text: text}
	case peer.SyncStarted:
		return api.Event{Kind: "sync-started", Device: string(ev.Device), User: string(ev.User)}
	case peer.SyncEnded:
		return api.Event{Kind: "sync-ended", Device: string(ev.Device), User: string(ev.User), Error: errText(ev.Err)}
	case peer.DocumentChanged:
		d := docJSON(ev.Document)
		return api.Event{Kind: "document-changed", Group: d.Group, Document: &d}
	case peer.Lagged:
		return api.Event{Kind: "lagged"}
	}
	return groupEventJSON(ev)
}

func groupEventJSON(ev peer.Event) api.Event {
	switch ev := ev.(type) {
	case peer.SyncProgress:
		return api.Event{Kind: "sync-progress", Device: string(ev.Device), Group: string(ev.Group), Have: ev.Have, Want: ev.Want, Unsent: ev.Unsent}
	case peer.Synced:
		return api.Event{Kind: "synced", Device: string(ev.Device), Group: string(ev.Group), Fingerprint: ev.Fingerprint}
	case peer.GroupJoined:
		return api.Event{Kind: "group-joined", Group: string(ev.Group)}
	case peer.GroupChanged:
		return api.Event{Kind: "group-changed", Group: string(ev.Group)}
	case peer.GroupOffered:
		return api.Event{Kind: "group-offered", Group: string(ev.Group), User: string(ev.By), Name: ev.Name}
	case peer.RemovedFromGroup:
		return api.Event{Kind: "removed", Group: string(ev.Group), User: string(ev.By), Text: ev.Reason}
	case peer.JoinFailed:
		return api.Event{Kind: "join-failed", Group: string(ev.Group), Error: ev.Reason, Final: ev.Final}
	case peer.JoinChecking:
		return api.Event{Kind: "join-checking", Group: string(ev.Group), Have: ev.Checked, Want: ev.Users}
	case peer.JoinRequested:
		return api.Event{Kind: "join-requested", Group: string(ev.Request.Group), User: string(ev.Request.UserID), Name: ev.Request.Name}
	case peer.FileProgress:
		f := fileJSON(ev.File)
		return api.Event{Kind: "file-progress", Group: f.Group, Error: f.Error, Have: f.Have, Want: f.Size, Final: f.Complete || f.Error != "", File: f.File}
	case peer.Notification:
		return api.Event{Kind: "notification", Device: string(ev.Device), User: string(ev.User), Text: string(ev.Body)}
	case peer.Alarm:
		return api.Event{Kind: "alarm", Group: string(ev.Group), Text: ev.Text}
	}
	return api.Event{}
}
