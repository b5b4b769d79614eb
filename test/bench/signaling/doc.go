// Command signaling compares peersignal with bare servers under the same load, in turns on the same processors:
// make bench-signaling.
//
// peersignal is the real program with everything on and its limits raised. Beside it run servers that do nothing but
// relay between a map of connections, without authentication, checks, limits, results or metrics: on gws, on
// coder/websocket and on Node's ws; and what the stock signaling server does, on its socket.io. The Go ones are this
// program again, the others are in the folder node.
//
// The load is internal/load in a process of its own, as in `peersignal load`. What a figure is:
//
//   - messages/s and their processor time: 1,000 pairs exchange offers and answers of 1.6 KB in a closed loop; a message
//     is an envelope that arrived. Only peersignal answers each with a result, too.
//   - KB an idle session: growth of the resident memory of a fresh process, per session with five topics.
//   - logins/s: connect, and authenticate (peersignal) or register; then leave.
//   - ms a newcomer: processor time for a device that connects and joins a group of 1,000, and when it leaves again. Only
//     peersignal announces it to the others, both times; "in tens" is when ten join at the same time.
package main
