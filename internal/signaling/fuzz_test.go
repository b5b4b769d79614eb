package signaling_test

import (
	"testing"

	"github.com/peersignal/peersignal/internal/signaling"
)

// FuzzBusMessage holds a node to surviving whatever another one says.
func FuzzBusMessage(f *testing.F) {
	cert := string(newDevice(f).cert.Canonical())
	for _, seed := range []string{
		`{"v":1,"k":"beat","n":"x","i":1,"s":4}`,
		`{"v":1,"k":"snap","n":"x","i":1,"s":3,"ss":[{"id":"AAAAAAAAAAAAAAAAAAAAAA","t":1,"cert":` + cert + `,"tags":["AQEBAQEBAQEBAQEBAQEBAQ"]}],"l":true}`,
		`{"v":1,"k":"up","n":"x","i":1,"s":1,"ss":[{"id":"AAAAAAAAAAAAAAAAAAAAAA","t":1,"cert":` + cert + `}]}`,
		`{"v":1,"k":"tags","n":"x","i":1,"s":2,"id":"AAAAAAAAAAAAAAAAAAAAAA","a":["AQEBAQEBAQEBAQEBAQEBAQ"]}`,
		`{"v":1,"k":"down","n":"x","i":1,"s":3,"id":"AAAAAAAAAAAAAAAAAAAAAA"}`,
		`{"v":1,"k":"sig","n":"x","i":1,"r":1,"sig":{"kind":"offer","to":"a","from":"b","conn":"c"}}` + "\n{}",
		`{"v":1,"k":"ack","n":"x","i":1,"r":1,"c":"delivered"}`,
		`{"v":1,"k":"want","n":"x","i":1}`,
		`{"v":1,"k":"leave","n":"x","i":1}`,
	} {
		f.Add([]byte(seed + "\n"))
	}
	f.Fuzz(func(_ *testing.T, payload []byte) {
		receive := signaling.BusReceiver()
		receive(payload)
		receive(payload) // also when the node is known
	})
}
