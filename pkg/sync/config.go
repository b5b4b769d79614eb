package sync

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// A Config is what an Engine needs. Zero fields mean their default where one is given.
type Config struct {
	// Store keeps everything. The Engine uses it alone and does not close it.
	Store Store
	// Identity signs for the user and names the device.
	Identity peercrypto.Identity
	// Name is how the user wants to be called by members of groups, at most 128 bytes; may be empty.
	Name string
	// Logger gets warnings and life-cycle messages; default: none. Keys and contents are never logged.
	Logger *slog.Logger
	// Now tells the time; default time.Now.
	Now func() time.Time
	// Limits bounds what others can make this device hold.
	Limits Limits
}

// Limits bounds memory and disk that others can use. Zero means the default.
type Limits struct {
	SenderItems   int64         // quarantined entries of one sender; 1,000
	SenderBytes   int64         // 4 MiB
	GroupItems    int64         // quarantined entries of one group; 10,000
	GroupBytes    int64         // 64 MiB
	TotalBytes    int64         // of the whole quarantine; 256 MiB
	QuarantineAge time.Duration // how long an entry may wait; 14 days
	Offers        int           // groups offered to this user and not answered; 100
	OfferBytes    int64         // log of one offered group; 256 KiB
	OfferIDs      int           // users in groups that one member offers: so many at once, then one in 2 s; 500
	JoinIDs       int           // users in logs of joined groups that one member sends, checked for the first time: so many at once, then one in 2 s; 20,000
	JoinBytes     int64         // log of a group that is being joined; 64 MiB
	Workers       int           // goroutines that decode and verify; number of CPUs
	BadEntries    int           // refused entries in a row that end a session; 100
}

func (l Limits) withDefaults() Limits {
	def := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.SenderItems, 1_000)
	def(&l.SenderBytes, 4<<20)
	def(&l.GroupItems, 10_000)
	def(&l.GroupBytes, 64<<20)
	def(&l.TotalBytes, 256<<20)
	def(&l.OfferBytes, 256<<10)
	def(&l.JoinBytes, 64<<20)
	if l.QuarantineAge <= 0 {
		l.QuarantineAge = 14 * 24 * time.Hour
	}
	if l.Offers <= 0 {
		l.Offers = 100
	}
	if l.OfferIDs <= 0 {
		l.OfferIDs = 500
	}
	if l.JoinIDs <= 0 {
		l.JoinIDs = 20_000
	}
	if l.Workers <= 0 {
		l.Workers = runtime.GOMAXPROCS(0)
	}
	if l.BadEntries <= 0 {
		l.BadEntries = 100
	}
	return l
}

func (c Config) validate() (Config, error) {
	if c.Store == nil {
		return c, errors.New("opening the sync engine: no store configured")
	}
	if err := c.Identity.Validate(); err != nil {
		return c, fmt.Errorf("opening the sync engine: %w", err)
	}
	if len(c.Name) > peercrypto.MaxUserName {
		return c, fmt.Errorf("opening the sync engine: the user's name has %d bytes; at most %d", len(c.Name), peercrypto.MaxUserName)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Limits = c.Limits.withDefaults()
	return c, nil
}
