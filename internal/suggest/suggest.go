// Package suggest finds the word that was meant.
package suggest

import (
	"slices"
	"strings"
)

// Nearest is the known word that is nearest to a wrong one, or "" when none is
// near. Of flags the dashes in front do not count as letters.
func Nearest(wrong string, known []string) string {
	if len(known) == 0 {
		return ""
	}
	best := slices.MinFunc(known, func(a, b string) int { return distance(wrong, a) - distance(wrong, b) })
	if distance(wrong, best) > len(strings.TrimLeft(wrong, "-"))/3+1 {
		return ""
	}
	return best
}

// distance is how many letters have to be put in, taken out or replaced.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
