package world

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A Kind of action.
type Kind uint8

// The kinds. What an action can't do, because its device is down, no member or not allowed, is skipped.
const (
	Create Kind = iota
	Invite
	Join
	Add
	Accept
	Decline
	Put
	PutMany
	Edit
	DeleteDoc
	Remove
	SetRole
	Leave
	Rename
	Uninvite
	DeleteGroup
	Purge
	SetName
	Stop
	Crash
	Full
	Backup
	Restore
	Clock
	Partition
	Heal
	Attack
	// Tamper spoils a store behind the engine's back. No plan has it; tests of the checks do.
	Tamper
	// The kinds below happen in wide histories only.
	AddOwn
	Rotate
	NewWords
	Recover
	RecoverNew
	Propose
	Approve
	Steal
	Block
	Checkpoint
	Adopt
	Manual
	Admit
	PutTTL
	Index
	Follow
	kinds
)

var kindNames = [kinds]string{
	"create", "invite", "join", "add", "accept", "decline", "put", "put-many", "edit", "delete-doc", "remove", "role", "leave",
	"rename", "uninvite", "delete-group", "purge", "name", "stop", "crash", "full", "backup", "restore", "clock", "partition", "heal", "attack", "tamper",
	"add-own", "rotate", "new-words", "recover", "recover-new", "propose", "approve", "steal", "block", "checkpoint", "adopt", "manual", "admit", "put-ttl", "index", "follow",
}

func (k Kind) String() string { return kindNames[k] }

// weights say how often a kind is drawn, out of their sum.
var weights = [kinds]int{
	Create: 1, Invite: 6, Join: 10, Add: 6, Accept: 8, Decline: 1, Put: 30, PutMany: 4, Edit: 50, DeleteDoc: 8, Remove: 9, SetRole: 9,
	Leave: 4, Rename: 5, Uninvite: 2, DeleteGroup: 1, Purge: 3, SetName: 2, Stop: 6, Crash: 10, Full: 6, Backup: 3, Restore: 2, Clock: 6,
	Partition: 8, Heal: 8, Attack: 40,
}

// quarrelsome are the weights where most are admins.
var quarrelsome = [kinds]int{
	Create: 1, Invite: 8, Join: 20, Add: 10, Accept: 12, Put: 12, PutMany: 2, Edit: 25, DeleteDoc: 4, Remove: 25, SetRole: 22, Leave: 4,
	Rename: 22, Uninvite: 3, DeleteGroup: 1, Purge: 2, SetName: 1, Stop: 5, Crash: 6, Full: 3, Backup: 2, Restore: 1, Clock: 4,
	Partition: 18, Heal: 12, Attack: 40,
}

// An Action is one thing that happens on a device. X, Y and Z choose among what there is when it happens.
type Action struct {
	At      time.Duration
	Kind    Kind
	Dev     int
	X, Y, Z uint32
}

func (a Action) String() string {
	return fmt.Sprintf("%8.3fs d%d %s %d %d %d", a.At.Seconds(), a.Dev, a.Kind, a.X, a.Y, a.Z)
}

// A Plan is a history before it happens.
type Plan struct {
	Seed    uint64
	Devices []int         // user of each device
	Evil    int           // device of a malicious member, -1 if there is none
	SQLite  bool          // stores are SQLite files, not memory
	Quarrel bool          // most are admins, and use it on each other
	Wide    bool          // keys, blocks, queries and the rest happen, too: see NewPlan
	Listed  []int         // of a wide history: how many devices of each user are on the user's list in the beginning
	Small   bool          // of a wide history: quarantines have little room
	Span    time.Duration // when actions end and everything is made whole
	Actions []Action
}

func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: users of devices %v, evil device %d, SQLite %v, %d actions in %v\n",
		p.Seed, p.Devices, p.Evil, p.SQLite, len(p.Actions), p.Span)
	for _, a := range p.Actions {
		fmt.Fprintln(&b, a)
	}
	return b.String()
}

// sqliteEvery is the share of histories on SQLite stores.
const sqliteEvery = 16

// NewPlan draws a plan; that of a seed above WideFrom is wide.
func NewPlan(seed uint64) Plan {
	if seed > WideFrom {
		return newWidePlan(seed)
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	p := Plan{Seed: seed, Evil: -1, SQLite: seed%sqliteEvery == 0, Span: time.Duration(60+rng.IntN(400)) * time.Second}
	users := 2 + rng.IntN(5)
	for u := range users {
		for range 1 + max(0, rng.IntN(10)-6)/2 {
			p.Devices = append(p.Devices, u)
		}
	}
	if users > 2 && rng.IntN(3) == 0 {
		p.Evil = slices.Index(p.Devices, users-1)
		p.Devices = p.Devices[:p.Evil+1]
	}
	p.Quarrel = users > 2 && rng.IntN(4) == 0
	p.begin(rng)
	n := 10 + rng.IntN(60)
	for range n {
		p.Actions = append(p.Actions, p.draw(rng))
	}
	slices.SortStableFunc(p.Actions, func(a, b Action) int { return cmp.Compare(a.At, b.At) })
	return p
}

func (p *Plan) action(rng *rand.Rand, at time.Duration, kind Kind, dev int) Action {
	return Action{At: at + time.Duration(rng.IntN(1e6)), Kind: kind, Dev: dev, X: rng.Uint32(), Y: rng.Uint32(), Z: rng.Uint32()}
}

// begin lets somebody make a group and invite most others.
func (p *Plan) begin(rng *rand.Rand) {
	for g := range 1 + rng.IntN(2) {
		host := rng.IntN(len(p.Devices))
		if host == p.Evil {
			host = 0
		}
		p.Actions = append(p.Actions, p.action(rng, time.Duration(1+g)*time.Second, Create, host))
		for i := range 1 + rng.IntN(2) {
			a := p.action(rng, time.Duration(2+g+i)*time.Second, Invite, host)
			a.X, a.Y = uint32(g), 5 // many uses
			p.Actions = append(p.Actions, a)
		}
		for d, u := range p.Devices {
			if u != p.Devices[host] && rng.IntN(4) > 0 {
				p.Actions = append(p.Actions, p.action(rng, time.Duration(4+g+rng.IntN(20))*time.Second, Join, d))
			}
		}
	}
}

func (p *Plan) draw(rng *rand.Rand) Action {
	total := 0
	for k := range kinds {
		total += weightOf(p, k)
	}
	n, kind := rng.IntN(total), Kind(0)
	for n >= weightOf(p, kind) {
		n -= weightOf(p, kind)
		kind++
	}
	dev := rng.IntN(len(p.Devices))
	switch {
	case p.Wide:
		dev = rng.IntN(anyDevice) // there may be more devices by then
	case kind == Attack:
		dev = p.Evil
	}
	at := 10*time.Second + time.Duration(rng.Int64N(int64(p.Span-10*time.Second)))
	return p.action(rng, at, kind, dev)
}

func weightOf(p *Plan, k Kind) int {
	if p.Wide {
		return wideWeight(p, k)
	}
	if k == Attack && p.Evil < 0 {
		return 0
	}
	if p.Quarrel {
		return quarrelsome[k]
	}
	return weights[k]
}
