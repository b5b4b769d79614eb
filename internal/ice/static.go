package ice

import (
	"context"
	"fmt"
	"time"
)

// Limits of what a client is told, which are those of the signaling protocol.
const (
	maxServers       = 32
	maxURLsPerServer = 16
	maxCredential    = 1024 // bytes, of a username and of a credential
)

// Static is a fixed list of servers.
type Static struct{ servers []Server }

// NewStatic validates and copies the list: at most 32 servers of 1 to 16 URLs
// each. A turn URL needs a username and a credential; a stun URL that stands
// alone must have none.
func NewStatic(servers []Server) (*Static, error) {
	if len(servers) > maxServers {
		return nil, fmt.Errorf("configuring ICE servers: %d given, the most is %d", len(servers), maxServers)
	}
	for i, s := range servers {
		if err := s.validate(); err != nil {
			return nil, fmt.Errorf("configuring ICE server %d: %w", i+1, err)
		}
	}
	return &Static{servers: cloneServers(servers)}, nil
}

func (s Server) validate() error {
	if len(s.URLs) == 0 || len(s.URLs) > maxURLsPerServer {
		return fmt.Errorf("it has %d URLs, must have 1 to %d", len(s.URLs), maxURLsPerServer)
	}
	if len(s.Username) > maxCredential || len(s.Credential) > maxCredential {
		return fmt.Errorf("its username or credential has more than %d bytes", maxCredential)
	}
	turn := false
	for _, text := range s.URLs {
		u, err := ParseURL(text)
		if err != nil {
			return err
		}
		turn = turn || u.IsTURN()
	}
	switch hasBoth, hasNone := s.Username != "" && s.Credential != "", s.Username == "" && s.Credential == ""; {
	case turn && !hasBoth:
		return fmt.Errorf("%s: a turn URL needs username and credential", s.URLs[0])
	case !turn && !hasNone:
		return fmt.Errorf("%s: a stun URL takes no username and no credential", s.URLs[0])
	}
	return nil
}

// Name implements Source.
func (*Static) Name() string { return "static" }

// ICEServers implements Source; it never fails and its result never expires.
func (s *Static) ICEServers(context.Context, Request) (Result, error) {
	return Result{Servers: cloneServers(s.servers), Expires: time.Time{}}, nil
}
