package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/keys"
)

// ErrThisDevice is returned for a device that would take itself off the user's list.
var ErrThisDevice = errors.New("a device can't take itself off the list: do it on another one")

// ErrNoDevice is returned for a device that is not on the user's list.
var ErrNoDevice = errors.New("the device is not on the list of your devices")

const (
	maxProposals = 8
	// proposedFor is how long a proposal waits for signatures.
	proposedFor = 30 * 24 * time.Hour
)

// A proposal is what a majority of devices is to sign: events that follow each other.
type proposal struct {
	Events []keys.Event `json:"events"`
	Seed   string       `json:"seed,omitempty"` // base64url, of the new key: with the device that proposed it
	Since  int64        `json:"since"`          // when it came here
}

func (p proposal) id() peercrypto.Hash { return p.Events[len(p.Events)-1].Hash() }

// A Proposal is a change of the user's keys that waits until a majority of devices has signed it.
type Proposal struct {
	ID      peercrypto.Hash
	Events  []keys.Event
	Signed  []peercrypto.ID // devices
	Missing int             // how many more have to sign
	Mine    bool            // this device proposed it
	Since   time.Time
}

// ProposeOptions says what a majority of devices is asked to do.
type ProposeOptions struct {
	Revoke  bool            // end the key without another one; else a new key is set
	Without []peercrypto.ID // devices that are taken off the list before
	Reason  keys.Reason
}

// chainFrame is what own devices tell each other of their user's keys (frame CHAIN).
type chainFrame struct {
	V         int            `json:"v"` // 1
	Events    []keys.Event   `json:"events,omitzero"`
	Proposals [][]keys.Event `json:"proposals,omitzero"`
}

// base is where the next event of a majority of devices goes: behind what stands, or, if somebody else's key stands, behind the
// last event that led to this device's key.
func (e *Engine) base(k UserKeys) (keys.State, []keys.Event) {
	if k.Pin.Frozen || k.History.State.Ended() || k.History.State.Key() == e.cfg.Identity.User.Public() {
		return k.History.State, k.History.Line
	}
	line := e.ownLine()
	return e.stateOf(line), line
}

// baseOf is where a proposal goes: there, or to an earlier place at which this device's key was in force.
func (e *Engine) baseOf(k UserKeys, events []keys.Event) (keys.State, []keys.Event) {
	s, line := e.base(k)
	if len(events) == 0 || events[0].Prev == s.Head() {
		return s, line
	}
	for _, known := range [][]keys.Event{e.ownLine(), k.History.Line} {
		for i := range len(known) + 1 {
			if at := e.stateOf(known[:i]); at.Head() == events[0].Prev && at.Key() == e.cfg.Identity.User.Public() {
				return at, known[:i]
			}
		}
	}
	return s, line
}

// collect checks a proposal and tells how many devices still have to sign.
func collect(s keys.State, events []keys.Event) (missing int, err error) {
	if len(events) == 0 || len(events) > keys.MaxDevices {
		return 0, fmt.Errorf("checking a proposal: %w", keys.ErrEvent)
	}
	for _, ev := range events {
		next, n, err := s.Collect(ev)
		if err != nil {
			return 0, fmt.Errorf("checking a proposal: %w", err)
		}
		s, missing = next, max(missing, n)
	}
	return missing, nil
}

// signers are the devices that have signed something of it.
func signers(events []keys.Event) []peercrypto.ID {
	var out []peercrypto.ID
	for _, ev := range events {
		out = append(out, ev.Signers()...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// signAll adds the signature of this device wherever it counts.
func (e *Engine) signAll(s keys.State, events []keys.Event) ([]keys.Event, error) {
	me := keys.Device{ID: e.deviceID, Key: e.cfg.Identity.Device.Public()}
	if !s.Listed(me) {
		return nil, fmt.Errorf("signing for your devices: %w", ErrNoDevice)
	}
	out := slices.Clone(events)
	for i, ev := range out {
		if s.Listed(me) {
			out[i] = ev.SignDevice(keys.DeviceSigner{ID: me.ID, Key: e.cfg.Identity.Device})
		}
		next, err := s.Follow(ev)
		if err != nil {
			return nil, fmt.Errorf("signing for your devices: %w", err)
		}
		s = next
	}
	return out, nil
}

// ProposeKeys asks the other devices of this user to sign a change of keys that needs neither the key nor the 24 words. It counts as
// soon as a majority has signed; that can be now. IdentityChanged follows when a new key is in force.
func (e *Engine) ProposeKeys(ctx context.Context, o ProposeOptions) (Proposal, error) {
	if err := e.enter(); err != nil {
		return Proposal{}, err
	}
	defer e.active.Done()
	k, err := e.observe(ctx, e.userID, nil, nil)
	if err != nil {
		return Proposal{}, err
	}
	s, _ := e.base(k)
	p, err := e.draft(s, o)
	if err != nil {
		return Proposal{}, fmt.Errorf("proposing a change of keys: %w", err)
	}
	err = e.changeSelf(ctx, func(r *selfRecord) error {
		mine := func(q proposal) bool { return q.Seed != "" }
		if p.Seed != "" {
			r.Proposals = slices.DeleteFunc(r.Proposals, mine)
		}
		if len(r.Proposals) >= maxProposals {
			return fmt.Errorf("proposing a change of keys: %d proposals wait: %w", len(r.Proposals), ErrLimit)
		}
		r.Proposals = append(r.Proposals, p)
		return nil
	})
	if err != nil {
		return Proposal{}, err
	}
	out, err := e.show(s, p)
	if err == nil {
		err = e.conclude(ctx)
	}
	return out, err
}

// draft makes a proposal with the signature of this device.
func (e *Engine) draft(s keys.State, o ProposeOptions) (proposal, error) {
	p := proposal{Since: e.now()}
	at := s
	for _, id := range o.Without {
		i := slices.IndexFunc(at.Devices(), func(d keys.Device) bool { return d.ID == id })
		if i < 0 {
			return p, fmt.Errorf("device %s: %w", id.Short(), ErrNoDevice)
		}
		if id == e.deviceID {
			return p, fmt.Errorf("device %s: %w", id.Short(), ErrThisDevice)
		}
		ev := at.Draft(keys.Event{Op: keys.RevokeDevice, By: keys.ByQuorum, Device: &at.Devices()[i], Modified: e.now()})
		next, err := at.Follow(ev)
		if err != nil {
			return p, err
		}
		p.Events, at = append(p.Events, ev), next
	}
	last := keys.Event{Op: keys.Revoke, By: keys.ByQuorum, Reason: o.Reason, Modified: e.now()}
	if o.Revoke {
		p.Events = append(p.Events, at.Draft(last))
	} else {
		next, err := peercrypto.GenerateSigningKey()
		if err != nil {
			return p, err
		}
		public := next.Public()
		last.Op, last.Key = keys.Rotate, &public
		p.Events = append(p.Events, at.Draft(last).SignNew(next))
		p.Seed = peercrypto.EncodeB64u(next.ExportSeed())
	}
	if at.Quorum() == 0 {
		return p, fmt.Errorf("%d of your devices would be on the list, and two at least have to sign: %w", len(at.Devices()), keys.ErrNoQuorum)
	}
	var err error
	if p.Events, err = e.signAll(s, p.Events); err == nil {
		_, err = collect(s, p.Events)
	}
	return p, err
}

func (e *Engine) show(s keys.State, p proposal) (Proposal, error) {
	missing, err := collect(s, p.Events)
	return Proposal{
		ID: p.id(), Events: p.Events, Signed: signers(p.Events), Missing: missing, Mine: p.Seed != "", Since: time.UnixMilli(p.Since),
	}, err
}

// Proposals lists what waits for signatures of this user's devices, oldest first.
func (e *Engine) Proposals(ctx context.Context) ([]Proposal, error) {
	if err := e.enter(); err != nil {
		return nil, err
	}
	defer e.active.Done()
	k, err := e.observe(ctx, e.userID, nil, nil)
	if err != nil {
		return nil, err
	}
	out := []Proposal{}
	for _, p := range e.proposals() {
		s, _ := e.baseOf(k, p.Events)
		if shown, err := e.show(s, p); err == nil && !superseded(k, s) {
			out = append(out, shown)
		}
	}
	return out, nil
}

func (e *Engine) proposals() []proposal {
	e.selfMu.Lock()
	defer e.selfMu.Unlock()
	return slices.Clone(e.self.Proposals)
}

// ApproveKeys signs a proposal with this device's key. Who does it has made sure that the proposal is their own.
func (e *Engine) ApproveKeys(ctx context.Context, id peercrypto.Hash) (Proposal, error) {
	if err := e.enter(); err != nil {
		return Proposal{}, err
	}
	defer e.active.Done()
	k, err := e.observe(ctx, e.userID, nil, nil)
	if err != nil {
		return Proposal{}, err
	}
	list := e.proposals()
	i := slices.IndexFunc(list, func(p proposal) bool { return p.id() == id })
	if i < 0 {
		return Proposal{}, fmt.Errorf("approving a change of keys: %w", ErrNotFound)
	}
	p := list[i]
	s, _ := e.baseOf(k, p.Events)
	if p.Events, err = e.signAll(s, p.Events); err != nil {
		return Proposal{}, fmt.Errorf("approving a change of keys: %w", err)
	}
	if _, err = e.takeProposal(ctx, s, p.Events); err != nil {
		return Proposal{}, fmt.Errorf("approving a change of keys: %w", err)
	}
	out, err := e.show(s, p)
	if err != nil {
		return out, fmt.Errorf("approving a change of keys: %w", err)
	}
	return out, e.conclude(ctx)
}

// conclude makes events of what a majority has signed, and forgets what can't become one any more.
func (e *Engine) conclude(ctx context.Context) error {
	defer e.ownChanged()
	k, err := e.observe(ctx, e.userID, nil, nil)
	if err != nil {
		return err
	}
	for _, p := range e.proposals() {
		s, line := e.baseOf(k, p.Events)
		missing, err := collect(s, p.Events)
		stale := err == nil && superseded(k, s)
		rotates := p.Events[len(p.Events)-1].Op == keys.Rotate
		switch {
		case err != nil || stale || e.now() > p.Since+proposedFor.Milliseconds():
			err = e.dropProposal(ctx, p.id())
		case missing > 0 || rotates && p.Seed == "":
			continue // the device with the new key makes the event, so that no key is set that nobody has
		case rotates:
			return e.keepLine(ctx, selfRecord{Seed: p.Seed}.key(), slices.Concat(line, p.Events), nil) // the engine is opened anew
		default:
			if _, err = e.observe(ctx, e.userID, nil, p.Events); err == nil {
				return e.dropProposal(ctx, p.id())
			}
		}
		if err != nil {
			return fmt.Errorf("changing keys by a majority of devices: %w", err)
		}
	}
	return nil
}

// superseded tells whether a majority or the words have decided behind a place already.
func superseded(k UserKeys, s keys.State) bool {
	for _, ev := range k.History.Line {
		if ev.Prev == s.Head() {
			return ev.By != keys.ByKey
		}
	}
	return false
}

func (e *Engine) dropProposal(ctx context.Context, id peercrypto.Hash) error {
	return e.changeSelf(ctx, func(r *selfRecord) error {
		r.Proposals = slices.DeleteFunc(r.Proposals, func(p proposal) bool { return p.id() == id })
		return nil
	})
}

// ownChanged makes sessions with other own devices tell them.
func (e *Engine) ownChanged() {
	e.ownGeneration.Add(1)
	e.bus.wakeAll()
}

// chain is what other own devices are told.
func (e *Engine) chain(k UserKeys) ownFrame {
	f := chainFrame{V: 1}
	_, f.Events = e.base(k)
	for _, p := range e.proposals() {
		f.Proposals = append(f.Proposals, p.Events)
	}
	raw, err := peercrypto.MarshalCanonical(f)
	for err == nil && len(raw) > maxOwnFrame && len(f.Proposals) > 0 {
		f.Proposals = f.Proposals[1:]
		raw, err = peercrypto.MarshalCanonical(f)
	}
	if err != nil || len(raw) > maxOwnFrame {
		return nil
	}
	return raw
}

// takeChain learns what another own device knows of the user's keys.
func (e *Engine) takeChain(ctx context.Context, raw ownFrame) error {
	var f chainFrame
	if err := peercrypto.UnmarshalStrict(raw, &f); err != nil {
		return fmt.Errorf("reading what another device knows of the keys: %w", err)
	}
	if f.V != 1 || len(f.Events) > maxUserEvents || len(f.Proposals) > maxProposals {
		return errors.New("reading what another device knows of the keys: unknown form or too much")
	}
	if !keys.Connected(keys.GenesisOf(e.userID, e.cfg.Identity.Genesis), f.Events) {
		return fmt.Errorf("reading what another device knows of the keys: %w", keys.ErrEvent)
	}
	before, err := e.observe(ctx, e.userID, nil, nil)
	if err != nil {
		return err
	}
	k, err := e.observe(ctx, e.userID, nil, f.Events)
	if err != nil {
		return err
	}
	if err := e.followLine(ctx, k); err != nil {
		return err
	}
	changed := k.Pin.Head != before.Pin.Head || k.Pin.Frozen != before.Pin.Frozen
	for _, events := range f.Proposals {
		s, _ := e.baseOf(k, events)
		merged, err := e.takeProposal(ctx, s, events)
		if err != nil {
			return err
		}
		changed = changed || merged
	}
	if changed {
		return e.conclude(ctx)
	}
	return nil
}

// takeProposal adds signatures that came, and proposals that are new here. What does not follow the history here is left out: it is
// told again when the history has come.
func (e *Engine) takeProposal(ctx context.Context, s keys.State, events []keys.Event) (changed bool, err error) {
	if _, err := collect(s, events); err != nil {
		e.log.Debug("a proposal was left out", "err", err)
		return false, nil
	}
	id := proposal{Events: events}.id()
	fresh := false
	err = e.changeSelf(ctx, func(r *selfRecord) error {
		i := slices.IndexFunc(r.Proposals, func(p proposal) bool { return p.id() == id })
		if i < 0 {
			if len(r.Proposals) >= maxProposals {
				return errAborted
			}
			r.Proposals = append(r.Proposals, proposal{Events: events, Since: e.now()})
			fresh, changed = true, true
			return nil
		}
		mine := slices.Clone(r.Proposals[i].Events)
		for j := range min(len(mine), len(events)) {
			var more bool
			mine[j], more = mine[j].Merge(events[j])
			changed = changed || more
		}
		if !changed {
			return errAborted
		}
		r.Proposals[i].Events = mine
		return nil
	})
	if fresh && err == nil {
		e.bus.publish(Alarm{Text: "another of your devices asks this one to agree to a change of your key: peerd key proposals"})
	}
	return changed, err
}
