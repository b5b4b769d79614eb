// Package signaling is the server side of the protocol in pkg/wire: it
// authenticates devices, tells those that share a tag about each other, and
// relays sealed envelopes between them.
//
// # A message's way
//
// A connection has one goroutine, which reads (package ws). It caps, rates,
// scans and validates a message and asks the hub. The hub authorizes under its
// lock (both sessions hold the tag now, or have the same user key); then the
// same goroutine stamps the sender from the session and writes the frame to the
// target's socket, without waiting: what that does not take goes to the target's
// bounded queue, which a goroutine empties that exists only as long as there is
// something in it. A queue that is full closes that slow connection, and nobody
// else notices. Nothing is written under the hub's lock; what is said there is
// queued.
//
// One goroutine, the keeper, looks after all connections: pings, those that are
// silent, those that do not authenticate.
//
// Presence does not queue without bound: when a reader is behind, a tag is only
// marked, and its whole list is written when the reader has caught up.
//
// # Sessions and connections
//
// A session (member) of a client that can resume outlives its connection. Its
// outbox keeps each signal from when it is accepted until the client
// acknowledges it, and remembers which presence was sent lately; the queue of
// the connection is filled from there. When the connection ends the session is
// parked: it stays in the hub with its tags and its place, and the outbox fills.
// A new connection with the token takes the session over, the outbox goes back
// to what the client has, and everything else stays as it is. A timer ends a
// parked session; then its tags are remembered for some minutes.
//
// Who cleans up compares first: the end of a connection concerns its session
// only while it is the session's connection, the end of a session only the
// entries that are its own.
//
// # Several nodes
//
// Nodes share a Bus. Each announces its sessions and their tags to the others
// and keeps a copy of theirs, so that authorization and presence are local
// look-ups; an envelope for another node's session travels one hop to that
// node, which authorizes it again with its own knowledge, and is never
// published on. What a node announces is numbered: a gap, found at the next
// announcement or heartbeat, is repaired by asking for the node's whole state.
// A node that is silent for three heartbeats is forgotten with its sessions.
// Nodes trust each other.
package signaling
