package ws

import (
	"bufio"
	"crypto/sha1" // #nosec G505 -- RFC 6455 asks for it; nothing depends on its strength
	"encoding/base64"
	"fmt"

	"net/http"
	"strings"
	"time"
)

// handshakeID is the constant of RFC 6455, section 1.3.
const handshakeID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// Upgrade takes the connection of a request over, or answers the request and
// gives the reason. The answer 101 is queued: it goes out with the first message. Who may
// connect, and the subprotocol, is for the caller to decide before.
func Upgrade(w http.ResponseWriter, r *http.Request, subprotocol string, h Handler, o *Options) (*Conn, error) {
	key, status, text := checkRequest(r)
	if status != 0 {
		if status == http.StatusUpgradeRequired {
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Sec-WebSocket-Version", "13")
		}
		http.Error(w, text, status)
		return nil, fmt.Errorf("upgrading to WebSocket: %s", text)
	}
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "this connection cannot become a WebSocket", http.StatusInternalServerError)
		return nil, fmt.Errorf("upgrading to WebSocket: %w", err)
	}
	if err := nc.SetDeadline(time.Time{}); err != nil { // net/http's no longer hold
		_ = nc.Close()
		return nil, fmt.Errorf("upgrading to WebSocket: %w", err)
	}
	c := newConn(nc, buffered(rw.Reader), h, o)
	c.tail = acceptance(key, subprotocol)
	c.queued = len(c.tail)
	o.Budget.force(c.queued)
	return c, nil
}

// checkRequest gives the key, or the status and text to answer with.
func checkRequest(r *http.Request) (key string, status int, text string) {
	key = r.Header.Get("Sec-WebSocket-Key")
	switch {
	case r.Method != http.MethodGet:
		return "", http.StatusMethodNotAllowed, "a WebSocket begins with GET"
	case !r.ProtoAtLeast(1, 1) || r.ProtoMajor != 1:
		return "", http.StatusHTTPVersionNotSupported, "a WebSocket begins with HTTP/1.1"
	case !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket"):
		return "", http.StatusUpgradeRequired, "this is a WebSocket"
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return "", http.StatusUpgradeRequired, "the WebSocket version must be 13"
	case len(r.Header.Values("Sec-WebSocket-Key")) != 1 || !validKey(key):
		return "", http.StatusBadRequest, "Sec-WebSocket-Key must be 16 bytes in base64"
	case r.ContentLength != 0:
		return "", http.StatusBadRequest, "a WebSocket request has no body"
	}
	return key, 0, ""
}

func validKey(key string) bool {
	b, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(b) == 16
}

// hasToken looks for a token in a list header, in any case of letters.
func hasToken(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// acceptance is the response to a request with this key.
func acceptance(key, subprotocol string) []byte {
	sum := sha1.Sum([]byte(key + handshakeID)) // #nosec G401 -- see the import
	b := make([]byte, 0, 192)
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	b = base64.StdEncoding.AppendEncode(b, sum[:])
	if subprotocol != "" {
		b = append(append(b, "\r\nSec-WebSocket-Protocol: "...), subprotocol...)
	}
	return append(b, "\r\n\r\n"...)
}

// buffered copies what net/http has read beyond the request.
func buffered(r *bufio.Reader) []byte {
	b, _ := r.Peek(r.Buffered()) // what is buffered can be peeked at
	return append([]byte(nil), b...)
}
