package world

import (
	"fmt"
	"sync"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
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
