package sync_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

func wantFrame(group peercrypto.ID, hashes ...peercrypto.Hash) []byte {
	f := append([]byte{0x06, byte(len(group))}, group...)
	f = binary.AppendUvarint(f, uint64(len(hashes)))
	for _, h := range hashes {
		f = append(f, h[:]...)
	}
	return f
}

func namesFrame(users ...peercrypto.ID) []byte {
	f := []byte{0x0b, byte(len(users))}
	for _, u := range users {
		f = append(append(f, byte(len(u))), u...)
	}
	return f
}

// TestNothingOfOtherGroups has a member of one group ask for everything of another one: entries by their hashes, under the name of either group,
// and the documents of users.
func TestNothingOfOtherGroups(t *testing.T) {
	a, b, c := newNode(t, 0), newNode(t, 1), newNode(t, 2)
	shared, other := a.create("shared"), a.create("other")
	join(t, a, shared, entry.Write, b)
	join(t, a, other, entry.Write, c)
	hashes := func(group peercrypto.ID) (out []peercrypto.Hash) {
		for _, raw := range a.exportLog(group) {
			ent, err := entry.Decode(slices.Clone(raw))
			must(t, err)
			out = append(out, ent.Hash)
		}
		return out
	}
	pa, pb := newPipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.NewSession(b.peer(), pa).Run(ctx) }()
	talk := newRaw(t, pb)
	talk.hello()
	for _, frame := range [][]byte{
		wantFrame(shared, hashes(other)...), wantFrame(other, hashes(other)...), namesFrame(c.UserID()),
		wantFrame(shared, hashes(shared)...), namesFrame(a.UserID(), c.UserID()), // may have the first ones
	} {
		talk.send(groupsync.Control, frame)
	}
	secrets := map[string]string{"the other group": string(other), "its member": string(c.UserID())}
	wait, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	for entries, users := false, false; !entries || !users; {
		_, f, err := pb.Recv(wait)
		must(t, err)
		for what, secret := range secrets {
			if bytes.Contains(f, []byte(secret)) {
				t.Errorf("a frame of type %#x tells %s", f[0], what)
			}
		}
		entries = entries || f[0] == 0x10 && bytes.Contains(f, []byte(shared))
		users = users || f[0] == 0x0c && bytes.Contains(f, []byte(a.UserID()))
	}
	cancel()
	<-ended
}
