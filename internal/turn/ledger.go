package turn

import (
	"sync"
	"sync/atomic"
	"time"
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
	allocs  int      // guarded by ledger.mu
	limiter *limiter // nil: no bound
}

type user struct {
	tag    string
	allocs int // guarded by ledger.mu

	mu    sync.Mutex   // held to change the day
	day   atomic.Int64 // since the epoch, UTC
	bytes atomic.Int64 // relayed on that day
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
			s.limiter = newLimiter(l.bytesPerSecond)
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
		if b := u.bytesOn(clockOf(now).day); least < 0 || b < least {
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
		if p.user.allocs--; p.user.allocs == 0 && p.user.bytesOn(clockOf(now).day) == 0 {
			delete(l.users, p.user.tag)
		}
	})
}

// clock is a moment, in the forms that packets are counted with.
type clock struct {
	nanos int64 // since the epoch
	day   int64 // since the epoch, UTC
}

func clockOf(t time.Time) clock { return clock{t.UnixNano(), t.Unix() / secondsPerDay} }

// spend counts n relayed bytes. The first result says that the packet may
// pass; the second that the user's day is used up.
func (p *place) spend(n int, now clock) (ok, exhausted bool) {
	if p.session.limiter != nil && !p.session.limiter.allow(n, now.nanos) {
		return false, false
	}
	if p.user.add(int64(n), now.day, p.ledger.bytesPerDay) {
		return true, false
	}
	return false, true
}

func (u *user) bytesOn(d int64) int64 {
	if u.day.Load() != d {
		return 0
	}
	return u.bytes.Load()
}

func (u *user) hasBytes(now time.Time, limit int64) bool {
	return limit < 0 || u.bytesOn(clockOf(now).day) < limit
}

func (u *user) add(n, d, limit int64) bool {
	if u.day.Load() < d {
		u.mu.Lock()
		if u.day.Load() < d {
			u.bytes.Store(0)
			u.day.Store(d)
		}
		u.mu.Unlock()
	}
	total := u.bytes.Add(n)
	return limit < 0 || total <= limit
}
