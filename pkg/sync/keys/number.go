package keys

import (
	"crypto/sha512"
	"fmt"
	"slices"
	"strings"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// numberRounds makes a search for a user with a similar number expensive.
const numberRounds = 5200

// Identity is what two people compare: who a user is and the key in use.
type Identity struct {
	UserID  peercrypto.ID
	Genesis peercrypto.Hash // of the user's body
	Head    peercrypto.Hash // of the last key event, or the genesis
	Key     peercrypto.PublicKey
}

// IdentityOf returns what to compare of a user with that body.
func IdentityOf(body peercrypto.UserGenesis, s State) Identity {
	return Identity{s.user, body.Hash(), s.head, s.key}
}

// SafetyNumber returns the 60 digits, in 12 groups of five, that two users read
// to each other. It is the same for both, and another one when either changes the key.
func SafetyNumber(a, b Identity) string {
	halves := []string{a.digits(), b.digits()}
	slices.Sort(halves)
	return halves[0] + " " + halves[1]
}

// digits returns a user's half: 30 digits in six groups.
func (i Identity) digits() string {
	text := append([]byte{0, 1}, i.Genesis[:]...)
	text = append(append(text, i.Key[:]...), i.UserID...)
	sum := sha512.Sum512(text)
	for range numberRounds - 1 {
		sum = sha512.Sum512(append(sum[:], i.Key[:]...))
	}
	groups := make([]string, 6)
	for g := range groups {
		var n uint64
		for _, b := range sum[5*g : 5*g+5] {
			n = n<<8 | uint64(b)
		}
		groups[g] = fmt.Sprintf("%05d", n%100_000)
	}
	return strings.Join(groups, " ")
}

// codePrefix begins the text of a QR code.
const codePrefix = "peers-verify:1:"

// Code returns the text that a user shows as a QR code. It holds both users in
// full, so that whoever scans it compares more than digits.
func Code(mine, other Identity) string {
	return codePrefix + strings.Join([]string{
		mine.Genesis.String(), mine.Head.String(), other.Genesis.String(), other.Head.String(),
	}, ":")
}

// MatchCode tells whether a scanned code shows the same two users: other is the
// one who shows it, as this device knows them.
func MatchCode(code string, mine, other Identity) bool { return code == Code(other, mine) }
