// Package turn is the relay that is embedded in the peersignal server: STUN
// (RFC 8489) and TURN (RFC 8656) over UDP, TCP and TLS, on pion/turn.
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
// A front is one socket that pion reads: a UDP listener, or one accepted
// stream. Each front has a pion server of its own. pion handles a front's
// requests one after the other in one goroutine, so that the front knows, in
// every callback, which request it is about; that is what binds a relay socket
// to the client and the credential that asked for it. It also lets the front
// replace answers of pion that mislead clients (answers.go).
//
// A relay is one allocation's UDP socket. Everything that crosses it is
// checked against the policy, and counted while the session runs.
//
// On Linux, a UDP front's wire is a shard (shard_linux.go): one of several
// sockets that share the listening address, together with the relays of its
// clients. pion's reading goroutine runs the shard's loop inside of ReadFrom.
// The loop forwards channel data in batches, without pion, from tables that
// pion's events keep (channels.go, forward_linux.go), and returns to pion what
// is left: requests and Send indications. No packet on that way is allocated
// for, and nothing but that goroutine touches the tables. Streams, and all
// fronts on other systems, let pion forward; then each relay is read by a
// goroutine of pion.
//
// # What a stranger can fill
//
// Every table has a limit: allocations (Config.AllocationsTotal), peers and
// channels of an allocation (128 each), TCP connections
// (Config.MaxTCPConns), the table of unauthenticated sources (32,768 networks),
// users with bytes counted today (AllocationsTotal + 16,384), revoked
// sessions (65,536), and sessions known by name for Config.Introductions
// (65,536). docs/turn.md says what happens at each limit.
package turn
