// Package link connects one device of one user to other devices and hands
// out authenticated connections that carry opaque messages.
//
// A [Link] keeps one session with a signaling server (package wire), learns
// there which devices share a topic with it, negotiates WebRTC connections
// with them through sealed and signed envelopes that the server can neither
// read nor forge, and proves on each new data channel, bound to the DTLS
// certificates of that very channel, which user and device is at the other
// end. Nothing but the three authentication frames is parsed before that.
//
// Above it a [Conn] offers any number of named [Stream]s: ordered, reliable,
// with message boundaries and back pressure of their own.
//
// # Life cycle
//
// [New] validates the configuration, [Link.Run] does all the work and returns
// after every goroutine that it started has ended. One consumer reads
// [Link.Events] until the channel is closed. Established connections do not
// need the signaling server: they stay while it is away. They outlive their
// network path, too: one that is lost is replaced through the server, without
// loss of data, within [Config.RestartTimeout].
//
// # Trust
//
// The signaling server is trusted with availability only. What a received
// offer has to pass before a PeerConnection exists is described at
// [Config.Admit]; the complete list of checks, limits and errors is in
// docs/connections.md, the byte layouts are in docs/formats.md.
package link
