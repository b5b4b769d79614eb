package sync

// ofSeveral stands for the origin of entries that came from more than one place, or is not known.
const ofSeveral = -2

// sharing counts the entries that become shared in a batch.
type sharing struct {
	entries int
	origin  int64 // of all of them, or ofSeveral
}

func (s *sharing) add(origin int64) {
	if s.entries++; s.entries == 1 {
		s.origin = origin
	} else if s.origin != origin {
		s.origin = ofSeveral
	}
}

// A stretch tells that all entries of a group that were shared at positions above from, up to to, have one origin. So a session does not read again what the
// other side has just brought.
type stretch struct{ from, to, origin int64 }

// moveHead notes what a batch shared. Only the Engine's writer calls it.
func (g *replica) moveHead(position int64, s sharing) {
	next := stretch{g.head.Load(), position, s.origin}
	if last := g.last.Load(); last != nil && last.origin == s.origin && last.to == next.from {
		next.from = last.from
	}
	g.last.Store(&next)
	g.head.Store(position)
}

// behind returns the end of the stretch in which a position lies if all of it came from origin, and otherwise the position.
func (g *replica) behind(position, origin int64) int64 {
	if last := g.last.Load(); last != nil && last.origin == origin && last.from <= position && position < last.to {
		return last.to
	}
	return position
}
