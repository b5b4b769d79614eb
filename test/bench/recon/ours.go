package main

import (
	"context"
	"crypto/sha256"
	"fmt"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/recon"
	"github.com/peersignal/peersignal/pkg/sync/sqlite"
)

// source reads a store as a session does.
type source struct{ r groupsync.Reader }

func stored(r recon.Ref) groupsync.Ref { return groupsync.Ref{Modified: r.Modified, Hash: r.Hash} }

func read(r groupsync.Ref) recon.Ref { return recon.Ref{Modified: r.Modified, Hash: r.Hash} }

func (x source) Summary(lo, hi recon.Ref) (recon.Summary, error) {
	s, err := x.r.Summary(scope, stored(lo), stored(hi))
	return recon.Summary(s), err
}

func (x source) Split(lo, hi recon.Ref, parts int) ([]recon.Part, error) {
	list, err := x.r.Split(scope, stored(lo), stored(hi), parts)
	out := make([]recon.Part, len(list))
	for i, p := range list {
		out[i] = recon.Part{End: read(p.End), Summary: recon.Summary(p.Summary)}
	}
	return out, err
}

func (x source) Refs(lo, hi recon.Ref, limit int) ([]recon.Ref, error) {
	list, err := x.r.Refs(scope, stored(lo), stored(hi), limit)
	out := make([]recon.Ref, len(list))
	for i, ref := range list {
		out[i] = read(ref)
	}
	return out, err
}

// A side is one device; frames come with the number of frames that had to come before them.
type side struct {
	*recon.Exchange
	store *sqlite.Store
	depth int
	found int // differences: sent or asked for
	cost  *cost
	over  bool
}

type frame struct {
	bytes []byte
	depth int
}

// turn lets a side go on until it is idle.
func (s *side) turn() (out []frame, err error) {
	stop := s.cost.start()
	defer stop()
	for {
		var step recon.Step
		err := s.store.View(context.Background(), func(r groupsync.Reader) error {
			var err error
			step, err = s.Next(source{r})
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, send := range step.Send {
			s.found += len(send.Only)
		}
		if step.Frame != nil {
			s.cost.bytes += len(step.Frame)
			s.cost.frames++
			out = append(out, frame{step.Frame, s.depth + 1})
		}
		s.over = step.Over
		if step.Idle && step.Frame == nil {
			return out, nil
		}
	}
}

// ours reconciles two stores.
func ours(a, b *sqlite.Store, want int) (result, error) {
	var res result
	rec := recon.Reconciler{Salt: sha256.Sum256([]byte("session"))}.Round(1)
	asks := &side{Exchange: rec.Ask(), store: a, cost: &res.a}
	answers := &side{Exchange: rec.Answer(), store: b, cost: &res.b}
	res.watch()
	var toB []frame
	for {
		frames, err := asks.turn()
		if err != nil {
			return res, err
		}
		toB = frames
		if asks.over && len(frames) == 0 {
			break
		}
		over := asks.over
		replies, err := pass(answers, toB)
		if err != nil {
			return res, err
		}
		if over { // what it says now only confirms
			break
		}
		for _, f := range replies {
			if err := asks.Receive(f.bytes); err != nil {
				return res, err
			}
			asks.depth = max(asks.depth, f.depth)
		}
	}
	res.done()
	res.trips = (asks.depth + 1) / 2
	if asks.found+answers.found != want {
		return res, fmt.Errorf("%d differences were found, want %d", asks.found+answers.found, want)
	}
	return res, nil
}

// pass hands frames to a side, which goes on after each.
func pass(s *side, frames []frame) (out []frame, err error) {
	for _, f := range frames {
		if err := s.Receive(f.bytes); err != nil {
			return nil, err
		}
		s.depth = max(s.depth, f.depth)
		replies, err := s.turn()
		if err != nil {
			return nil, err
		}
		out = append(out, replies...)
	}
	return out, nil
}
