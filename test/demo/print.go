package main

import (
	"fmt"
	"os"
	"time"
)

func (d *demo) title(text string) { _, _ = fmt.Fprintf(d.out, "\n%s\n", text) }

func (d *demo) say(who, format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, "  %-12s %s\n", who, fmt.Sprintf(format, args...))
}

func (d *demo) explainKept() {
	d.title("Still running; try")
	bin := d.world.Bin.Peerd
	for _, daemon := range d.world.Daemons {
		_, _ = fmt.Fprintf(d.out, "  %s --data %s status\n", bin, daemon.Dir)
	}
	_, _ = fmt.Fprintf(d.out, "  stop: kill")
	for _, daemon := range d.world.Daemons {
		_, _ = fmt.Fprintf(d.out, " %d", daemon.Process.PID())
	}
	_, _ = fmt.Fprintf(d.out, " %d; rm -r %s\n", d.world.Server.PID(), d.world.Dir)
}

func since(began time.Time) string { return round(time.Since(began)).String() }

func round(t time.Duration) time.Duration {
	if t < time.Second {
		return t.Round(time.Millisecond)
	}
	return t.Round(10 * time.Millisecond)
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func size(bytes int64) string {
	switch {
	case bytes >= 1<<20:
		return fmt.Sprintf("%.1f MB", float64(bytes)/(1<<20))
	case bytes >= 1<<10:
		return fmt.Sprintf("%.1f KB", float64(bytes)/(1<<10))
	}
	return fmt.Sprintf("%d B", bytes)
}
