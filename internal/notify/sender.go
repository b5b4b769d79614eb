package notify

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	webpush "github.com/SherClockHolmes/webpush-go"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Bounds of a message.
const (
	// MaxMessage is the longest sealed message, in characters of its text.
	MaxMessage = 12_000
	// MaxTTL is how long a push service may keep a message.
	MaxTTL = 7 * 24 * time.Hour
	// partSize is how much of the text goes into one push: with the rest of the payload it stays under the 3,993
	// bytes that every push service takes.
	partSize = 3_000
	attempts = 4
)

// Errors of Push.
var (
	// ErrGone is returned when the push service said that the subscription has ended.
	ErrGone = errors.New("the device's push subscription has ended")
	// ErrBusy is returned when too many pushes wait, or the device got too many lately.
	ErrBusy = errors.New("too many notifications at once: try again in a minute")
	// ErrTooLarge is returned for a message over MaxMessage.
	ErrTooLarge = fmt.Errorf("a notification has at most %d characters", MaxMessage)
)

// Message is one sealed notification.
type Message struct {
	ID     string        // of the message; parts with the same belong together
	From   peercrypto.ID // device that sends it
	Eph    string        // ephemeral key of the seal, b64
	Sealed string        // b64u
	// TTL is how long it is worth delivering; at most MaxTTL, 0 is now or never.
	TTL time.Duration
}

// part is the payload of one push.
type part struct {
	V      int           `json:"v"`
	ID     string        `json:"id"`
	From   peercrypto.ID `json:"from"`
	Part   int           `json:"part"` // from 0
	Parts  int           `json:"parts"`
	Eph    string        `json:"eph"`
	Sealed string        `json:"ct"` // this part of the text
}

// job is one push on its way.
type job struct {
	sub     Subscription
	payload []byte
	until   time.Time // when it is not worth it any more
	due     time.Time // of the next attempt
	tried   int
}

// Sender pushes. Make it with New; its methods are safe for concurrent use.
type Sender struct {
	cfg     Config
	keys    keys
	jobs    chan job
	later   chan job
	gone    *memory[struct{}] // endpoints
	rates   *memory[bucket]   // devices
	metrics *metrics
}

// New checks the configuration and makes a Sender. Nothing is sent before Run.
func New(cfg Config) (*Sender, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configuring notifications: %w", err)
	}
	k, err := deriveKeys(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("configuring notifications: %w", err)
	}
	s := &Sender{
		cfg: cfg, keys: k, jobs: make(chan job, cfg.Queue), later: make(chan job, cfg.Workers),
		gone: newMemory[struct{}](cfg.TokenLife, cfg.Now()), rates: newMemory[bucket](2*time.Minute, cfg.Now()),
	}
	s.metrics = newMetrics(s)
	if cfg.Registerer != nil {
		if err := s.metrics.register(cfg.Registerer); err != nil {
			return nil, fmt.Errorf("registering the metrics of notifications: %w", err)
		}
	}
	return s, nil
}

// PublicKey is the application server key with which browsers subscribe: an uncompressed point of P-256, base64url.
func (s *Sender) PublicKey() string { return s.keys.public }

// Push takes a message for the device of a token, all of it or nothing. It returns ErrToken, ErrGone, ErrBusy or
// ErrTooLarge; nil means that it is queued.
func (s *Sender) Push(token string, to peercrypto.ID, m Message) error {
	t, err := s.open(token)
	if err != nil || t.Device != to {
		s.metrics.refused("token")
		return ErrToken
	}
	if len(m.Sealed) == 0 || len(m.Sealed) > MaxMessage {
		s.metrics.refused("too-large")
		return ErrTooLarge
	}
	if s.gone.has(endpointKey(t.Sub.Endpoint)) {
		s.metrics.refused("gone")
		return ErrGone
	}
	now := s.cfg.Now()
	if !s.rates.update(sha256.Sum256([]byte(to)), now, func(b *bucket) bool { return b.take(s.cfg.PerMinute, now) }) {
		s.metrics.refused("rate")
		return ErrBusy
	}
	jobs, err := jobsOf(t.Sub, m, now)
	if err != nil {
		return err
	}
	if len(jobs) > cap(s.jobs)-len(s.jobs) {
		s.metrics.refused("queue-full")
		return ErrBusy
	}
	for _, j := range jobs {
		select {
		case s.jobs <- j:
		default: // others were quicker; what is in the queue of this message is of no use, and harmless
			s.metrics.refused("queue-full")
			return ErrBusy
		}
	}
	s.metrics.accepted.Inc()
	return nil
}

// jobsOf cuts a message into pushes.
func jobsOf(sub Subscription, m Message, now time.Time) ([]job, error) {
	parts := (len(m.Sealed) + partSize - 1) / partSize
	until := now.Add(min(max(m.TTL, 0), MaxTTL))
	out := make([]job, parts)
	for i := range out {
		payload, err := json.Marshal(part{
			V: 1, ID: m.ID, From: m.From, Eph: m.Eph, Part: i, Parts: parts,
			Sealed: m.Sealed[i*partSize : min((i+1)*partSize, len(m.Sealed))],
		})
		if err != nil {
			return nil, fmt.Errorf("encoding a push: %w", err)
		}
		out[i] = job{sub: sub, payload: payload, until: until}
	}
	return out, nil
}

// Run pushes until ctx ends; what waits then is dropped and counted. It returns after its workers.
func (s *Sender) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range s.cfg.Workers {
		wg.Go(func() { s.work(ctx) })
	}
	wg.Go(func() { s.wait(ctx) })
	wg.Wait()
	for {
		select {
		case <-s.jobs:
			s.metrics.done("dropped")
		case <-s.later:
			s.metrics.done("dropped")
		default:
			return nil
		}
	}
}

func (s *Sender) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-s.jobs:
			s.deliver(ctx, j)
		}
	}
}

// deliver makes one attempt of a push and sees to the next.
func (s *Sender) deliver(ctx context.Context, j job) {
	j.tried++
	outcome, wait := s.push(ctx, j)
	if outcome != "retry" {
		s.metrics.done(outcome)
		return
	}
	now := s.cfg.Now()
	if j.tried >= attempts || wait > j.until.Sub(now) || wait > time.Minute {
		s.metrics.done("failed")
		return
	}
	j.due = now.Add(wait)
	select {
	case s.later <- j:
		s.metrics.retries.Inc()
	default:
		s.metrics.done("dropped")
	}
}

// wait owns what is to be tried again, so that a push service that is down holds up nobody else's pushes. It holds as
// many as the queue does.
func (s *Sender) wait(ctx context.Context) {
	var waiting []job
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		later := s.later
		if len(waiting) >= s.cfg.Queue {
			later = nil // deliver drops what has no room in the channel
		}
		select {
		case <-ctx.Done():
			for range waiting {
				s.metrics.done("dropped")
			}
			return
		case j := <-later:
			waiting = append(waiting, j)
		case <-tick.C:
			now := s.cfg.Now()
			waiting = slices.DeleteFunc(waiting, func(j job) bool {
				if j.due.After(now) {
					return false
				}
				select {
				case s.jobs <- j:
					return true
				default:
					return false // the queue is full: at the next tick
				}
			})
		}
	}
}

// push makes one attempt. The outcome is pushed, gone, refused, or retry with the time to wait.
func (s *Sender) push(ctx context.Context, j job) (outcome string, wait time.Duration) {
	wait = time.Second << (2 * (j.tried - 1)) // 1, 4, 16 s
	if s.gone.has(endpointKey(j.sub.Endpoint)) {
		return "gone", 0
	}
	resp, err := webpush.SendNotificationWithContext(ctx, j.payload, &webpush.Subscription{
		Endpoint: j.sub.Endpoint, Keys: webpush.Keys{Auth: j.sub.Auth, P256dh: j.sub.P256dh},
	}, &webpush.Options{
		HTTPClient: s.cfg.Client, Subscriber: contactOf(s.cfg.Contact), TTL: int(max(0, j.until.Sub(s.cfg.Now())).Seconds()),
		Urgency: webpush.UrgencyHigh, VAPIDPublicKey: s.keys.public, VAPIDPrivateKey: s.keys.private,
	})
	if err != nil {
		if errors.Is(err, errPrivate) {
			return "refused", 0
		}
		s.cfg.Logger.Debug("push failed", "error", plain(err))
		return "retry", wait
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10))
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return "pushed", 0
	case code == http.StatusNotFound || code == http.StatusGone:
		s.gone.update(endpointKey(j.sub.Endpoint), s.cfg.Now(), func(*struct{}) bool { return true })
		return "gone", 0
	case code == http.StatusTooManyRequests || code >= 500:
		if after, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && after >= 0 {
			wait = max(wait, time.Duration(min(after, 3600))*time.Second)
		}
		return "retry", wait
	default:
		s.cfg.Logger.Warn("a push service refuses", "status", code)
		return "refused", 0
	}
}
