package peer

import (
	"encoding/json"
	"testing"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/files"
)

// TestFileDocIsReadExactly: a member of another spelling is another one, so that nobody is shown a list that does not hold.
func TestFileDocIsReadExactly(t *testing.T) {
	d := fileDoc{Type: TypeFile, File: files.ID{1}, Root: files.Root{2}, Size: 1, Name: "plan.pdf"}
	d.ID = FileDocumentID("g", d.File)
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{``, `,"ispublic":true`, `,"ISPUBLIC":true`, `,"Name":"other"`, `,"unknown":[1]`} {
		text := append(raw[:len(raw)-1:len(raw)-1], more+"}"...)
		got, err := readFileDoc(groupsync.Document{Group: "g", Type: TypeFile, JSON: text})
		if err != nil || got.IsPublic || got.Name != d.Name {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}
