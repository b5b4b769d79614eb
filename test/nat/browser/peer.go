//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pion/webrtc/v4"
)

// task is what the Go peer reads: one JSON object. It answers with one, echoes messages, and ends with its input.
type task struct {
	ICE   []webrtc.ICEServer `json:"ice"`
	Offer string             `json:"offer"`
}

type taskAnswer struct {
	Answer string `json:"answer"`
}

// runPeer is the other end: it runs in a node of its own, by the same program.
func runPeer(in io.Reader, out io.Writer) error {
	decoder := json.NewDecoder(in)
	var t task
	if err := decoder.Decode(&t); err != nil {
		return fmt.Errorf("peer: reading its task: %w", err)
	}
	pc, err := webrtc.NewPeerConnection(webrtc.Configuration{ICEServers: t.ICE})
	if err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	defer func() { _ = pc.Close() }()
	pc.OnDataChannel(func(dc *webrtc.DataChannel) {
		dc.OnMessage(func(m webrtc.DataChannelMessage) {
			if err := dc.SendText(string(m.Data)); err != nil {
				fmt.Fprintln(os.Stderr, "peer: echo:", err)
			}
		})
	})
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: t.Offer}); err != nil {
		return fmt.Errorf("peer: offer: %w", err)
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return fmt.Errorf("peer: answer: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(answer); err != nil {
		return fmt.Errorf("peer: answer: %w", err)
	}
	select {
	case <-gathered:
	case <-time.After(15 * time.Second):
		return errors.New("peer: gathering candidates: not within 15 s")
	}
	if err := json.NewEncoder(out).Encode(taskAnswer{pc.LocalDescription().SDP}); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, in)
	return nil
}
