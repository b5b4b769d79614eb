package crypto

import (
	"fmt"
	"strconv"
)

// DayMillis is the length of a block of stock changes or documents.
const DayMillis = 86_400_000

// StockEntry is what a block hash covers of a change or document.
type StockEntry struct {
	ID       string `json:"id"`
	Modified int64  `json:"modified"` // unix milliseconds
}

// StockBlock names a block of documents and its hash.
type StockBlock struct {
	BlockID string `json:"blockId"`
	Hash    Hash   `json:"-"`
}

// ChangeBlockID returns the name of the block of changes that a time in unix
// milliseconds falls in: "B" and 8 digits of days.
func ChangeBlockID(modified int64) string { return fmt.Sprintf("B%08d", floorDay(modified)) }

// DataBlockID returns the name of the block of documents that a time in unix
// milliseconds falls in: "B" and days, not padded.
func DataBlockID(modified int64) string { return "B" + strconv.FormatInt(floorDay(modified), 10) }

func floorDay(ms int64) int64 {
	day := ms / DayMillis
	if ms%DayMillis < 0 {
		day--
	}
	return day
}

// HashEntries returns the hash of a block: of [{id, modified}…] in the given
// order, which stock peers make that of modified, then id.
func HashEntries(entries []StockEntry) (Hash, error) {
	return hashValue("a stock block", entries)
}

// HashChildren returns the hash of a prefix of changes: of the object of its
// children's names and hashes.
func HashChildren(children map[string]Hash) (Hash, error) {
	hexes := make(map[string]string, len(children))
	for name, h := range children {
		hexes[name] = h.Hex()
	}
	return hashValue("a stock prefix", hexes)
}

// HashBlocks returns the hash of a level of documents: of
// [{blockId, hashes}…] in the given order.
func HashBlocks(blocks []StockBlock) (Hash, error) {
	type block struct {
		BlockID string `json:"blockId"`
		Hashes  string `json:"hashes"`
	}
	list := make([]block, len(blocks))
	for i, b := range blocks {
		list[i] = block{b.BlockID, b.Hash.Hex()}
	}
	return hashValue("a stock level", list)
}

func hashValue(what string, v any) (Hash, error) {
	canonical, err := MarshalCanonical(v)
	if err != nil {
		return Hash{}, fmt.Errorf("hashing %s: %w", what, err)
	}
	return Sum(canonical), nil
}
