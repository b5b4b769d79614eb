package storetest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

var querySpecs = []groupsync.IndexSpec{
	{Name: "due", Type: "Task", Fields: []string{"due"}},
	{Name: "city", Type: "Task", Fields: []string{"address.city"}},
	{Name: "done-due", Type: "Task", Fields: []string{"done", "due"}},
	{Name: "done_time", Type: "Task", Fields: []string{"done", "modified"}},
	{Name: "time", Type: "It's \"odd\"", Fields: []string{"modified"}},
}

// queryDocument has fields of all types, and none.
func queryDocument(rng *rand.Rand, n int) groupsync.Document {
	values := []any{
		nil, false, true, -1.5, 0, 1, 2, 10, 1e21, "", "a", "A", "é", "10", []int{1}, map[string]int{"x": 1},
		// Those that JSON texts spell in another way than a store may keep them.
		float64(1 << 60), 1152921504606847e3, float64(1 << 63), -float64(1 << 63), 1e20, 1e308, 5e-324, "a\x00b", "a\x00c", "\x00", "\uffff", "\U0001f600",
	}
	fields := map[string]any{"n": n, "done": rng.IntN(3) == 0}
	if rng.IntN(5) > 0 {
		fields["due"] = values[rng.IntN(len(values))]
	}
	if rng.IntN(3) > 0 {
		fields["address"] = map[string]any{"city": []any{"Bern", "Basel", "Zug", 3}[rng.IntN(4)]}
	}
	d := groupsync.Document{
		Group: id("group", 1), Subject: id("subject", n), Type: []string{"Task", "Task", "Note", `It's "odd"`}[rng.IntN(4)],
		Modified: 1000 + rng.Int64N(40),
	}
	d.JSON, _ = json.Marshal(fields)
	if rng.IntN(12) == 0 {
		d.Deleted, d.JSON, d.Type = true, nil, ""
	}
	return d
}

// plainValue looks a field up and ranks it; rank -1 is none.
func plainValue(d groupsync.Document, field string) (rank int, number float64, text string) {
	if field == "modified" {
		return 2, float64(d.Modified), ""
	}
	var v any
	_ = json.Unmarshal(d.JSON, &v)
	for name := range strings.SplitSeq(field, ".") {
		members, _ := v.(map[string]any)
		member, ok := members[name]
		if !ok {
			return -1, 0, ""
		}
		v = member
	}
	switch v := v.(type) {
	case nil:
		return 0, 0, ""
	case bool:
		if v {
			return 1, 1, ""
		}
		return 1, 0, ""
	case float64:
		return 2, v, ""
	case string:
		return 3, 0, v
	}
	return -1, 0, ""
}

func plainCompare(a, b groupsync.Document, field string) int {
	r, n, t := plainValue(a, field)
	r2, n2, t2 := plainValue(b, field)
	return cmp.Or(cmp.Compare(r, r2), cmp.Compare(n, n2), cmp.Compare(t, t2))
}

func plainMet(d groupsync.Document, c groupsync.Condition) bool {
	b, _ := json.Marshal(map[string]any{"v": c.Value})
	r, n, t := plainValue(d, c.Field)
	r2, n2, t2 := plainValue(groupsync.Document{JSON: b}, "v")
	if inf, ok := c.Value.(float64); ok && math.IsInf(inf, 0) { // which JSON has not
		r2, n2 = 2, inf
	}
	x := cmp.Or(cmp.Compare(n, n2), cmp.Compare(t, t2))
	if r != r2 {
		return false
	}
	return map[groupsync.Operator]bool{"=": x == 0, "<": x < 0, "<=": x <= 0, ">": x > 0, ">=": x >= 0}[c.Op]
}

// plainQuery answers a query the long way.
func plainQuery(all []groupsync.Document, q groupsync.DocumentQuery) (out []groupsync.Document) {
	for _, d := range all {
		ok := d.Group == q.Group && (!d.Deleted || q.IncludeDeleted) && (q.Type == "" || d.Type == q.Type)
		for _, c := range q.Where {
			ok = ok && plainMet(d, c)
		}
		if q.OrderBy != "" {
			rank, _, _ := plainValue(d, q.OrderBy)
			ok = ok && rank >= 0
		}
		if ok {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b groupsync.Document) int {
		n := strings.Compare(string(a.Subject), string(b.Subject))
		if q.OrderBy != "" {
			n = cmp.Or(plainCompare(a, b, q.OrderBy), n)
		}
		if q.Descending {
			return -n
		}
		return n
	})
	return out
}

func conditions(c ...any) (out []groupsync.Condition) {
	for i := 0; i < len(c); i += 3 {
		out = append(out, groupsync.Condition{Field: c[i].(string), Op: groupsync.Operator(c[i+1].(string)), Value: c[i+2]})
	}
	return out
}

// queryCases are queries of one group that can be answered.
func queryCases() (out []groupsync.DocumentQuery) {
	for _, q := range []groupsync.DocumentQuery{
		{}, {Type: "Note"}, {IncludeDeleted: true}, {OrderBy: "modified"}, {OrderBy: "modified", IncludeDeleted: true},
		{OrderBy: "modified", Type: "Note"}, {OrderBy: "modified", Type: `It's "odd"`}, {OrderBy: "modified", Type: "Task", Where: conditions("done", "=", true)},
		{OrderBy: "modified", Where: conditions("modified", ">=", 1010, "modified", "<", 1030)},
		{OrderBy: "due", Type: "Task"}, {OrderBy: "due", Type: "Task", Where: conditions("due", ">", 0)},
		{OrderBy: "due", Type: "Task", Where: conditions("due", ">=", "", "due", "<", "b")},
		{OrderBy: "due", Type: "Task", Where: conditions("due", "<=", true)},
		{OrderBy: "due", Type: "Task", Where: conditions("done", "=", false)},
		{OrderBy: "due", Type: "Task", Where: conditions("done", "=", false, "due", "<", 5, "n", ">", 20)},
		{OrderBy: "address.city", Type: "Task", Where: conditions("address.city", "<", "C")},
		{OrderBy: "address.city", Type: "Task", Where: conditions("modified", ">", int64(1015))},
		{OrderBy: "due", Type: "Task", Where: conditions("due", "=", "10")}, {Type: "Task", Where: conditions("due", "=", nil)},
		{Type: "Task", Where: conditions("due", "=", 1e21)}, {Type: "Task", Where: conditions("due", "=", float64(1<<60))},
		{OrderBy: "due", Type: "Task", Where: conditions("due", ">", math.Inf(-1), "due", "<=", float64(1<<63))},
		{OrderBy: "due", Type: "Task", Where: conditions("due", "<", math.Inf(1), "due", ">=", 5e-324)},
		{OrderBy: "due", Type: "Task", Where: conditions("due", ">", "a\x00b")}, {Type: "Task", Where: conditions("address.city", "=", "Bern", "n", "<=", 200)},
		{Type: "Task", Where: conditions("done", "=", true, "due", "=", false)},
	} {
		q.Group = id("group", 1)
		out = append(out, q)
		q.Descending = true
		out = append(out, q)
	}
	return out
}

// fieldQueries compares queries by fields with a list, whole and page by page, with indexes that were made before and after the documents.
func (s *suite) fieldQueries() {
	rng := rand.New(rand.NewPCG(5, 6))
	var all []groupsync.Document
	put := func(tx groupsync.Tx, n int) {
		d := queryDocument(rng, n)
		v, err := tx.PutDocument(d)
		s.must(err)
		d.Version = v
		all = append(slices.DeleteFunc(all, func(o groupsync.Document) bool { return o.Subject == d.Subject }), d)
	}
	s.update(func(tx groupsync.Tx) error {
		for i, spec := range querySpecs {
			s.must(tx.EnsureIndex(spec))
			for n := range 80 {
				put(tx, 80*i+n)
			}
		}
		for range 100 {
			put(tx, rng.IntN(400))
		}
		return nil
	})
	if s.restart != nil {
		s.store = s.restart()
	}
	s.both(func(r groupsync.Reader) {
		for _, q := range queryCases() {
			want := plainQuery(all, q)
			var got []groupsync.Document
			s.must(r.Documents(q, collect(&got)))
			s.equal(fmt.Sprintf("documents of %+v", q), got, want)
			for _, size := range []int{1, 2 + rng.IntN(40)} {
				if size == 1 && len(q.Where) > 0 {
					continue // it takes long
				}
				s.equal(fmt.Sprintf("pages of %+v", q), s.pages(r, q, size, len(want)), want)
			}
			for _, d := range all {
				if q.Matches(d) != slices.ContainsFunc(want, func(w groupsync.Document) bool { return w.Subject == d.Subject }) {
					s.Fatalf("%+v matches %s: %v", q, d.JSON, q.Matches(d))
				}
			}
		}
	})
	s.dropIndexes()
}

// pages reads a result with cursors, and not much more than is expected.
func (s *suite) pages(r groupsync.Reader, q groupsync.DocumentQuery, size, most int) (out []groupsync.Document) {
	s.Helper()
	for q.Limit = size; len(out) <= most; {
		var page []groupsync.Document
		s.must(r.Documents(q, collect(&page)))
		out = append(out, page...)
		if len(page) < size {
			return out
		}
		cursor, err := q.CursorAfter(page[len(page)-1])
		s.must(err)
		q.Cursor = cursor
	}
	return out
}

func (s *suite) dropIndexes() {
	q := groupsync.DocumentQuery{Group: id("group", 1), Type: "Task", OrderBy: "due"}
	other := groupsync.IndexSpec{Name: "due", Type: "Note", Fields: []string{"due"}}
	s.update(func(tx groupsync.Tx) error {
		return errors.Join(tx.DropIndex("done-due"), tx.DropIndex("unknown"), tx.EnsureIndex(other), tx.EnsureIndex(other))
	})
	s.both(func(r groupsync.Reader) {
		if err := r.Documents(q, collect(new([]groupsync.Document))); !errors.Is(err, groupsync.ErrNoIndex) {
			s.Errorf("without its index a query returned %v", err)
		}
		q.Type = "Note"
		s.must(r.Documents(q, collect(new([]groupsync.Document))))
		q.Type = "Task"
		list, err := r.Indexes()
		s.must(err)
		s.equal("the indexes", list, []groupsync.IndexSpec{querySpecs[1], querySpecs[3], other, querySpecs[4]})
	})
}

// badQueries are refused with an error that tells which kind of mistake it is, and nothing is made of bad indexes.
func (s *suite) badQueries() {
	g := id("group", 1)
	for _, q := range []groupsync.DocumentQuery{
		{ByVersion: true, OrderBy: "modified"}, {ByVersion: true, Cursor: "x"}, {OrderBy: "a b"}, {OrderBy: `a"'`}, {OrderBy: "a..b"},
		{OrderBy: "modified", After: g}, {Descending: true, After: g}, {Where: conditions("a", "<>", 1)}, {Where: conditions("a", "=", []int{})},
		{Where: conditions("$.a", "=", 1)}, {Cursor: "x"}, {Cursor: "e30"}, {IncludeDeleted: true, OrderBy: "due", Type: "Task"},
		{Where: slices.Repeat(conditions("a", "=", 1), groupsync.MaxConditions+1)},
	} {
		q.Group = g
		s.both(func(r groupsync.Reader) {
			err := r.Documents(q, func(groupsync.Document) error { return nil })
			if q.Cursor == "e30" { // {} is that of the order of subjects
				err = cmp.Or(err, groupsync.ErrQuery)
			}
			if !errors.Is(err, groupsync.ErrQuery) {
				s.Errorf("%+v returned %v", q, err)
			}
		})
	}
	for _, spec := range []groupsync.IndexSpec{
		{}, {Name: "A", Type: "T", Fields: []string{"a"}}, {Name: "a;", Type: "T", Fields: []string{"a"}}, {Name: "a", Fields: []string{"a"}},
		{Name: "a", Type: "T"}, {Name: "a", Type: "T", Fields: []string{"'"}}, {Name: "a", Type: "T", Fields: []string{"a", "a"}},
		{Name: "a", Type: "T", Fields: []string{"modified", "a"}}, {Name: "a", Type: "T", Fields: []string{"a", "b", "c", "d", "e"}},
		{Name: "a", Type: "T\x00", Fields: []string{"a"}},
	} {
		err := s.store.Update(context.Background(), func(tx groupsync.Tx) error { return tx.EnsureIndex(spec) })
		if !errors.Is(err, groupsync.ErrQuery) {
			s.Errorf("%+v returned %v", spec, err)
		}
	}
	err := s.store.Update(context.Background(), func(tx groupsync.Tx) error {
		for i := range groupsync.MaxIndexes + 1 {
			if err := tx.EnsureIndex(groupsync.IndexSpec{Name: fmt.Sprint(i), Type: "T", Fields: []string{"a"}}); err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
		}
		return nil
	})
	if !errors.Is(err, groupsync.ErrLimit) {
		s.Errorf("too many indexes returned %v", err)
	}
}

// expiry finds documents whose time is over, and no others.
func (s *suite) expiry() {
	texts := []string{
		`{"ttl":2000}`, `{"ttl":1000.5}`, `{"ttl":"1000"}`, `{"ttl":null}`, `{"ttl":0}`, `{"ttl":-5}`, `{"a":{"ttl":1}}`, `{"TTL":1}`, `{"ttl":9007199254740992}`,
		`{"ttl":3000}`, `{}`,
	}
	doc := func(i int, text string) groupsync.Document {
		return groupsync.Document{Group: id("group", i%2), Subject: id("subject", i), Type: "T", JSON: []byte(text)}
	}
	s.update(func(tx groupsync.Tx) error {
		for i, text := range texts {
			_, err := tx.PutDocument(doc(i, text))
			s.must(err)
		}
		return nil
	})
	check := func(now int64, limit int, want ...string) {
		s.Helper()
		s.both(func(r groupsync.Reader) {
			var got []string
			docs, err := r.Expired(now, limit)
			s.must(err)
			for _, d := range docs {
				again, _, err := r.Document(d.Group, d.Subject)
				s.must(err)
				s.equal("the document", d, again)
				got = append(got, string(d.JSON))
			}
			s.equal("expired documents", got, want)
		})
	}
	check(999, 0)
	check(2000, 0, texts[1], texts[0])
	check(1<<60, 2, texts[1], texts[0])
	s.update(func(tx groupsync.Tx) error {
		gone, later := doc(1, ""), doc(0, `{"ttl":5000}`)
		gone.Deleted, gone.Type, gone.JSON = true, "", nil
		_, err := tx.PutDocument(gone)
		_, err2 := tx.PutDocument(later)
		return errors.Join(err, err2, tx.DeleteDocument(id("group", 1), id("subject", 9)))
	})
	check(1<<60, 0, `{"ttl":5000}`)
}
