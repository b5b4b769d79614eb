// Package wire is the signaling protocol "peers.v1": the messages between a
// device and a peersignal server, their codec, their limits and their codes.
// This text is its specification; the Go types follow it.
//
// The server introduces devices to one another and relays sealed envelopes
// between them. It learns keys, pseudonymous tags and addresses; it never
// learns group ids, SDP, candidates or data, and it is trusted with nothing
// but availability.
//
// # Transport
//
// One WebSocket a device, at path /v1/signal ([Path]), subprotocol "peers.v1"
// ([Subprotocol]; an upgrade that does not ask for it is answered with HTTP
// status 400), without compression. A server that is full or stops answers
// 503 with Retry-After, one whose limit for the client's address is reached
// 429, and a browser of an unknown origin gets 403. Every message is one text frame that holds one JSON
// object with a string member "type". Binary frames are a protocol error.
//
// JSON is strict in both directions: valid UTF-8 without lone surrogates, no
// duplicate member, no member named __proto__, constructor or prototype,
// depth at most 64, finite numbers, integers exact, nothing behind the value.
// A server refuses unknown members. A client ignores unknown members and
// messages of unknown type, so that servers can grow.
//
// Encodings: b64u is base64url without padding, b64 is standard base64 with
// padding; both are valid only if encoding again gives the same text. Times
// are milliseconds since 1970 UTC. A device id, user id or connection id is 25
// characters of [0-9a-z]. A tag is 16 bytes as b64u (22 characters); the
// all-zero tag is invalid. A request id ("id") is an integer from 1 to 2^53-1
// that the client chooses; it should not repeat while an answer is due.
//
// # Flow
//
//	server                                         client
//	hello           ->
//	                                            <- auth
//	ready | refused ->
//	                                            <- topics, offer, answer, candidate, notify, ice,
//	                                               push, wake, ack
//	result, ice, push, present, offer, answer,
//	candidate, notify, notice ->
//	                                            <- bye
//
// Nothing but auth is accepted before ready. The client has 10 s to be ready.
//
// # hello, server to client ([Hello])
//
//	{"type":"hello","v":1,"name":"","nonce":b64u32,"time":ms,"caps":["rv1"],
//	 "limits":{"frame":65536,"topicsFrame":524288,"topics":20000}}
//
// name is the server's canonical name, or "" when none is configured; it is
// information, never a source of the name that the client signs. nonce is
// fresh for this connection, valid for one auth and for 60 s. caps lists what
// the server can do; "rv1" is the rendezvous of static tags, "resume" are
// sessions that outlive their connection, "notify" notifications, "push" waking
// by Web Push. A client that does not know v closes.
//
// # auth, client to server ([Auth])
//
//	{"type":"auth","a":{"v":1,"server":"host:port","nonce":b64u32,"cnonce":b64u16,
//	 "deviceId":id,"deviceKey":b64,"userId":id,"userKey":b64,"time":ms,"cb":"","caps":[…]},
//	 "sig":b64,"cert":{device certificate},"resume":"","got":n}
//
// sig is the device key's signature with purpose "signal-auth" over the
// canonical form of a. server is the name that the client dialled: lower-case
// A-label host and explicit port ([CanonicalServer]). cb is "" (reserved for a
// channel binding). resume is the token of an earlier ready, or absent; got
// comes with it, see Resuming.
//
// The server checks in this order, and refuses with the first code that
// applies: the shape ([CodeInvalid]); nonce is this connection's
// ([CodeBadNonce]), at most 60 s old ([CodeNonceExpired]); server names this
// server ([CodeUseName], [CodeUnknownName]); time is within 300 s
// ([CodeBadTime]); the device id is derived from the device key
// ([CodeBadDeviceID]); the certificate is valid ([CodeBadCertificate]) and
// names the same device and user ([CodeCertMismatch]); the signature
// ([CodeBadSignature]); then its quotas. The server knows a user by userKey
// only; it never pins or routes on userId.
//
// The server's names: with configured names, server must be the canonical one
// of them; another configured alias is refused with use-name and the canonical
// name, which the client dials, with its own TLS check, before it derives
// anything from it. Without a configured name only "localhost:<port>" and the
// literal "<address>:<port>" of the socket's own local end are accepted. The
// Host header is never consulted: a server in the middle chooses it.
//
// # ready and refused, server to client ([Ready], [Refused])
//
//	{"type":"ready","session":b64u16,"you":{"addr":"ip:port"},"ice":[{"urls":[…],
//	 "username":"","credential":""}],"iceExpires":ms,"resume":"","resumeExpires":ms,
//	 "resumed":false,"topics":0}
//	{"type":"refused","code":"…","message":"…","name":"host:port","retryAfter":ms}
//
// addr is the client's address as the server sees it. iceExpires is 0 when the
// credentials do not expire. resume is "" for a client that does not list the
// capability, else the token of the session, which is accepted until
// resumeExpires; topics is how many tags the session holds already. After
// refused the server closes with [CloseRefused] (or [CloseAuthTimeout]); with
// [CodeBlocked] the operator keeps the device, the user or the address out.
//
// # Resuming
//
// A session of a client that lists "resume" outlives its connection. When that
// ends without bye, and not by the server's will (replaced, kicked, rate,
// protocol), the session is parked: nobody is told that it left, and signals
// for it wait, until the server's resume window is over, and at most until
// [PingTimeout] after the last sign of life. Then it is over.
//
// Both sides count the frames present, offer, answer and candidate of a
// session, in the order in which they are sent. A client that connects again
// sends the token and how many it has got. If the session can go on, ready says
// "resumed":true with the same session id: it holds the same tags, the count
// goes on from got, the signals that the client has not got are sent (again),
// and whole lists are sent of the tags about which presence may have been lost;
// what the client knows about the others is right. The request ids of a session
// must not repeat over its connections: results that were held come to the
// connection that there is then. A request without a result may have been
// carried out: a client makes it again, and the receiver of a signal ignores
// what it has seen.
//
// If the session cannot go on (it is over, the server was started again, the
// connection is to another server behind the same name, the certificate is
// another one), ready says "resumed":false and begins a new session. Its tags
// may still be those of the old one: "topics" is not 0 then, join was told to
// the others, and the client gets whole lists. Otherwise it sends its tags
// again. A token is valid with the device key that it was given to, and only
// there.
//
// # ack, client to server ([Ack])
//
//	{"type":"ack","n":n}
//
// A signal may bring it along, as its member "ack". n counted frames have been received. The server keeps each offer, answer and
// candidate of a session that can be resumed until it is acknowledged. The client
// acknowledges within [AckDelay] of the first of them that it has not
// acknowledged, and after [AckBytes] of them at once; presence alone needs no
// ack. More than a send queue without ack closes with [CloseSlowReader]. There
// is no answer.
//
// # topics, client to server ([Topics])
//
//	{"type":"topics","id":n,"add":[tag…],"del":[tag…]}
//
// Tags are secrets: who knows one may meet those who hold it. del is applied
// before add; both are idempotent. A session holds at most 20,000 tags: more
// is answered too-large, and nothing of that message is applied. The answer is
// a result.
//
// # present, server to client ([Present])
//
//	{"type":"present","tag":tag,"full":true,"join":[{"cert":{…}}…],"leave":[id…]}
//
// Sent for tags that the session holds. After a tag was added: the whole list
// of the others ("full":true, in as many frames as needed, of which only the
// first says full), and nothing if there are none. Then changes, at once. A
// frame with "full":true replaces what the client knew about the tag; the
// server may send one at any time, also one without join, and does so instead
// of a long backlog to a slow reader. A session never sees its own device. join holds device certificates, which the
// client verifies itself. A device that reconnects may be joined again without
// a leave.
//
// # offer, answer, candidate ([Signal])
//
//	client to server: {"type":"offer","id":n,"ack":n,"to":id,"via":tag,"conn":id,"env":{"eph":b64,"ct":b64u}}
//	server to client: {"type":"offer","from":id,"via":tag,"conn":id,"env":{"eph":b64,"ct":b64u}}
//
// via is a tag that both devices hold, or "" when both sessions have the same
// user key. from is stamped by the server from the session. eph is present in
// offers and absent in answers and candidates. ack may be absent, see ack. The server looks at env's shape
// and size only. The answer is a result: delivered, offline (the
// target shares the tag but could not be reached, or has too much waiting),
// expired (it waited for a parked target, which did not come back in time),
// not-allowed (the target is unknown, or the two do not share via: one answer
// for both, so that nobody can probe), rate-limited, too-large or invalid.
//
// delivered means that the target's session has the frame: a target that can
// resume gets it, also over a connection that it makes later, unless the
// session ends before; then presence says leave. For a target that cannot, it
// means that the frame is in the send queue of its connection. The result of a
// signal to a parked session is held until the session resumes or is over, which
// may take up to [PingTimeout].
//
// # notify ([Signal])
//
//	client to server: {"type":"notify","id":n,"to":id,"via":tag,"conn":id,"env":{"eph":b64,"ct":b64u}}
//	server to client: {"type":"notify","from":id,"via":tag,"conn":id,"env":{"eph":b64,"ct":b64u}}
//
// A sealed message that stands alone: it opens no connection, and conn names it,
// so that the target can tell one that comes twice. It is relayed, held and
// answered as an offer is, and sealed to the target's own key, so that it has an
// eph. ct has at most 12,000 characters. When the target's session ended
// minutes ago, by no bye, and held via (or, with via "", was of the same user),
// the server keeps the message for the device and answers queued: the next
// session of the device key gets it. So it does with those that such a session
// had not acknowledged when it ended.
//
// # push, wake ([PushRequest], [PushGrant], [Wake])
//
//	client to server: {"type":"push","id":n,"subscription":{"endpoint":"https://…","p256dh":b64u,"auth":b64u}}
//	server to client: {"type":"push","id":n,"key":b64u,"token":"…","expires":ms}
//	client to server: {"type":"wake","id":n,"to":id,"token":"…","ttl":s,"conn":id,"eph":b64,"ct":b64u}
//
// A device that has a Web Push subscription (RFC 8030), made with the server's
// application key, gives it to the server and gets a token, which it gives to
// whom it lets wake it. Without subscription push only asks for the key. The
// token holds the subscription, sealed for the server, which keeps none. wake
// pushes a notification to the device of a token: queued, gone (the token is
// not valid any more, or the subscription has ended), rate-limited, or
// unavailable (the server does not push). The pushed payloads are JSON,
//
//	{"v":1,"id":conn,"from":device id,"part":0,"parts":1,"eph":b64,"ct":part of ct}
//
// one for each 3,000 characters of ct, in any order. ttl is at most 7 days.
//
// # result, server to client ([Result])
//
//	{"type":"result","id":n,"code":"…","message":"…","retryAfter":ms}
//
// Every client message that has an id gets exactly one, except a successful
// ice request, which is answered by ice. Results may overtake one another; a
// busy server may keep delivered for a moment, to send it with another frame.
//
// # ice ([ICERequest], [ICE])
//
//	client to server: {"type":"ice","id":n}
//	server to client: {"type":"ice","id":n,"ice":[…],"iceExpires":ms}
//
// The server may push it with id 0 before the credentials expire.
//
// # bye and notice ([Bye], [Notice])
//
//	client to server: {"type":"bye"}
//	server to client: {"type":"notice","code":"replaced|draining|kicked","message":"…","retryAfter":ms}
//
// notice comes before the server closes. The same device key on a second
// connection replaces the first, which is told so: newest wins. After bye the
// server sends what it has for the client and closes with status 1000; a client
// that does not want to lose it reads until then.
//
// With draining the server takes no new sessions, and serves this one for some
// time yet. The client goes on, says bye when retryAfter ms have passed since
// the notice, and connects again, with its token. A connection that ends before
// (the server closes with [CloseDraining] when its time is over) is followed by a
// new one at that time, too. retryAfter is random for each session, so that they
// do not all come at once.
//
// # Bad messages
//
// A message that is invalid, of unknown type or too large is answered with a
// result when its id can be read, and the connection stays. Without a readable
// id the server closes with [CloseProtocol]. Before ready it closes with
// refused invalid. The server sends a WebSocket ping every 25 s and closes
// after 60 s without any sign of life.
//
// # Limits
//
// [MaxFrame] 64 KiB; a topics message [MaxTopicsFrame] 512 KiB; before ready
// [MaxPreAuthFrame] 8 KiB; [MaxTopics] 20,000. A longer frame than can be any
// message closes with [CloseTooLarge]. Rates are the server's business; it
// answers rate-limited with retryAfter, and closes with [CloseRate] a client
// that goes on regardless. Send queue: 256 KiB, then [CloseSlowReader].
//
// # Close codes
//
// See [CloseCode]; each says whether and when to connect again.
//
// # Versions
//
// v is 1. What a server adds is announced in caps; what a client may use is
// what both list. A change that an old side would misunderstand gets a new
// subprotocol name.
package wire
