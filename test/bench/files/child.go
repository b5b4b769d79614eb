package main

import (
	"runtime/debug"

	"github.com/peersignal/peersignal/test/bench/proc"
)

// request is what a child is asked; it answers with a text.
type request struct {
	Op     string `json:"op"`
	Server string `json:"server,omitempty"`
	Dir    string `json:"dir,omitempty"`
	Text   string `json:"text,omitempty"`
	Size   int64  `json:"size,omitempty"`
}

// child is a peer or the end of a bare channel.
type child = proc.Child[request, string]

// serveChild answers requests until the input ends.
func serveChild(role string) error {
	var handle func(request) (string, error)
	switch role {
	case "peer":
		d := &device{}
		defer d.close()
		handle = d.handle
	default:
		c := &channel{}
		defer c.close()
		handle = c.handle
	}
	return proc.Serve(func(req request) (string, error) {
		if req.Op == "idle" { // give back what came and went before
			debug.FreeOSMemory()
			return "", nil
		}
		return handle(req)
	})
}
