package proc

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/peersignal/peersignal/internal/signaling"
)

// StartServer runs a signaling server in this process.
func StartServer() (url string, stop func(), err error) {
	sig, err := signaling.New(signaling.Config{})
	if err != nil {
		return "", nil, err
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	web := &http.Server{Handler: sig.Handler(), ReadHeaderTimeout: time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _ = sig.Run(ctx) }()
	go func() { _ = web.Serve(lis) }()
	return "http://" + lis.Addr().String(), func() { _ = web.Close(); cancel() }, nil
}
