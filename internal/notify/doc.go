// Package notify wakes devices that are not connected, by Web Push (RFC 8030, 8291, 8292).
//
// A device hands the server the subscription of its own browser and gets a token: the subscription, sealed under a key of
// the server, with the device's id and an end. It gives the token to whom it lets wake it. Who has something to say to the
// device and finds it offline presents the token with a message; the server opens the token and pushes. So the server
// keeps no subscriptions, all nodes with the same key know all tokens, and nobody can have the server send requests to a
// subscription that a device did not register for itself.
//
// The message is sealed for the device by its sender; neither this server nor the push service can read it. A message that
// is longer than a push can be is cut into parts, which the receiver joins.
//
// Endpoints must be HTTPS, of a host on the allow-list, and resolve to public addresses; redirects are not followed.
// Pushes wait in a bounded queue, are tried again while the push service asks for it and the message is worth it, and
// endpoints that are gone are remembered, so that nobody keeps knocking.
package notify
