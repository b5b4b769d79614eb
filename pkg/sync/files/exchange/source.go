package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/peersignal/peersignal/pkg/sync/files"
)

// source is a stream to a device that may have the file. Its goroutine owns it;
// have and expect are changed by it alone, with Fetch.mu held where the others
// look.
type source struct {
	f      *Fetch
	name   string
	stream Stream
	have   files.Bitmap
	expect []question // asked and not answered, in order
	asked  []time.Time
	chunks int // questions for chunks in expect
	window int
	polls  int          // in a row, without anything to ask for
	paged  map[int]bool // pages that were asked for
}

func (s *source) run(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	for {
		change := s.f.change()
		if err := s.ask(ctx); err != nil {
			return err
		}
		if s.chunks > 0 {
			s.polls = 0
		}
		var err error
		if len(s.expect) > 0 {
			err = s.receive(ctx)
		} else {
			err = s.idle(ctx, change)
		}
		if err != nil {
			return err
		}
	}
}

// idle waits until there may be something to ask for, or asks what there is.
func (s *source) idle(ctx context.Context, change <-chan struct{}) error {
	poll := time.NewTimer(pollEvery)
	defer poll.Stop()
	select {
	case <-change:
	case <-poll.C:
		if s.polls++; s.polls > idlePolls {
			return ErrNothing
		}
		return s.question(ctx, question{kind: askHave})
	case <-ctx.Done():
	}
	return ctx.Err()
}

func (s *source) open(ctx context.Context) error {
	if err := s.stream.WriteMessage(ctx, encodeOpen(s.f.ref)); err != nil {
		return err
	}
	a, err := s.read(ctx)
	if err != nil {
		return err
	}
	switch a.kind {
	case tellNone:
		return ErrNone
	case tellBusy:
		return ErrBusy
	case tellHave:
		if err := s.takeHave(a.body); err != nil {
			return err
		}
	default:
		return protocolError("answer %d to open", a.kind)
	}
	if s.f.p.Top() != nil {
		return nil
	}
	if err := s.question(ctx, question{kind: askTop}); err != nil {
		return err
	}
	return s.receive(ctx)
}

// read returns the next answer.
func (s *source) read(ctx context.Context) (answer, error) {
	limited, cancel := context.WithTimeoutCause(ctx, stallTimeout, ErrStalled)
	defer cancel()
	b, err := s.stream.ReadMessage(limited)
	switch {
	case err == nil:
		return decodeAnswer(b)
	case ctx.Err() == nil && limited.Err() != nil:
		return answer{}, ErrStalled
	case errors.Is(err, io.EOF):
		return answer{}, fmt.Errorf("the device ended the stream: %w", err)
	}
	return answer{}, err
}

// takeHave reads a bitmap. The number of chunks in it is the source's word.
func (s *source) takeHave(b []byte) error {
	have, err := files.CheckBitmap(s.f.ref, b)
	if err != nil {
		return protocolError("%w", err)
	}
	s.f.join(s, have)
	return nil
}

func (s *source) question(ctx context.Context, q question) error {
	if err := s.stream.WriteMessage(ctx, q.encode()); err != nil {
		if q.kind == askChunk {
			s.f.mu.Lock()
			s.f.returnLocked(q.number)
			s.f.mu.Unlock()
		}
		return err
	}
	s.expect = append(s.expect, q)
	s.asked = append(s.asked, time.Now())
	if q.kind == askChunk {
		s.chunks++
	}
	return nil
}

// ask asks for chunks as far as the window allows, each behind its page.
func (s *source) ask(ctx context.Context) error {
	for s.chunks < s.window && s.f.p.Top() != nil {
		chunk, ok := s.f.pick(s)
		if !ok {
			return nil
		}
		if err := s.askPage(ctx, chunk/files.PageLen); err != nil {
			s.f.lacks(s, chunk)
			return err
		}
		if s.f.limit != nil {
			if err := s.f.limit.WaitN(ctx, s.f.ref.ChunkLen(chunk)); err != nil {
				s.f.lacks(s, chunk)
				return err
			}
		}
		if err := s.question(ctx, question{kind: askChunk, number: chunk}); err != nil {
			return err
		}
	}
	return nil
}

// askPage asks for a page that is not here, once.
func (s *source) askPage(ctx context.Context, page int) error {
	if s.paged[page] {
		return nil
	}
	if _, err := s.f.p.Page(page); err == nil {
		return nil
	}
	if s.paged == nil {
		s.paged = map[int]bool{}
	}
	s.paged[page] = true
	return s.question(ctx, question{kind: askPage, number: page})
}

// receive takes the answer to the first question.
func (s *source) receive(ctx context.Context) error {
	a, err := s.read(ctx)
	if err != nil {
		return err
	}
	q := s.expect[0]
	if !a.answers(q) {
		return protocolError("answer %d to question %d", a.kind, q.kind)
	}
	delay := time.Since(s.asked[0])
	s.expect, s.asked = s.expect[1:], s.asked[1:]
	if q.kind == askChunk {
		s.chunks--
	}
	switch a.kind {
	case tellHave:
		return s.takeHave(a.body)
	case tellTop:
		return s.took(s.f.p.SetTop(a.body))
	case tellPage:
		return s.took(s.f.p.SetPage(a.number, a.body))
	case tellChunk:
		return s.takeChunk(a, delay)
	}
	return s.lacking(q)
}

// took sorts an error out: that of data is the source's, others are ours.
func (s *source) took(err error) error {
	if err == nil {
		s.f.mu.Lock()
		s.f.checkLocked()
		s.f.mu.Unlock()
		return nil
	}
	if errors.Is(err, files.ErrTree) || errors.Is(err, files.ErrChunk) || errors.Is(err, files.ErrNoPage) {
		return fmt.Errorf("%w: %w", ErrBadData, err)
	}
	s.f.fail(err)
	return err
}

func (s *source) takeChunk(a answer, delay time.Duration) error {
	if err := s.f.p.Put(a.number, a.body); err != nil {
		s.f.lacks(s, a.number)
		return s.took(err)
	}
	s.f.arrived(s, a.number, len(a.body))
	switch {
	case delay < quickAnswer:
		s.window = min(s.window+1, MaxWindow)
	case delay > slowAnswer:
		s.window = max(s.window-1, 1)
	}
	return nil
}

// lacking takes that the source does not have something.
func (s *source) lacking(q question) error {
	switch q.kind {
	case askChunk:
		s.f.lacks(s, q.number)
		return nil
	default:
		return ErrNone // it has not begun itself, or its tree is damaged
	}
}
