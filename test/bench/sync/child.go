package main

import "github.com/peersignal/peersignal/test/bench/proc"

// request is what a device is asked, reply its answer.
type request struct {
	Op     string `json:"op"`
	Server string `json:"server,omitempty"`
	Text   string `json:"text,omitempty"`
	N      int    `json:"n,omitempty"`
}

type reply struct {
	Text  string    `json:"text,omitempty"`
	Times []float64 `json:"times,omitempty"` // seconds
}

type child = proc.Child[request, reply]

// startChild starts a device that keeps its data in dir.
func startChild(name, dir string) (*child, error) {
	return proc.Start[request, reply]("-profile", *profile, name, dir)
}

// serveChild answers requests until the input ends.
func serveChild(name, dir string) error {
	d := &device{name: name, dir: dir}
	defer func() { _ = d.close() }()
	return proc.Serve(d.handle)
}
