package files

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
)

const (
	// ChunkSize is the length of every chunk of a file but the last, in bytes.
	ChunkSize = 256 << 10
	// PageLen is how many chunks a page of the tree covers.
	PageLen = 1024
	// MaxSize is the largest file, in bytes: 1 TiB.
	MaxSize = 1 << 40

	hashLen = 32
)

// ID names a file: the SHA-256 of its content.
type ID [hashLen]byte

// ParseID reads 64 lower-case hex characters.
func ParseID(text string) (ID, error) {
	var id ID
	return id, parseHex(id[:], text)
}

// String returns the lower-case hex form.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first 8 characters, for logs.
func (id ID) Short() string { return id.String()[:8] }

// MarshalText is String.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is ParseID.
func (id *ID) UnmarshalText(text []byte) error { return parseHex(id[:], string(text)) }

// Root is the root of a file's hash tree.
type Root [hashLen]byte

// ParseRoot reads 64 lower-case hex characters.
func ParseRoot(text string) (Root, error) {
	var r Root
	return r, parseHex(r[:], text)
}

// String returns the lower-case hex form.
func (r Root) String() string { return hex.EncodeToString(r[:]) }

// MarshalText is String.
func (r Root) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRoot.
func (r *Root) UnmarshalText(text []byte) error { return parseHex(r[:], string(text)) }

func parseHex(dst []byte, text string) error {
	if len(text) != hex.EncodedLen(len(dst)) || strings.ToLower(text) != text {
		return fmt.Errorf("%w: want %d lower-case hex characters", ErrRef, hex.EncodedLen(len(dst)))
	}
	if _, err := hex.Decode(dst, []byte(text)); err != nil {
		return fmt.Errorf("%w: want %d lower-case hex characters", ErrRef, hex.EncodedLen(len(dst)))
	}
	return nil
}

// Ref is what has to be known of a file to fetch it from anybody.
type Ref struct {
	ID   ID
	Root Root
	Size int64 // bytes
}

// refPrefix begins the text of a Ref.
const refPrefix = "peers:file#"

// Text returns the form that people pass on. It is no secret: it opens nothing.
func (r Ref) Text() string { return fmt.Sprintf("%s%s.%s.%d", refPrefix, r.ID, r.Root, r.Size) }

// ParseRef reads the text of a Ref.
func ParseRef(text string) (Ref, error) {
	rest, ok := strings.CutPrefix(text, refPrefix)
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 3 {
		return Ref{}, fmt.Errorf("%w: want %sID.ROOT.SIZE", ErrRef, refPrefix)
	}
	var r Ref
	if err := parseHex(r.ID[:], parts[0]); err != nil {
		return Ref{}, err
	}
	if err := parseHex(r.Root[:], parts[1]); err != nil {
		return Ref{}, err
	}
	size, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || strconv.FormatInt(size, 10) != parts[2] {
		return Ref{}, fmt.Errorf("%w: the size is no number", ErrRef)
	}
	r.Size = size
	return r, r.Validate()
}

// Validate reports whether the size is possible.
func (r Ref) Validate() error {
	if r.Size < 0 {
		return fmt.Errorf("%w: the size is negative", ErrRef)
	}
	if r.Size > MaxSize {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, r.Size, int64(MaxSize))
	}
	return nil
}

// Chunks returns how many chunks the file has.
func (r Ref) Chunks() int { return int((r.Size + ChunkSize - 1) / ChunkSize) }

// Pages returns how many pages its tree has.
func (r Ref) Pages() int { return (r.Chunks() + PageLen - 1) / PageLen }

// ChunkLen returns the length of a chunk, 0 for one that the file does not have.
func (r Ref) ChunkLen(chunk int) int {
	if chunk < 0 || chunk >= r.Chunks() {
		return 0
	}
	return int(min(r.Size-int64(chunk)*ChunkSize, ChunkSize))
}

// pageBytes returns the length of a page of hashes, 0 for one that is not there.
func (r Ref) pageBytes(page int) int {
	if page < 0 || page >= r.Pages() {
		return 0
	}
	return min(r.Chunks()-page*PageLen, PageLen) * hashLen
}

// bitmapLen returns the bytes of a bitmap of the chunks.
func (r Ref) bitmapLen() int { return (r.Chunks() + 7) / 8 }

// Bitmap holds a bit for each chunk, the first one in the lowest bit of the
// first byte.
type Bitmap []byte

// NewBitmap returns an empty bitmap for the chunks of a file.
func NewBitmap(r Ref) Bitmap { return make(Bitmap, r.bitmapLen()) }

// Has reports whether the bit of a chunk is set.
func (b Bitmap) Has(chunk int) bool {
	return chunk >= 0 && chunk/8 < len(b) && b[chunk/8]&(1<<(chunk%8)) != 0
}

// Set sets the bit of a chunk that the bitmap has room for.
func (b Bitmap) Set(chunk int) { b[chunk/8] |= 1 << (chunk % 8) }

// Clear clears the bit of a chunk that the bitmap has room for.
func (b Bitmap) Clear(chunk int) { b[chunk/8] &^= 1 << (chunk % 8) }

// Fill sets the bits of all chunks of a file.
func (b Bitmap) Fill(r Ref) {
	for i := range b {
		b[i] = math.MaxUint8
	}
	b.trim(r)
}

// trim clears the bits behind the last chunk.
func (b Bitmap) trim(r Ref) {
	if over := r.Chunks() % 8; over != 0 && len(b) > 0 {
		b[len(b)-1] &= 1<<over - 1
	}
}

// CheckBitmap returns b as the bitmap of a file when it has its length and no
// bit behind its last chunk.
func CheckBitmap(r Ref, b []byte) (Bitmap, error) {
	if len(b) != r.bitmapLen() {
		return nil, fmt.Errorf("%w: a bitmap of %d bytes for %d chunks", ErrRef, len(b), r.Chunks())
	}
	if over := r.Chunks() % 8; over != 0 && b[len(b)-1]>>over != 0 {
		return nil, fmt.Errorf("%w: a bitmap with more than %d chunks", ErrRef, r.Chunks())
	}
	return b, nil
}
