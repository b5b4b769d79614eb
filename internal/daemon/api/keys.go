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
