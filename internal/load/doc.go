// Package load puts a signaling server under load and measures what its clients
// see: how long it takes to connect, to authenticate, and from sending an
// envelope to its result and to its arrival.
//
// A run has devices with real identities, one goroutine each, in one of the
// scenarios of [Scenario]. All of them live in this process, so that a message's
// arrival is measured with one clock. The work on a message is kept far below
// that of a server: frames are written from templates, and of what arrives only
// the top level is scanned; what the server sent is not validated.
//
// What the devices say is a [Dialect]: [Peersignal] is that of our server; a
// benchmark brings those of other servers and drives them in the same way.
package load
