package ice

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	maxReplyServers = 16
	// minLife is the shortest life of a provider's credential that can be put
	// to use: clients are told, connect, and must not be asked to renew at once.
	minLife = 2 * time.Minute
)

// texts is a JSON string, a list of strings, or null.
type texts []string

// UnmarshalJSON implements json.Unmarshaler.
func (t *texts) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*t = make(texts, 1)
		return json.Unmarshal(b, &(*t)[0])
	}
	return json.Unmarshal(b, (*[]string)(t))
}

// seconds is a JSON number, or a string that holds one. Null is 0.
type seconds time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (s *seconds) UnmarshalJSON(b []byte) error {
	text := string(b)
	if text == "null" {
		return nil
	}
	if text[0] == '"' {
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 1 && n <= 1e9) {
		return errors.New("a lifetime is not a positive number of seconds")
	}
	*s = seconds(time.Duration(n) * time.Second)
	return nil
}

// replyServer is an entry of a provider's list of ICE servers. Old providers
// say url for urls, and null for no credential.
type replyServer struct {
	URL        texts  `json:"url"`
	URLs       texts  `json:"urls"`
	Username   string `json:"username"`
	Credential string `json:"credential"`
}

// replyServers is a JSON list of servers, or a single one.
type replyServers []replyServer

// UnmarshalJSON implements json.Unmarshaler.
func (r *replyServers) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		*r = make(replyServers, 1)
		return json.Unmarshal(b, &(*r)[0])
	}
	return json.Unmarshal(b, (*[]replyServer)(r))
}

// unmarshalReply reads a provider's reply. The error says nothing of the
// content, which can be a credential.
func unmarshalReply(name string, body []byte, reply any) error {
	err := json.Unmarshal(body, reply)
	if err == nil {
		return nil
	}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s answered something else than credentials: %q has another type than the API's", name, t.Field)
	}
	return fmt.Errorf("%s answered something else than credentials: no JSON of the API's form in %d bytes", name, len(body))
}

// result turns a provider's list into what clients can use. The credentials
// were asked for at begin and live for ttl.
func (r replyServers) result(name string, begin time.Time, ttl time.Duration) (Result, error) {
	if len(r) > maxReplyServers {
		return Result{}, fmt.Errorf("%s named %d ICE servers, the most is %d", name, len(r), maxReplyServers)
	}
	if ttl < minLife {
		return Result{}, fmt.Errorf("%s gave credentials for %v, which is too short to use", name, ttl)
	}
	// Wall time: a machine that slept must find them expired.
	out, relays := Result{Expires: begin.Round(0).Add(min(ttl, maxTTL))}, 0
	for _, entry := range r {
		s, ignored, err := entry.server()
		if err != nil {
			return Result{}, fmt.Errorf("%s named an ICE server that is refused: %w", name, err)
		}
		out.Ignored += ignored
		if len(s.URLs) == 0 {
			continue
		}
		if s.Username != "" {
			relays++
		}
		out.Servers = append(out.Servers, s)
	}
	if relays == 0 {
		return Result{}, fmt.Errorf("%s named no usable TURN server (%d URLs were not understood)", name, out.Ignored)
	}
	return out, nil
}

// server keeps the URLs that are understood, written anew; ignored counts the
// others. A turn URL needs a credential, stun URLs alone get none.
func (r *replyServer) server() (s Server, ignored int, err error) {
	urls := r.URLs
	if len(urls) == 0 {
		urls = r.URL
	}
	if len(urls) > maxURLsPerServer {
		return Server{}, 0, fmt.Errorf("it has %d URLs, the most is %d", len(urls), maxURLsPerServer)
	}
	if len(r.Username) > maxCredential || len(r.Credential) > maxCredential {
		return Server{}, 0, fmt.Errorf("its username or credential has more than %d bytes", maxCredential)
	}
	relay := false
	for _, text := range urls {
		if strings.HasPrefix(text, "stun:") || strings.HasPrefix(text, "stuns:") {
			text, _, _ = strings.Cut(text, "?") // RFC 7064 has no query, old replies do
		}
		u, err := ParseURL(text)
		if err != nil || u.IsTURN() && (r.Username == "" || r.Credential == "") {
			ignored++
			continue
		}
		relay = relay || u.IsTURN()
		s.URLs = append(s.URLs, u.String())
	}
	if relay {
		s.Username, s.Credential = r.Username, r.Credential
	}
	return s, ignored, nil
}
