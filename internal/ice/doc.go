// Package ice gathers the ICE servers that a client is told about: a fixed
// list, the embedded relay, relays that share a secret with this server, and
// providers that mint credentials over HTTP. The relay itself is somebody
// else's; this package knows only who can mint for it.
//
// # Sources
//
// Every origin is a Source. Static, Embedded and REST answer from memory, with
// credentials of the asking session. Twilio, Cloudflare and Endpoint ask a
// provider. Behind a Cached they are asked once for all clients: its Run
// renews the credentials at half of their life and goes on handing them out
// through an outage, until shortly before they end.
//
// # Order
//
// A Chain holds sources in steps. The sources of a step are asked at once and
// their answers joined; the next step is asked only when a step gave nothing.
// Build makes a Chain of a Config.
//
// # Trust
//
// A provider's reply is untrusted input: at most 8 KiB, 16 servers of 16 URLs,
// and 48 hours. Each URL is read by ParseURL and written anew. Redirects are
// not followed, and a provider is spoken to over HTTPS unless it is on this
// machine. Secrets appear in no error, no log and no formatted value.
package ice
