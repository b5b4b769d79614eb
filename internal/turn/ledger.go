package turn

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Why an allocation was refused; the values are metric labels.
const (
	refuseSession   = "session_quota"
	refuseUser      = "user_quota"
	refuseTotal     = "total_quota"
	refuseDay       = "bytes_per_day"
	refuseTransport = "transport"
	refuseFamily    = "family"
	refusePort      = "no_port"
	refuseClosed    = "shutdown"
	refuseRevoked   = "revoked"
)

const (
	secondsPerDay = 86400
	minBurst      = 64 << 10
	idleUsers     = 1 << 14
)

// ledger holds what every session and user has. A place is taken before an
// allocation is made and given back when its relay closes, so that requests
// that run at the same time cannot exceed a limit together.
type ledger struct {
	perSession, perUser, total int
	bytesPerSecond             int
	bytesPerDay                int64

	mu       sync.Mutex
	count    int
	sessions map[string]*session // those with allocations
	users    map[string]*user    // those with allocations or bytes counted
}

type session struct {
	tag     string
	allocs  int           // guarded by ledger.mu
	limiter *rate.Limiter // nil: no bound
}

type user struct {
	tag    string
	allocs int // guarded by ledger.mu

	mu    sync.Mutex
	day   int64 // since the epoch, UTC
	bytes int64 // relayed on that day
}

func newLedger(cfg Config) *ledger {
	return &ledger{
		perSession: cfg.AllocationsPerSession, perUser: cfg.AllocationsPerUser, total: cfg.AllocationsTotal,
		bytesPerSecond: cfg.BytesPerSecond, bytesPerDay: cfg.BytesPerDay,
		sessions: make(map[string]*session), users: make(map[string]*user),
	}
}

// place is one allocation's share of the quotas.
type place struct {
	ledger  *ledger
	session *session
	user    *user
	once    sync.Once
}

// reserve takes a place, or says which limit is in the way.
func (l *ledger) reserve(sessionTag, userTag string, now time.Time) (*place, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, u := l.sessions[sessionTag], l.users[userTag]
	switch {
	case l.count >= l.total:
		return nil, refuseTotal
	case s != nil && s.allocs >= l.perSession:
		return nil, refuseSession
	case u != nil && u.allocs >= l.perUser:
		return nil, refuseUser
	case u != nil && !u.hasBytes(now, l.bytesPerDay):
		return nil, refuseDay
	}
	if s == nil {
		s = &session{tag: sessionTag}
		if l.bytesPerSecond > 0 {
			s.limiter = rate.NewLimiter(rate.Limit(l.bytesPerSecond), max(l.bytesPerSecond, minBurst))
		}
		l.sessions[sessionTag] = s
	}
	if u == nil {
		if len(l.users) >= l.total+idleUsers {
			l.evictLocked(now)
		}
		u = &user{tag: userTag}
		l.users[userTag] = u
	}
	s.allocs++
	u.allocs++
	l.count++
	return &place{ledger: l, session: s, user: u}, ""
}

// evictLocked makes room for one user. It looks at a few idle users and
// forgets the one with the fewest bytes today; whoever is forgotten begins the
// day again, which costs the server one day's bytes at most.
func (l *ledger) evictLocked(now time.Time) {
	const sample = 16
	var victim *user
	least, seen := int64(-1), 0
	for _, u := range l.users {
		if u.allocs > 0 {
			continue
		}
		if b := u.bytesOn(day(now)); least < 0 || b < least {
			victim, least = u, b
		}
		if seen++; seen == sample || least == 0 {
			break
		}
	}
	if victim != nil {
		delete(l.users, victim.tag)
	}
}

// release gives the place back. It is idempotent.
func (p *place) release(now time.Time) {
	p.once.Do(func() {
		l := p.ledger
		l.mu.Lock()
		defer l.mu.Unlock()
		l.count--
		if p.session.allocs--; p.session.allocs == 0 {
			delete(l.sessions, p.session.tag)
		}
		if p.user.allocs--; p.user.allocs == 0 && p.user.bytesOn(day(now)) == 0 {
			delete(l.users, p.user.tag)
		}
	})
}

// spend counts n relayed bytes. The first result says that the packet may
// pass; the second that the user's day is used up.
func (p *place) spend(n int, now time.Time) (ok, exhausted bool) {
	if p.session.limiter != nil && !p.session.limiter.AllowN(now, n) {
		return false, false
	}
	if p.user.add(int64(n), now, p.ledger.bytesPerDay) {
		return true, false
	}
	return false, true
}

func day(now time.Time) int64 { return now.Unix() / secondsPerDay }

func (u *user) bytesOn(d int64) int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.day != d {
		return 0
	}
	return u.bytes
}

func (u *user) hasBytes(now time.Time, limit int64) bool {
	return limit < 0 || u.bytesOn(day(now)) < limit
}

func (u *user) add(n int64, now time.Time, limit int64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if d := day(now); u.day != d {
		u.day, u.bytes = d, 0
	}
	u.bytes += n
	return limit < 0 || u.bytes <= limit
}
