package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// flushTime is what is left, after sessions had their window, for the rest.
const flushTime = 2 * time.Second

// parts run together. The first that fails ends the others.
type parts struct {
	wg     sync.WaitGroup
	failed chan error
}

func (p *parts) start(name string, f func() error) {
	p.wg.Go(func() {
		if err := f(); err != nil {
			select {
			case p.failed <- fmt.Errorf("%s: %w", name, err):
			default: // the first is what matters
			}
		}
	})
}

// run serves until ctx ends, an operator says so or a part fails, and ends all
// parts: first the sessions are told and have time to go, then HTTP stops, then
// what sessions use: the relay, the sources of ICE servers and the audit log.
func (a *app) run(ctx context.Context, hangups <-chan os.Signal) error {
	base := context.WithoutCancel(ctx)
	sigCtx, endSignaling := context.WithCancel(base)
	defer endSignaling()
	usedCtx, endUsed := context.WithCancel(base)
	defer endUsed()
	failed := make(chan error, 1)
	sig, rest := &parts{failed: failed}, &parts{failed: failed}
	servers := a.httpServers()
	sig.start("signaling", func() error { return a.signaling.Run(sigCtx) })
	a.startUsed(usedCtx, rest)
	for _, h := range servers {
		rest.start("http", h.serve)
	}
	a.ready.Store(true)
	a.tell(notifyReady)

	window, err := a.wait(ctx, hangups, failed)
	a.ready.Store(false)
	a.draining.Store(true)
	a.tell(notifyStopping)
	timeout := max(a.current().drainTimeout, window+flushTime)
	drain, cancel := context.WithTimeout(base, timeout)
	defer cancel()
	late := a.drainSessions(drain, window, endSignaling, sig)
	for _, h := range servers {
		h.stop(drain)
	}
	endUsed()
	if late = !within(drain, waited(&rest.wg)) || late; late && err == nil {
		err = fmt.Errorf("draining: not finished within %v", timeout)
	}
	return err
}

// startUsed starts what sessions use.
func (a *app) startUsed(ctx context.Context, p *parts) {
	p.start("ice", func() error { return a.sources.Run(ctx) })
	if a.turn != nil {
		p.start("turn", func() error { return a.turn.Run(ctx) })
	}
	if a.acme != nil {
		p.start("acme", func() error { return a.acme.run(ctx) })
	}
	if a.push != nil {
		p.start("push", func() error { return a.push.Run(ctx) })
	}
	if a.audit != nil {
		p.start("audit", func() error { return a.audit.Run(ctx) })
	}
}

// wait returns when it is time to stop, with the time that sessions have.
func (a *app) wait(ctx context.Context, hangups <-chan os.Signal, failed <-chan error) (window time.Duration, err error) {
	for {
		select {
		case <-hangups:
			_, _ = a.reload() // tells of itself
			continue
		case <-ctx.Done():
			window = a.current().drainWindow
		case window = <-a.drains:
			if window == 0 {
				window = a.current().drainWindow
			}
		case err := <-failed:
			return 0, err
		}
		a.log.Info("draining", "window", window.String())
		return window, nil
	}
}

// current are the settings after the last reload.
func (a *app) current() *settings {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	return a.settings
}

// drainSessions tells the sessions to come back within the window, elsewhere or
// to the next process, and ends those that stay.
func (a *app) drainSessions(ctx context.Context, window time.Duration, end func(), sig *parts) (late bool) {
	if window > 0 {
		if err := a.signaling.Drain(ctx, window); err != nil {
			a.log.Warn("sessions were left when the time was over", "error", err)
		}
	}
	end()
	return !within(ctx, waited(&sig.wg))
}

func waited(wg *sync.WaitGroup) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		wg.Wait()
	}()
	return done
}

func within(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

func (h httpServer) serve() error {
	if err := h.Serve(h.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// stop lets requests finish until ctx ends.
func (h httpServer) stop(ctx context.Context) {
	if err := h.Shutdown(ctx); err != nil {
		_ = h.Close()
	}
}
