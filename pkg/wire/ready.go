package wire

import (
	"errors"
	"strings"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Ready says that the session is authenticated.
type Ready struct {
	Session       peercrypto.Nonce `json:"session"`
	You           You              `json:"you"`
	ICE           []ICEServer      `json:"ice"`
	ICEExpires    int64            `json:"iceExpires"`    // ms, 0: never
	Resume        string           `json:"resume"`        // token to go on with this session, or ""
	ResumeExpires int64            `json:"resumeExpires"` // ms, of the token; 0 without
	Resumed       bool             `json:"resumed"`       // the session of auth's token goes on
	Topics        int              `json:"topics"`        // tags that the session holds already
}

// You is what the server sees of the client.
type You struct {
	Addr string `json:"addr"` // ip:port
}

// ICEServer is one entry of RTCConfiguration.iceServers.
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

type readyFrame struct {
	T string `json:"type"`
	Ready
}

// Type is "ready".
func (*Ready) Type() string { return typeReady }

func (m *Ready) frame() any {
	f := readyFrame{typeReady, *m}
	if f.ICE == nil {
		f.ICE = []ICEServer{}
	}
	return f
}

func (m *Ready) validate() error {
	if m.Session == (peercrypto.Nonce{}) {
		return errors.New("session is missing")
	}
	if len(m.You.Addr) > 64 {
		return errors.New("addr is too long")
	}
	if len(m.Resume) > 64 || m.ResumeExpires < 0 || m.ResumeExpires > MaxID {
		return errors.New("resume is malformed")
	}
	if m.Topics < 0 || m.Topics > MaxTopics {
		return errors.New("topics is out of range")
	}
	return checkICE(m.ICE, m.ICEExpires)
}

func checkICE(servers []ICEServer, expires int64) error {
	if expires < 0 || expires > MaxID {
		return errors.New("iceExpires is out of range")
	}
	if len(servers) > MaxICEServers {
		return errors.New("too many ICE servers")
	}
	for _, s := range servers {
		if len(s.URLs) == 0 || len(s.URLs) > MaxICEURLs {
			return errors.New("an ICE server has no or too many urls")
		}
		for _, u := range s.URLs {
			if !isICEURL(u) {
				return errors.New("an ICE server's url has none of the schemes stun, stuns, turn and turns")
			}
		}
		if len(s.Username) > maxText || len(s.Credential) > maxText {
			return errors.New("an ICE credential is too long")
		}
	}
	return nil
}

func isICEURL(u string) bool {
	scheme, rest, ok := strings.Cut(u, ":")
	if !ok || rest == "" || len(u) > maxText {
		return false
	}
	switch scheme {
	case "stun", "stuns", "turn", "turns":
		return true
	default:
		return false
	}
}

// Refused says that there will be no session; the server closes.
type Refused struct {
	Code       Code   `json:"code"`
	Message    string `json:"message"`
	Name       string `json:"name,omitempty"`       // with use-name: the name to dial
	RetryAfter int64  `json:"retryAfter,omitempty"` // ms
}

type refusedFrame struct {
	T string `json:"type"`
	Refused
}

// Type is "refused".
func (*Refused) Type() string { return typeRefused }

func (m *Refused) frame() any { return refusedFrame{typeRefused, *m} }

func (m *Refused) validate() error {
	if !m.Code.valid() {
		return errors.New("code is malformed")
	}
	if len(m.Name) > maxServerName || (m.Code == CodeUseName && m.Name == "") {
		return errors.New("name is missing or too long")
	}
	if m.RetryAfter < 0 {
		return errors.New("retryAfter is negative")
	}
	return checkText("message", m.Message)
}
