package api

// UserKeys is the answer of GET /v1/keys/{user}.
type UserKeys struct {
	User      string     `json:"user"`
	Self      bool       `json:"self"`
	Key       string     `json:"key"`
	Genesis   string     `json:"genesis"` // hash
	Trust     string     `json:"trust"`   // "seen", "introduced" or "verified"
	Since     int64      `json:"since"`   // of Trust, unix ms
	Rotated   bool       `json:"rotated,omitempty"`
	Frozen    bool       `json:"frozen,omitempty"` // two keys contend
	Ended     bool       `json:"ended,omitempty"`  // revoked, and there is no other
	Conflicts []string   `json:"conflicts,omitempty"`
	Events    []KeyEvent `json:"events"`
}

// KeyEvent is a step of a history of keys.
type KeyEvent struct {
	Seq    int64  `json:"seq"`
	Op     string `json:"op"`
	By     string `json:"by"` // "key", "quorum" or "recovery"
	Reason string `json:"reason,omitempty"`
	Key    string `json:"key,omitempty"`
	Time   int64  `json:"time"`   // unix ms, by its author's clock
	Stands bool   `json:"stands"` // false for what lost a fork or contends
}

// SafetyNumber is the answer of GET /v1/keys/{user}/safety-number, and the body
// of POST /v1/keys/{user}/verify, which needs no User.
type SafetyNumber struct {
	User   string `json:"user,omitempty"`
	Number string `json:"number"`
}

// Card is the answer of GET /v1/keys/{user}/card.
type Card struct {
	User   string `json:"user"`
	Card   string `json:"card"`
	Groups int    `json:"groups"` // to which it is a way back
}

// OwnDevice is a device of the daemon's user, in GET /v1/devices.
type OwnDevice struct {
	Device string `json:"device"`
	Key    string `json:"key"`
	Self   bool   `json:"self,omitempty"`
	Listed bool   `json:"listed"` // gets new keys and counts for a majority
	HasKey bool   `json:"hasKey"` // was met under the key in force
}

// AddDevice is the body of POST /v1/devices; AddedDevice the answer.
type AddDevice struct {
	Request string `json:"request"` // "peers:device#…"
}

// AddedDevice is the answer of POST /v1/devices.
type AddedDevice struct {
	Device  string `json:"device"`
	Welcome string `json:"welcome"` // "peers:welcome#…"
}

// Rotate is the body of POST /v1/rotate.
type Rotate struct {
	Reason  string   `json:"reason,omitempty"`  // "rotated", "lost" or "compromised"; default rotated
	Without []string `json:"without,omitempty"` // devices that are taken off the list
}

// Propose is the body of POST /v1/proposals.
type Propose struct {
	Reason  string   `json:"reason,omitempty"` // as in Rotate; default lost
	Without []string `json:"without,omitempty"`
	Revoke  bool     `json:"revoke,omitempty"` // end the key without a new one
}

// Proposal is a change of keys that waits for a majority of devices.
type Proposal struct {
	Proposal string   `json:"proposal"`
	What     string   `json:"what"` // "rotate" or "revoke"
	Reason   string   `json:"reason"`
	Without  []string `json:"without,omitempty"`
	Key      string   `json:"key,omitempty"` // the new one
	Signed   []string `json:"signed"`        // devices
	Missing  int      `json:"missing"`       // signatures
	Mine     bool     `json:"mine,omitempty"`
	Since    int64    `json:"since"` // unix ms
}
