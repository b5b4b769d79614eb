package main

import (
	"fmt"
	"strings"
)

// didYouMean suggests the nearest of the names, if one is near.
func didYouMean(wrong string, names []string) string {
	best, distance := "", len(strings.TrimLeft(wrong, "-"))/3+2
	for _, n := range names {
		if d := editDistance(wrong, n); d < distance {
			best, distance = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
