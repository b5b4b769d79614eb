package load

import "time"

// Members exposes the scanner to its fuzzer.
func Members(frame []byte, yield func(name, value []byte) bool) { members(frame, yield) }

// Durations exposes the histogram.
type Durations struct{ h histogram }

func (d *Durations) Add(v time.Duration) { d.h.add(v) }

func (d *Durations) Percentiles() Percentiles { return percentiles(&d.h) }
