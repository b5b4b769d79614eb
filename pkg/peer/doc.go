// Package peer is one device of one user as a library: it finds the devices of
// the people who share a group with this user, connects to them directly and
// keeps the data of the groups in sync.
//
// [Open] composes a [link.Link] (connections) and a [groupsync.Engine] (groups
// and documents) over a store that the caller brings, and starts them;
// [Peer.Close] stops them and waits for every goroutine.
//
//	p, err := peer.Open(ctx, peer.Config{Identity: me, Store: store, Server: "https://signal.example.org"})
//	if err != nil {
//		return err
//	}
//	defer p.Close()
//	for ev := range p.Events(ctx) {
//		switch ev := ev.(type) {
//		case peer.DeviceDiscovered:
//			go p.Connect(ctx, ev.Device)
//		case peer.DeviceConnected:
//			go p.Sync(ctx, ev.Device)
//		case peer.DocumentChanged:
//			fmt.Println(ev.Document.Subject)
//		}
//	}
//
// The identity is made once with NewIdentity of package crypto and kept with
// its SaveKeystore; the store is one of package sync/sqlite.
// The examples of this page are whole programs: a chat, and a share of files.
//
// With [Config.Auto] the peer connects and syncs by itself and the loop is only
// needed to look at what happens.
//
// # Who is let in
//
// A connection is made only with a device whose user shares a joined group with
// this one, or, over the topic of an invitation that is open here or that this
// user is accepting, with anybody: then for the exchange of the join alone. The
// check is made before anything is disclosed, again after authentication, and
// again whenever a group changes; a connection without a reason is closed.
//
// # Connecting
//
// Of two devices the one with the lower id dials at once and the other one
// after [Config.DialDelay] if nothing came. A connection that is lost while the
// device is still present is dialled again after a random delay of up to 1 s,
// doubling to 60 s; a connection that lasted 30 s starts over. Should both dial,
// exactly one connection survives.
//
// # Syncing
//
// A session runs over two streams of a connection, "sync/control" and
// "sync/bulk", which the device with the lower id opens. A connection carries
// one session; when the session ends the connection is closed.
//
// # Files
//
// With [Config.Files] a peer keeps files of groups, gives them to who may have
// them, and fetches those that [Peer.FetchFile] asks for, each over a stream
// "files" that the fetcher opens; see docs/files.md.
package peer
