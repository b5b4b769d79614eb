package peer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/peer"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/files"
)

// claimFile writes a document about somebody else's file.
func (u *user) claimFile(group peercrypto.ID, ref files.Ref, public bool) {
	u.put(group, fmt.Sprintf(`{"type":"File","id":%q,"file":%q,"root":%q,"size":%d,"name":"mine","isPublic":%v}`,
		peer.FileDocumentID(group, ref.ID), ref.ID, ref.Root, ref.Size, public))
}

// TestFileClaimedInAnotherGroup has somebody who may write in another group of the owner's, knows a reference, which is no secret, and
// writes a document about the file there.
func TestFileClaimedInAnotherGroup(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	alice, eve := openWithFiles(t, s, "alice", peer.FileLimits{}), openWithFiles(t, s, "eve", peer.FileLimits{})
	garden, club := alice.create("garden"), alice.create("club")
	alice.invites(eve, club, groupsync.InviteOptions{})
	secret := alice.addFile(garden, randomBytes(1<<20, 1), peer.FileMeta{Name: "secret"})
	eve.claimFile(club, secret.Ref, true)
	alice.knows(club, secret.ID)

	for name, fetch := range map[string]func(ctx context.Context) error{
		"as a member":      func(ctx context.Context) error { return eve.FetchFile(ctx, club, secret.ID, nil) },
		"by the reference": func(ctx context.Context) error { return eve.FetchFileRef(ctx, secret.Ref, nil) },
	} {
		short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := fetch(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := eve.FileByRef(secret.Ref); err != nil || got.Have != 0 {
		t.Errorf("she has %+v, %v", got, err)
	}
	// The owner gives it to the club by getting it there herself.
	if err := alice.FetchFile(deadline(t), club, secret.ID, nil); err != nil {
		t.Fatal(err)
	}
	if err := eve.FetchFile(deadline(t), club, secret.ID, nil); err != nil {
		t.Error(err)
	}
}
