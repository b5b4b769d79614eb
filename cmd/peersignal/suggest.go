package main

import (
	"fmt"

	"github.com/peersignal/peersignal/internal/suggest"
)

// didYouMean suggests the nearest of the names, if one is near.
func didYouMean(wrong string, names []string) string {
	best := suggest.Nearest(wrong, names)
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}
