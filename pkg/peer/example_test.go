package peer_test

import (
	"context"
	"fmt"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	"github.com/peersignal/peersignal/pkg/sync/storetest"
)

// A peer without a server keeps groups and documents on this device only.
func Example() {
	ctx := context.Background()
	me, _, err := peercrypto.NewIdentity(time.Now())
	if err != nil {
		panic(err)
	}
	store := storetest.NewMemory() // or sqlite.Open
	defer func() { _ = store.Close() }()
	p, err := peer.Open(ctx, peer.Config{Identity: me, Store: store, Name: "alice"})
	if err != nil {
		panic(err)
	}
	defer func() { _ = p.Close() }()

	garden, err := p.CreateGroup(ctx, "garden")
	if err != nil {
		panic(err)
	}
	events := p.Events(ctx)
	if _, err := p.Put(ctx, garden.ID, []byte(`{"type":"Note","text":"water the beans"}`)); err != nil {
		panic(err)
	}
	for ev := range events {
		if ev, ok := ev.(peer.DocumentChanged); ok {
			fmt.Println(garden.Name, ev.Document.Type)
			break
		}
	}
	// Output: garden Note
}

// The whole loop of an app that connects and syncs by its own decision.
func ExamplePeer_Events() {
	var (
		ctx context.Context
		p   *peer.Peer
	)
	run := func() {
		for ev := range p.Events(ctx) {
			switch ev := ev.(type) {
			case peer.DeviceDiscovered:
				go func() { _ = p.Connect(ctx, ev.Device) }()
			case peer.DeviceConnected:
				go func() { _ = p.Sync(ctx, ev.Device) }()
			case peer.DocumentChanged:
				fmt.Println(ev.Document.Subject)
			}
		}
	}
	_ = run
}
