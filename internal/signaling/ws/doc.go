// Package ws is the server's side of WebSocket (RFC 6455) for very many
// connections that are silent most of the time and short of words otherwise.
//
// A connection costs one parked goroutine with a small stack and no buffers: a
// read buffer is lent once the socket is readable and given back when all of it
// has been read. Writes are tried at once, without blocking, by whoever has
// something to say; what the socket does not take waits in a bounded queue that
// a temporary goroutine empties. Text messages and control frames go out under
// one mutex, so that they never interleave.
//
// Where sockets cannot be polled (TLS, systems other than Unix) a connection
// keeps a small read buffer, and every write goes through the queue.
//
// There are no extensions (nothing is compressed, the reserved bits have to be
// zero), no binary messages, and no fragments from this side.
package ws
