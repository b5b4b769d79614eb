package main

// wideFrom is package world's WideFrom: behind it are the histories that notice the bugs below.
const wideFrom = 1_000_000

var wideBugs = []bug{
	{"what a replaced key wrote counts", "pkg/sync/group/bring.go",
		"g.frontiers = append(g.frontiers, entry.Frontier(r.rekey.entry.Op))", "_ = r",
		"entries outside of a rekey's frontier count"},
	{"the key does not travel", "pkg/sync/keys_travel.go",
		"s.tell(ownFrame(out).encode(frameGive))", "_ = out",
		"the user's other devices keep the old key"},
	{"sessions go on under a replaced key", "pkg/sync/keys_pins.go",
		"return ok && key != p.UserKey", "return ok && key != p.UserKey && false",
		"a revoked device is told what happens in groups"},
	{"nothing settles a fork of keys", "pkg/sync/keys/history.go",
		"len(steps) > 1 && steps[0].Class.Compare(ByKey) <= 0", "len(steps) > 1",
		"a key stays frozen whatever the words sign"},
	{"a watched query keeps what leaves it", "pkg/sync/find.go",
		"return w.fn(Change{Removed, d})", "return nil",
		"the picture of a query is not its result"},
}
