package world

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// WideFrom is the seed above which histories are wide. Those of the others stay what they were.
const WideFrom = 1_000_000

// anyDevice is above the number of devices, and a multiple of most numbers that there may be.
const anyDevice = 2520

// wide are the weights of wide histories.
var wide = [kinds]int{
	Create: 1, Invite: 8, Join: 12, Add: 4, Accept: 8, Decline: 1, Put: 30, PutMany: 3, Edit: 40, DeleteDoc: 6, Remove: 4, SetRole: 6,
	Leave: 2, Rename: 5, Uninvite: 1, DeleteGroup: 1, Purge: 2, SetName: 1, Stop: 8, Crash: 8, Full: 4, Backup: 3, Restore: 2, Clock: 4,
	Partition: 12, Heal: 10, Attack: 20,
	AddOwn: 10, Rotate: 14, NewWords: 3, Recover: 4, RecoverNew: 3, Propose: 8, Approve: 14, Steal: 3, Block: 3, Checkpoint: 4, Adopt: 10,
	Manual: 3, Admit: 8, PutTTL: 8, Index: 8, Follow: 10,
}

func wideWeight(p *Plan, k Kind) int {
	switch {
	case p.Quarrel && (k == Remove || k == SetRole || k == Rename || k == Block):
		return 4 * wide[k]
	case k == Steal && p.Seed%3 > 0 || k == Attack && p.Seed%3 > 0 && p.Evil < 0:
		return 0 // in most histories nobody is malicious
	}
	return wide[k]
}

// newWidePlan draws a wide plan: fewer users with more devices.
func newWidePlan(seed uint64) Plan {
	rng := rand.New(rand.NewPCG(seed, 2))
	p := Plan{
		Seed: seed, Wide: true, Evil: -1, SQLite: seed%sqliteEvery == 0, Small: rng.IntN(3) == 0,
		Span: time.Duration(60+rng.IntN(300)) * time.Second,
	}
	users := 2 + rng.IntN(3)
	for u := range users {
		n := 1 + rng.IntN(3)
		for range n {
			p.Devices = append(p.Devices, u)
		}
		p.Listed = append(p.Listed, n)
		if n == 1 || rng.IntN(5) == 0 {
			p.Listed[u] = 0
		}
	}
	if users > 2 && rng.IntN(5) == 0 {
		p.Evil = slices.Index(p.Devices, users-1)
		p.Devices = p.Devices[:p.Evil+1]
		p.Listed[users-1] = 0
	}
	p.Quarrel = rng.IntN(5) == 0
	p.begin(rng)
	for range 20 + rng.IntN(60) {
		p.Actions = append(p.Actions, p.draw(rng))
	}
	slices.SortStableFunc(p.Actions, func(a, b Action) int { return cmp.Compare(a.At, b.At) })
	return p
}

// limits are those of every device.
func (w *World) limits() groupsync.Limits {
	l := groupsync.Limits{Workers: 1}
	if w.plan.Small {
		l.SenderItems, l.GroupItems, l.SenderBytes, l.GroupBytes, l.TotalBytes = 3, 5, 4<<10, 6<<10, 8<<10
	}
	return l
}

// attackerOf is a malicious device: this one, or the first one.
func (w *World) attackerOf(d *device) *device {
	if i := slices.IndexFunc(w.devices, func(d *device) bool { return d.evil && !d.gone }); !d.evil && i >= 0 {
		return w.devices[i]
	}
	return d
}

// over tells whether a document's time is over.
func (w *World) over(doc []byte) bool {
	ttl, ok := groupsync.TTL(doc)
	return ok && ttl <= w.clock()
}

// clock is what clocks show that are right, or were set together in the end.
func (w *World) clock() int64 { return time.Now().Add(epoch + w.shift).UnixMilli() }
