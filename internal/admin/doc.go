// Package admin is how an operator speaks to a running server: HTTP with JSON
// under /v1, over a Unix socket that only the server's user and root can open,
// or over a listener that asks for a token.
//
// api.go has what is said, server.go answers it from what the program gives
// (Signaling and Process), client.go asks. Blocks are kept in a file (blocks.go)
// so that they outlive the process, however that ends.
//
// Browsers are kept out: a request that names an origin, as requests of web
// pages do, is refused.
package admin
