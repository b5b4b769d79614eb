package crypto

// What golden vectors need: the same functions with the randomness given.
var (
	SealBoxWith        = sealBox
	SealWith           = seal
	EncodeKeystoreWith = encodeKeystoreWith
	DecodeKeystore     = decodeKeystore
	NewIDCache         = newIDCache
)

// Get and Put expose the cache of ids.
func (c *idCache) Get(key Hash) (ID, bool) { return c.get(key) }

// Put stores an id.
func (c *idCache) Put(key Hash, id ID) { c.put(key, id) }

// RecoveryOf makes a recovery secret of known bytes.
func RecoveryOf(entropy [32]byte) Recovery { return recoveryOf(entropy) }
