package throwaway

import (
	"testing"
	"time"
)

func TestDevice(t *testing.T) {
	d, err := NewDevice(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Cert.Verify(time.Now()); err != nil {
		t.Error(err)
	}
	if err := d.Cert.Verify(time.Now().Add(2 * time.Hour)); err == nil {
		t.Error("it lives for longer than it was made for")
	}
	if d.Cert.DeviceKey != d.Key.Public() {
		t.Error("the certificate is for another key")
	}
}
