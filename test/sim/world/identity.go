package world

import (
	"fmt"
	"strings"
	"sync"

	"github.com/tyler-smith/go-bip39"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

var (
	identityMu sync.Mutex
	identities = map[[2]int]peercrypto.Identity{}
)

// identity returns the n-th device of a user: the same in every history, because deriving a user's id is slow on purpose.
func identity(user, n int) (peercrypto.Identity, error) {
	identityMu.Lock()
	defer identityMu.Unlock()
	key := [2]int{user, n}
	if id, ok := identities[key]; ok {
		return id, nil
	}
	seed := func(what string) []byte {
		h := peercrypto.Sum(fmt.Appendf(nil, "simulated %s %d %d", what, user, n))
		return h[:]
	}
	userSeed := peercrypto.Sum(fmt.Appendf(nil, "simulated user %d", user))
	userKey, err := peercrypto.SigningKeyFromSeed(userSeed[:])
	if err != nil {
		return peercrypto.Identity{}, err
	}
	device, err := peercrypto.SigningKeyFromSeed(seed("device"))
	if err != nil {
		return peercrypto.Identity{}, err
	}
	box, err := peercrypto.BoxSecretKeyFromBytes(seed("box"))
	if err != nil {
		return peercrypto.Identity{}, err
	}
	id := peercrypto.Identity{
		Genesis: peercrypto.UserGenesis{V: 1, Created: 1_700_000_000_000 + int64(user), Key: userKey.Public()},
		User:    userKey, Device: device, DeviceBox: box, DeviceCreated: 1_700_000_000_000 + int64(100*user+n),
	}
	identities[key] = id
	return id, id.Validate()
}

var lists = map[[2]int][][]byte{}

// words are the n-th recovery words of a user.
func words(user, n int) peercrypto.Recovery {
	h := peercrypto.Sum(fmt.Appendf(nil, "simulated words %d %d", user, n))
	text, err := bip39.NewMnemonic(h[:])
	if err != nil {
		return peercrypto.Recovery{}
	}
	r, _ := peercrypto.ParseRecovery(strings.Fields(text)) // never fails for what NewMnemonic made
	return r
}

// wideIdentity is the n-th device of a user of wide histories, who has recovery words, and whose first devices are on the list.
func wideIdentity(user, n, listed int) (peercrypto.Identity, error) {
	id, err := identity(1000+user, n)
	if err != nil {
		return id, err
	}
	pin := words(user, 0).Pin()
	id.Genesis.Recovery = &pin
	if n < listed {
		id.History, err = list(id, user, listed)
	}
	return id, err
}

// list is the history that puts the first devices of a user on the list.
func list(id peercrypto.Identity, user, listed int) ([][]byte, error) {
	key := [2]int{user, listed}
	if raw, ok := lists[key]; ok {
		return raw, nil
	}
	s := keys.Genesis(id.Genesis)
	for n := range listed {
		d, err := identity(1000+user, n)
		if err != nil {
			return nil, err
		}
		ev, err := keys.NewAddDevice(s, keys.Signers{Key: id.User, New: d.Device}, d.DeviceID(), id.Genesis.Created+int64(n))
		if err == nil {
			s, err = s.Apply(ev)
		}
		if err != nil {
			return nil, err
		}
		raw, err := ev.Canonical()
		if err != nil {
			return nil, err
		}
		lists[key] = append(lists[key], raw)
	}
	return lists[key], nil
}
