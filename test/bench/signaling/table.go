//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"strings"
)

const reference = "gws, bare"

// print writes a table in Markdown: each figure, and its ratio to the bare gws
// server's.
func (t *table) print(to io.Writer, z sizes) {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d devices in pairs; %d idle sessions; a group of %d. In parentheses: the ratio to %s.\n\n",
		z.pairs, z.idle, z.group, reference)
	b.WriteString("| |")
	for _, name := range t.names {
		fmt.Fprintf(&b, " %s |", name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(t.names)) + "\n")
	for _, figure := range []string{
		messages, cpu, median, tail, loadCPU, memory, logins, loginCPU, newcomer, newcomers, leaver,
	} {
		fmt.Fprintf(&b, "| %s |", figure)
		for _, name := range t.names {
			fmt.Fprintf(&b, " %s |", t.cell(name, figure))
		}
		b.WriteString("\n")
	}
	_, _ = io.WriteString(to, b.String())
}

func (t *table) cell(name, figure string) string {
	value := t.median(name, figure)
	if math.IsNaN(value) {
		return "–"
	}
	text := fmt.Sprintf("%.2f", value)
	if value >= 100 {
		text = fmt.Sprintf("%.0f", value)
	}
	if base := t.median(reference, figure); base > 0 && name != reference {
		text += fmt.Sprintf(" (%.2f)", value/base)
	}
	return text
}
