package files_test

import (
	"bytes"
	"testing"

	"github.com/peersignal/peersignal/pkg/sync/files"
)

// TestGolden pins ids and roots: they are in signed documents, so they can never
// change.
func TestGolden(t *testing.T) {
	for _, c := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"empty", nil, "peers:file#e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.cef5c104f841c296b5a86e04e0d04b2729b63d768459e84e06ef84b328579d20.0"},
		{"hello", []byte("hello"), "peers:file#2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824.361f690a7c8107af473480446da77e2adb6ac5509c7e640ee1f58a68eb60065a.5"},
		{"one chunk of zeros", make([]byte, files.ChunkSize), "peers:file#8a39d2abd3999ab73c34db2476849cddf303ce389b35826850f9a700589b4a90.47789a5239258409900cc7a614ff767255d7ff8ddf2b457f0694b98cf1fb7536.262144"},
		{"one chunk and a byte", bytes.Repeat([]byte{7}, files.ChunkSize+1), "peers:file#3b2e512bb829e90f67faead6c5285d18fe6bc2faf4fdf580492ce989a77f81ff.7f3ebbc092df03313a0550f933b048687d6987430bec9183670c70351ac7c337.262145"},
		{"two pages", make([]byte, files.PageLen*files.ChunkSize+1), "peers:file#da6ce8755151acd05195db67ebce3ee0fb5f4012e71e821cc5750f3304eaf41e.cb6a9a8026c8977f462bfb42d56800f1aa0262cfb95ddda29814a77bf8205d9d.268435457"},
	} {
		if got := files.RefOf(c.content).Text(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
