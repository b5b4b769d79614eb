package peer

import (
	"errors"
)

// Errors of a Peer. Those of groups and documents are the engine's
// (groupsync.ErrNotFound and others), those of connections are the link's
// (link.ErrNoAnswer and others).
var (
	// ErrClosed means that the peer was closed, or failed: see Peer.Err.
	ErrClosed = errors.New("the peer is closed")
	// ErrNewKey is the reason why a peer ended whose user's key was replaced: here, or by another device of the
	// user. Open it again; the store has the new key.
	ErrNewKey = errors.New("the user's key was replaced: the peer has to be opened again")
	// ErrOffline means that Config.Server is empty.
	ErrOffline = errors.New("no signaling server is configured")
	// ErrNotPresent means that the device is on no topic of ours now.
	ErrNotPresent = errors.New("the device is not present")
	// ErrNotConnected means that there is no connection with the device.
	ErrNotConnected = errors.New("the device is not connected")
	// ErrNotAdmitted means that the user of the device shares no group with
	// this user, and no invitation makes an exchange with strangers possible.
	ErrNotAdmitted = errors.New("the device's user shares no group with you")
	// ErrTooManyDevices means that Config.MaxDevices are pursued already.
	ErrTooManyDevices = errors.New("too many devices are pursued or connected")
	// ErrDisconnected means that Disconnect was called meanwhile.
	ErrDisconnected = errors.New("the device was disconnected")
	// ErrSyncing means that a session with the device runs already.
	ErrSyncing = errors.New("the device is being synced already")
	// ErrOtherServer means that an invitation can be used only at another
	// signaling server.
	ErrOtherServer = errors.New("the invitation is for another signaling server")
	// ErrAmbiguous means that a name or the begin of an id fits several groups.
	ErrAmbiguous = errors.New("several groups fit; use the id")
	// ErrImport is matched by everything that is wrong with imported text.
	ErrImport = errors.New("invalid import")
)
