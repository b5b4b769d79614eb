package crypto

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// ErrID is matched by every refusal of an id.
var ErrID = errors.New("invalid id")

const (
	idTimeLen   = 10
	idRandomLen = 15
	idLen       = idTimeLen + idRandomLen
	idMaxLen    = 128
	oldIDLen    = 32
	// maxIDTime is the first millisecond that 10 base36 characters cannot hold.
	maxIDTime = 3656158440062976
	// clockSkew is how far ahead of our clock another clock may be.
	clockSkew = 5 * time.Minute
)

const base36Digits = "0123456789abcdefghijklmnopqrstuvwxyz"

// ID is the name of a user, group, device, document or change: 25 lower-case
// base36 characters (unix milliseconds in 10, then 15), optionally followed by
// suffixes of the form ":[0-9a-z]+", at most 128 in all. The zero value is no
// valid id. Two ids are the same if their texts are.
type ID string

// NewID returns an id with the time now and 15 random characters.
func NewID(now time.Time) ID {
	id := make([]byte, 0, idLen)
	id = appendBase36(id, uint64(max(now.UnixMilli(), 0)), idTimeLen)
	var pool [2 * idRandomLen]byte
	for len(id) < idLen {
		_, _ = rand.Read(pool[:]) // never fails, see crypto/rand
		for _, b := range pool {
			// 252 is the largest multiple of 36 in a byte: above it the
			// remainder would favour the first digits.
			if b < 252 && len(id) < idLen {
				id = append(id, base36Digits[b%36])
			}
		}
	}
	return ID(id)
}

// ParseID reads an id.
func ParseID(s string) (ID, error) {
	if len(s) > idMaxLen || len(s) < idLen || !isBase36(s[:idLen]) || !isSuffixes(s[idLen:]) {
		return "", fmt.Errorf("parsing an id: %w: want 25 characters of 0-9 and a-z, then optional :suffixes", ErrID)
	}
	return ID(s), nil
}

// ParseStockID is [ParseID] but accepts also the oldest form of stock objects,
// 32 lower-case hex characters with optional suffixes. Such an id has no time.
func ParseStockID(s string) (ID, error) {
	if isOldID(s) {
		return ID(s), nil
	}
	return ParseID(s)
}

// Time returns the time in the id. It is false for the oldest form and for what
// is no id.
func (id ID) Time() (time.Time, bool) {
	if _, err := ParseID(string(id)); err != nil {
		return time.Time{}, false
	}
	ms, err := strconv.ParseInt(string(id[:idTimeLen]), 36, 64)
	if err != nil {
		return time.Time{}, false
	}
	return time.UnixMilli(ms), true
}

// Short returns the first 6 characters of the random part, for logs; all of
// what is shorter than that.
func (id ID) Short() string {
	if len(id) < idLen || isOldID(string(id)) {
		return string(id[:min(len(id), 6)])
	}
	return string(id[idTimeLen : idTimeLen+6])
}

// CheckTime refuses an id whose time is 5 minutes or more ahead of now. An id
// without a time passes.
func (id ID) CheckTime(now time.Time) error {
	t, ok := id.Time()
	if ok && t.Sub(now) >= clockSkew {
		return fmt.Errorf("checking the time of id %s: %w: it is in the future: compare the clocks", id.Short(), ErrID)
	}
	return nil
}

// check refuses everything but a plain id of 25 characters.
func (id ID) check() error {
	if len(id) != idLen || !isBase36(string(id)) {
		return fmt.Errorf("%w: want 25 characters of 0-9 and a-z", ErrID)
	}
	return nil
}

// millis returns the time of a plain id.
func (id ID) millis() int64 {
	ms, _ := strconv.ParseInt(string(id[:idTimeLen]), 36, 64)
	return ms
}

func isBase36(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// isSuffixes accepts any number of ":[0-9a-z]+".
func isSuffixes(s string) bool {
	for len(s) > 0 {
		if s[0] != ':' {
			return false
		}
		n := 1
		for n < len(s) && isBase36(s[n:n+1]) {
			n++
		}
		if n == 1 {
			return false
		}
		s = s[n:]
	}
	return true
}

func isOldID(s string) bool {
	if len(s) < oldIDLen || len(s) > idMaxLen || !isSuffixes(s[oldIDLen:]) {
		return false
	}
	for i := range oldIDLen {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// appendBase36 appends the low digits of v, padded with zeros to width.
func appendBase36(dst []byte, v uint64, width int) []byte {
	at := len(dst)
	for range width {
		dst = append(dst, '0')
	}
	for i := at + width - 1; i >= at; i-- {
		dst[i] = base36Digits[v%36]
		v /= 36
	}
	return dst
}
