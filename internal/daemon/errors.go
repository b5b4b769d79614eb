package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/peersignal/peersignal/internal/daemon/api"
	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	"github.com/peersignal/peersignal/pkg/peer/link"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/files"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// A meaning is how the API tells one of the library's errors.
type meaning struct {
	err  error
	code api.Code
	hint string
}

// meanings is searched in order: the first one that matches counts.
var meanings = []meaning{
	{peer.ErrOffline, api.CodeOffline, "Start the daemon with --server URL."},
	{link.ErrServerDown, api.CodeOffline, "`peerd status` tells why the server is not reached."},
	{peer.ErrNoDevice, api.CodeNotFound, "Devices are known once they were connected with this one."},
	{peer.ErrOtherServer, api.CodeOtherServer, "Restart the daemon with the invitation's server: peerd up --server URL."},
	{peer.ErrAmbiguous, api.CodeAmbiguous, "Use the id; `peerd group ls` shows it."},
	{peer.ErrImport, api.CodeInvalid, ""},
	{peer.ErrNoFiles, api.CodeConflict, ""},
	{peer.ErrFileRemote, api.CodeConflict, "Fetch it: peerd file get."},
	{files.ErrNotFound, api.CodeNotFound, "`peerd file status` shows what is on this device."},
	{files.ErrRef, api.CodeInvalid, "`peerd file list GROUP --json` shows references. A file of a group: peerd file get GROUP FILE."},
	{files.ErrTooLarge, api.CodeTooLarge, ""},
	{files.ErrQuota, api.CodeStoreFull, "`peerd file forget` makes room; --file-quota of `peerd up` is the limit."},
	{files.ErrNoSpace, api.CodeStoreFull, "Make room on the disk and repeat; what was fetched stays."},
	{files.ErrContent, api.CodeConflict, "Whoever wrote the document or the reference has to correct it."},
	{peer.ErrClosed, api.CodeShuttingDown, ""},
	{groupsync.ErrStoreFull, api.CodeStoreFull, "Make room on the disk and repeat; what was acknowledged is safe."},
	{groupsync.ErrStoreReadOnly, api.CodeStoreFailed, "Check the permissions of the data folder and whether its disk is mounted read-only."},
	{groupsync.ErrStoreClosed, api.CodeShuttingDown, ""},
	{groupsync.ErrNotFound, api.CodeNotFound, ""},
	{groupsync.ErrNotMember, api.CodeNotAllowed, "Ask an admin of the group for an invitation."},
	{groupsync.ErrReadOnly, api.CodeNotAllowed, "Ask an admin of the group for the role \"write\"."},
	{groupsync.ErrNotAdmin, api.CodeNotAllowed, "`peerd group members` shows who is admin."},
	{groupsync.ErrKeyFrozen, api.CodeConflict, "Set a new key with the 24 words: peerd recover."},
	{groupsync.ErrKeyPending, api.CodeConflict, "`peerd status` shows whether members are there; peerd key show tells what happened to your key."},
	{groupsync.ErrKeyRefused, api.CodeNotAllowed, ""},
	{groupsync.ErrNoDevice, api.CodeNotFound, "`peerd device ls` lists your devices and which of them are on the list."},
	{groupsync.ErrThisDevice, api.CodeConflict, ""},
	{groupsync.ErrDeviceText, api.CodeInvalid, "On the new device: peerd device new CARD. Here: peerd device add REQUEST."},
	{groupsync.ErrOldRequest, api.CodeConflict, "Here: peerd key card. On the new device: peerd device new CARD --again."},
	{keys.ErrNoQuorum, api.CodeConflict, "Without enough devices only the 24 words help: peerd recover."},
	{keys.ErrEnded, api.CodeConflict, "Set a new key with the 24 words (peerd recover) or a majority of devices (peerd key propose)."},
	{keys.ErrEvent, api.CodeConflict, ""},
	{peer.ErrNewKey, api.CodeShuttingDown, "The daemon begins anew with your new key; repeat."},
	{groupsync.ErrNumber, api.CodeConflict, "Compare again with `peerd key safety-number`, not over peerd itself."},
	{groupsync.ErrNotOwner, api.CodeNotAllowed, ""},
	{groupsync.ErrOwner, api.CodeNotAllowed, ""},
	{groupsync.ErrDeleted, api.CodeNotAllowed, ""},
	{groupsync.ErrClock, api.CodeClock, "Compare the clocks of the devices."},
	{groupsync.ErrInvalidDocument, api.CodeInvalid, ""},
	{groupsync.ErrQuery, api.CodeInvalid, ""},
	{groupsync.ErrNoIndex, api.CodeInvalid, "Define one over the fields that are compared with = and then the one that is ordered by: peerd index add."},
	{entry.ErrUnsound, api.CodeInvalid, ""},
	{groupsync.ErrInvitation, api.CodeConflict, "Ask for a new invitation."},
	{groupsync.ErrLimit, api.CodeLimit, ""},
	{groupsync.ErrClosed, api.CodeShuttingDown, ""},
	{peercrypto.ErrJSON, api.CodeInvalid, ""},
	{peercrypto.ErrID, api.CodeInvalid, ""},
	{peercrypto.ErrText, api.CodeInvalid, ""},
}

// apiError gives an error its code and hint.
func apiError(err error) *api.Error {
	var own *api.Error
	if errors.As(err, &own) {
		return own
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return &api.Error{Code: api.CodeTooLarge, Message: "the body of the request is larger than 1 MiB"}
	}
	for _, m := range meanings {
		if errors.Is(err, m.err) {
			return &api.Error{Code: m.code, Message: err.Error(), Hint: m.hint}
		}
	}
	if errors.Is(err, context.Canceled) {
		return errEnding // what a client canceled is read by nobody
	}
	return &api.Error{Code: api.CodeInternal, Message: err.Error(), Hint: "The daemon's log may say more."}
}

// fail answers with an error before anything else was written.
func (s *Server) fail(w http.ResponseWriter, err error) {
	e := apiError(err)
	if e.Code == api.CodeInternal {
		s.log.Error("local API request failed", "error", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(e.Code.Status())
	_ = json.NewEncoder(w).Encode(api.ErrorBody{Error: e})
}

// answer writes v as JSON.
func answer(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	return json.NewEncoder(w).Encode(v)
}

func invalid(message, hint string) error {
	return &api.Error{Code: api.CodeInvalid, Message: message, Hint: hint}
}
