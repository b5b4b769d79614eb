//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/coder/websocket"
	"github.com/lxzan/gws"
)

// The bare protocol. A device registers, is told that it is ready, joins groups and gets the records of their members,
// and sends messages that begin with the 25 characters of the other device's id, which are passed on as they are:
//
//	{"type":"register","id":"…","record":{…}}  {"type":"ready"}
//	{"type":"join","id":1,"group":"…"}         {"type":"result","id":1}  {"type":"list","join":[…]}
//	{"to":"…","type":"offer","conn":1,"ct":"…"}
const (
	toPrefix = `{"to":"`
	idLength = 25
)

// A link is the server's end of a WebSocket.
type link interface{ write(frame []byte) error }

// hub is a map of connections and little more.
type hub struct {
	mu     sync.RWMutex
	links  map[string]link
	groups map[string]map[string]json.RawMessage
}

func newHub() *hub {
	return &hub{links: make(map[string]link), groups: make(map[string]map[string]json.RawMessage)}
}

// member is what a connection registered.
type member struct {
	id     string
	record json.RawMessage
	groups []string
}

// take handles a message from a device.
func (h *hub) take(from link, m *member, frame []byte) error {
	if bytes.HasPrefix(frame, []byte(toPrefix)) && len(frame) > len(toPrefix)+idLength {
		h.mu.RLock()
		to := h.links[string(frame[len(toPrefix):len(toPrefix)+idLength])]
		h.mu.RUnlock()
		if to == nil {
			return nil
		}
		return to.write(frame)
	}
	var msg struct {
		Type, Group string
		ID          json.RawMessage
		Record      json.RawMessage
	}
	if err := json.Unmarshal(frame, &msg); err != nil {
		return fmt.Errorf("reading a message: %w", err)
	}
	if msg.Type == "register" {
		if err := json.Unmarshal(msg.ID, &m.id); err != nil {
			return fmt.Errorf("registering: %w", err)
		}
		m.record = msg.Record
		h.mu.Lock()
		h.links[m.id] = from
		h.mu.Unlock()
		return from.write([]byte(`{"type":"ready"}`))
	}
	return h.join(from, m, msg.Group, msg.ID)
}

func (h *hub) join(from link, m *member, group string, id []byte) error {
	h.mu.Lock()
	all := h.groups[group]
	if all == nil {
		all = make(map[string]json.RawMessage)
		h.groups[group] = all
	}
	list := []byte(`{"type":"list","join":[`)
	for _, record := range all {
		list = append(append(list, record...), ',')
	}
	known := len(all)
	all[m.id] = m.record
	m.groups = append(m.groups, group)
	h.mu.Unlock()
	// Who has the result is in the list of the next one.
	err := from.write(fmt.Appendf(nil, `{"type":"result","id":%s}`, id))
	if err != nil || known == 0 {
		return err
	}
	return from.write(append(list[:len(list)-1], "]}"...))
}

func (h *hub) leave(from link, m *member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.links[m.id] == from {
		delete(h.links, m.id)
	}
	for _, g := range m.groups {
		if delete(h.groups[g], m.id); len(h.groups[g]) == 0 {
			delete(h.groups, g)
		}
	}
}

// serveBare runs a bare server in this process and prints its port.
func serveBare(handler http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	if _, err := fmt.Fprintln(os.Stdout, l.Addr().(*net.TCPAddr).Port); err != nil {
		return fmt.Errorf("telling the port: %w", err)
	}
	return http.Serve(l, handler)
}

// onGWS is the bare server on gws.
func onGWS() http.Handler {
	up := gws.NewUpgrader(&gwsHub{hub: newHub()}, &gws.ServerOption{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r)
		if err != nil {
			return
		}
		// Returning frees the stack and the buffers of the handler.
		go c.ReadLoop()
	})
}

type gwsHub struct {
	gws.BuiltinEventHandler
	*hub
}

type gwsLink struct {
	c *gws.Conn
	m member
}

func (l *gwsLink) write(frame []byte) error { return l.c.WriteMessage(gws.OpcodeText, frame) }

func (h *gwsHub) OnOpen(c *gws.Conn) { c.Session().Store("link", &gwsLink{c: c}) }

func (h *gwsHub) OnMessage(c *gws.Conn, message *gws.Message) {
	defer func() { _ = message.Close() }()
	v, _ := c.Session().Load("link")
	l := v.(*gwsLink)
	if err := h.take(l, &l.m, message.Bytes()); err != nil {
		_ = c.NetConn().Close()
	}
}

func (h *gwsHub) OnClose(c *gws.Conn, _ error) {
	if v, ok := c.Session().Load("link"); ok {
		h.leave(v.(*gwsLink), &v.(*gwsLink).m)
	}
}

// onCoder is the bare server on coder/websocket.
func onCoder() http.Handler {
	h := newHub()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		c.SetReadLimit(1 << 20)
		l := &coderLink{c}
		var m member
		defer h.leave(l, &m)
		for {
			_, frame, err := c.Read(r.Context())
			if err == nil {
				err = h.take(l, &m, frame)
			}
			if err != nil {
				_ = c.CloseNow()
				return
			}
		}
	})
}

type coderLink struct{ c *websocket.Conn }

func (l *coderLink) write(frame []byte) error {
	err := l.c.Write(background, websocket.MessageText, frame)
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
