package load

import "time"

// A Dialect is how devices talk to one kind of server.
type Dialect interface {
	// Name names the kind of server in reports.
	Name() string
	// Device makes device n of the run. Its methods are called by one goroutine
	// until it is in; later Read by the reader, the others under the lock of the
	// connection, at the same time.
	Device(n int) (Device, error)
}

// A Device is one device's half of a dialect. The methods with dst append a
// whole message to it and allocate nothing if dst has room.
type Device interface {
	// ID is the name under which others send to it.
	ID() string
	// Open begins a new connection.
	Open() Opening
	// Greet appends the client's first message, or nothing when the server speaks
	// first.
	Greet(dst []byte) []byte
	// Read tells what a message means. What it appends to reply is sent.
	Read(message, reply []byte) (Event, []byte)
	// Topics appends a message that adds and drops topics.
	Topics(dst []byte, id uint64, add, drop []Topic) []byte
	// Signal appends an envelope.
	Signal(dst []byte, s Signal) []byte
	// Bye appends a farewell, or nothing.
	Bye(dst []byte) []byte
}

// An Acker is a Device whose server wants to know what has arrived.
type Acker interface {
	// Ack appends an acknowledgement, or nothing when none is due. It is called
	// all 0.4 s.
	Ack(dst []byte) []byte
}

// A Topic is something that devices share and that the server introduces them by.
type Topic [16]byte

// A Signal is an envelope for another device.
type Signal struct {
	Answer bool   // to an offer
	ID     uint64 // of the message; its result comes back with it
	To     string
	Via    Topic  // that both hold
	Conn   uint64 // what comes out at the other device as [Event.Conn], below 2^48
	Size   int    // about how long the whole message should be
}

// EventKind says what a message from the server means.
type EventKind int

// The kinds of an event.
const (
	Nothing  EventKind = iota // nothing that a load cares for
	Ready                     // the device is in
	Refused                   // it is not, for Code
	Result                    // of the message ID
	Offer                     // from another device
	Answer                    // from another device
	Presence                  // who is there
	Farewell                  // the server is going to close
)

// An Event is what a message from the server means.
type Event struct {
	Kind       EventKind
	ID         uint64
	Code       string // of Result, Refused and Farewell; of Result "" when all is well
	RetryAfter time.Duration
	Conn       uint64
	Resumed    bool // with Ready: the session goes on
	Kept       bool // with Ready: the server knows the topics

	Topic   Topic  // of Presence
	Whole   bool   // Presence begins a whole list
	Join    int    // how many devices a Presence announces
	Leave   int    // how many it takes away
	Message []byte // of Presence; valid during the call
}
