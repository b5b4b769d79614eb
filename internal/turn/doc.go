// Package turn is the relay that is embedded in the peersignal server: STUN
// (RFC 8489) and TURN (RFC 8656) over UDP and TCP, on pion/turn.
//
// What pion leaves to its user lives here:
//
//   - credentials (credentials.go): minted per signaling session, in the form
//     of draft-uberti-behave-turn-rest, under one of several secrets;
//   - the peer policy (policy.go): which addresses and ports a client may
//     reach through the relay, denying everything that is not the public
//     internet unless the operator says otherwise;
//   - quotas (ledger.go): allocations, bytes a second and bytes a day;
//   - the gate (front.go, gate.go): what is dropped before pion sees it;
//   - revocation: ending a session's live allocations at once.
//
// # How it hangs together
//
// A front is one socket that pion reads: a UDP listener, or one accepted TCP
// connection. Each front has a pion server of its own. pion handles a front's
// requests one after the other in one goroutine, so that the front knows, in
// every callback, which request it is about; that is what binds a relay socket
// to the client and the credential that asked for it.
//
// A relay is one allocation's UDP socket. Everything that crosses it is
// checked against the policy and counted while the session runs.
//
// # What a stranger can fill
//
// Every table has a limit: allocations (Config.AllocationsTotal), peers and
// channels of an allocation (128 each), TCP connections
// (Config.MaxTCPConns), the table of unauthenticated sources (32,768 networks),
// users with bytes counted today (AllocationsTotal + 16,384) and revoked
// sessions (65,536). docs/turn.md says what happens at each limit.
package turn
