package main

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/nbd-wtf/go-nostr"
	"github.com/nbd-wtf/go-nostr/nip77/negentropy"
	"github.com/nbd-wtf/go-nostr/nip77/negentropy/storage/vector"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

// load reads a store into what negentropy's Go implementation works on.
func load(store *sqlite.Store) (*vector.Vector, error) {
	v := vector.New()
	err := store.View(context.Background(), func(r groupsync.Reader) error {
		list, err := r.Refs(scope, groupsync.Ref{}, groupsync.Ref{Modified: 1 << 62}, 1<<40)
		for _, ref := range list {
			v.Insert(nostr.Timestamp(ref.Modified), hex.EncodeToString(ref.Hash[:]))
		}
		return err
	})
	v.Seal()
	return v, err
}

// theirs reconciles the same sets with negentropy. Loading them is not counted.
func theirs(a, b *sqlite.Store, frameLimit, want int) (result, error) {
	var res result
	va, err := load(a)
	if err != nil {
		return res, err
	}
	vb, err := load(b)
	if err != nil {
		return res, err
	}
	res.watch()
	client, server := negentropy.New(va, frameLimit), negentropy.New(vb, frameLimit)
	found := make(chan int, 2)
	for _, ch := range []chan string{client.Haves, client.HaveNots} {
		go func() {
			n := 0
			for range ch {
				n++
			}
			found <- n
		}()
	}
	stop := res.a.start()
	msg := client.Start()
	stop()
	for msg != "" {
		res.trips++
		res.a.say(msg)
		stop := res.b.start()
		reply, err := server.Reconcile(msg)
		stop()
		if err != nil {
			return res, err
		}
		res.b.say(reply)
		stop = res.a.start()
		msg, err = client.Reconcile(reply)
		stop()
		if err != nil {
			return res, err
		}
	}
	res.done()
	if n := <-found + <-found; n < want { // with short frames it finds some twice
		return res, fmt.Errorf("negentropy found %d differences, want %d", n, want)
	}
	return res, nil
}

// say counts a message, which this implementation writes in hexadecimal digits.
func (c *cost) say(msg string) {
	c.bytes += len(msg) / 2
	c.frames++
}
