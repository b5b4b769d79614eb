package main

import (
	"strings"
	"testing"

	"github.com/spf13/viper"

	"github.com/peersignal/peersignal/internal/daemon/api"
)

// TestSafeName checks what a file is called on disk after what its author called it.
func TestSafeName(t *testing.T) {
	for name, want := range map[string]string{
		"plan.pdf": "plan.pdf", "über uns.txt": "über uns.txt", "": "id", "..": "id", ".": "id", "/": "_", "../../etc/passwd": "_.._etc_passwd",
		`C:\x`: "C__x", ".ssh": "ssh", "a\x00b\nc": "a_b_c", "  x. ": "x", "a<b>|?*\"c": "a_b_____c",
	} {
		got := safeName(name, "id")
		if got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
		if strings.ContainsAny(got, "/\\\x00\n") || strings.HasPrefix(got, ".") {
			t.Errorf("%q becomes %q", name, got)
		}
	}
}

func TestFileSettings(t *testing.T) {
	v := viper.New()
	v.Set("file-quota", "2GiB")
	v.Set("file-upload-rate", "1MB")
	v.Set("file-download-rate", "500")
	var s fileSettings
	if err := s.parse(v); err != nil || s.quota != 2<<30 || s.limits.UploadRate != 1_000_000 || s.limits.DownloadRate != 500 || s.limits.PeerUploadRate != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"0", "-1", "many", "1 parsec", "99999999999999999999999GB"} {
		v.Set("file-quota", bad)
		if err := s.parse(v); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestFileTexts(t *testing.T) {
	for want, f := range map[string]api.File{
		"yes": {Complete: true, Size: 5, Have: 5}, "no": {Size: 5}, "0.0 %": {Size: 5, Fetching: true}, "40.0 %": {Size: 5, Have: 2},
	} {
		if got := hereText(f); got != want {
			t.Errorf("%+v: %q, want %q", f, got, want)
		}
	}
	notes := fileNotes(api.File{Fetching: true, Sources: 2, Pinned: true, Public: true, Users: []string{"x"}, Error: "why"})
	if notes != "fetching from 2; pinned; public; shared with 1 more; why" {
		t.Error(notes)
	}
}
