package sync_test

import (
	"encoding/json"
	"fmt"
	"testing"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

func TestCreateGroupAndDocuments(t *testing.T) {
	a := newNode(t, 0)
	g := a.create("plans")
	if info := a.info(g); info.Name != "plans" || info.Role != entry.Admin || !info.Joined || info.Operations != 2 || info.RotationDue {
		t.Fatalf("%+v", info)
	}
	d := a.put(g, `{"type":"Note","text":"one"}`)
	if d.Subject == "" || d.Type != "Note" {
		t.Fatalf("%+v", d)
	}
	same := a.put(g, `%s`, d.JSON)
	if same.Version != d.Version || a.info(g).Entries != 1 {
		t.Fatal("storing what is there already wrote something")
	}
	d2 := a.put(g, `{"id":%q,"type":"Note","text":"two"}`, d.Subject)
	if d2.Modified <= d.Modified || d2.Version <= d.Version {
		t.Fatalf("%+v after %+v", d2, d)
	}
	must(t, a.Delete(t.Context(), g, d.Subject))
	_, err := a.Get(t.Context(), g, d.Subject)
	wantErr(t, err, groupsync.ErrNotFound)
	wantErr(t, a.Delete(t.Context(), g, d.Subject), groupsync.ErrNotFound)
	a.put(g, `{"id":%q,"type":"Other","text":"three"}`, d.Subject)
	before := a.export(g)
	fp := a.info(g).Fingerprint
	a.reopen()
	if a.export(g) != before || a.info(g).Fingerprint != fp {
		t.Fatal("it is not the same after reopening")
	}
}

func TestInvalidDocuments(t *testing.T) {
	a := newNode(t, 0)
	g := a.create("g")
	for _, doc := range []string{
		``, `[]`, `1`, `{}`, `{"type":""}`, `{"type":"User"}`, `{"type":"Deleted"}`, `{"type":"N","id":"short"}`,
		`{"type":"N","group":"0kq2n0k2vabcdefghijklmnop"}`, `{"type":"N","a":1,"a":2}`, `{"type":"N","__proto__":1}`,
		`{"type":"N","big":"` + string(make([]byte, 0)) + fmt.Sprintf("%01100000d", 1) + `"}`,
		`{"type":"N","id":"` + string(g) + `"}`,
	} {
		_, err := a.Put(t.Context(), g, json.RawMessage(doc))
		if len(doc) > 60 {
			doc = doc[:60]
		}
		if err == nil {
			t.Errorf("%s was stored", doc)
			continue
		}
		wantErr(t, err, groupsync.ErrInvalidDocument)
	}
	res, err := a.PutMany(t.Context(), g, []json.RawMessage{
		json.RawMessage(`{"type":"N","x":1}`), json.RawMessage(`{"type":""}`), json.RawMessage(`{"type":"N","x":2}`),
	})
	must(t, err)
	if res[0].Status != groupsync.PutCreated || res[1].Status != groupsync.PutFailed || res[2].Status != groupsync.PutCreated {
		t.Fatalf("%+v", res)
	}
	if a.info(g).Documents != 2 {
		t.Fatal("the valid documents are not there")
	}
}

func TestJoinAndSyncBothWays(t *testing.T) {
	a, b := newNode(t, 0), newNode(t, 1)
	g := a.create("plans")
	for i := range 50 {
		a.put(g, `{"type":"Note","n":%d}`, i)
	}
	join(t, a, g, entry.Write, b)
	if a.export(g) != b.export(g) {
		t.Fatal("exports differ")
	}
	d := b.put(g, `{"type":"Note","from":"b"}`)
	syncPair(t, a, b, g).end()
	got, err := a.Get(t.Context(), g, d.Subject)
	must(t, err)
	if string(got.JSON) != string(d.JSON) || a.export(g) != b.export(g) {
		t.Fatal("b's document did not arrive")
	}
	ia, ib := a.info(g), b.info(g)
	if ia.Fingerprint != ib.Fingerprint || len(ib.Members) != 2 || ib.Role != entry.Write {
		t.Fatalf("%+v\n%+v", ia, ib)
	}
	for _, m := range ib.Members {
		if m.Name == "" {
			t.Errorf("the name of %s is not known", m.UserID)
		}
	}
}
