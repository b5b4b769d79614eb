package sync

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// Errors of queries.
var (
	// ErrQuery is returned for a query or an index that can't be understood, or a cursor of another query.
	ErrQuery = errors.New("invalid query")
	// ErrNoIndex is returned for a query that no index answers: define one of its type over the fields that are compared with
	// Equal and then the one that it orders by.
	ErrNoIndex = errors.New("no index answers this query")
)

// ModifiedField orders and compares documents by their time of modification (unix ms); it is no field of their JSON.
const ModifiedField = "modified"

// Bounds of queries and indexes.
const (
	MaxIndexes     = 32 // in a store
	MaxIndexFields = 4
	MaxConditions  = 8
)

// An IndexSpec is an index over fields of the live documents of a type, in all groups. A document that lacks one of the fields, or has an
// object or array there, is not in it.
type IndexSpec struct {
	Name string // 1 to 64 of a-z, 0-9, _ and -
	Type string
	// Fields are names of members of the JSON, with dots between levels ("address.city"), each of 1 to 64 letters, digits, _ and -; the last
	// may be ModifiedField, which then is the document's time and not a member.
	Fields []string
}

// An Operator compares a field with a value. Only values of the same type match.
type Operator string

// The operators.
const (
	Equal        Operator = "="
	Less         Operator = "<"
	LessEqual    Operator = "<="
	Greater      Operator = ">"
	GreaterEqual Operator = ">="
)

// A Condition is met by documents whose field has a value of the same type that compares so.
type Condition struct {
	Field string // as in IndexSpec
	Op    Operator
	Value any // nil, bool, float64, int, int64 or string
}

// A FieldValue is a value of a field in the order null, false, true, numbers, texts by their UTF-8 bytes.
type FieldValue struct {
	Rank   int // 0 null, 1 bool, 2 number, 3 text
	Number float64
	Text   string
}

// Compare orders values.
func (v FieldValue) Compare(o FieldValue) int {
	return cmp.Or(cmp.Compare(v.Rank, o.Rank), cmp.Compare(v.Number, o.Number), strings.Compare(v.Text, o.Text))
}

// Any returns the value as a store keeps it: a float64 or a string; false and true are 0 and 1, null is 0.
func (v FieldValue) Any() any {
	if v.Rank == 3 {
		return v.Text
	}
	return v.Number
}

// JSON returns the text that a document has for the value; of false, true and null that of Any, and of what is infinite a number that is as large.
func (v FieldValue) JSON() string {
	if math.IsInf(v.Number, 0) {
		return fmt.Sprintf("%.0fe999", math.Copysign(9, v.Number))
	}
	b, _ := json.Marshal(v.Any()) // neither a number nor a text fails
	return string(b)
}

func fieldValue(v any) (FieldValue, bool) {
	switch v := v.(type) {
	case nil:
		return FieldValue{}, true
	case bool:
		if v {
			return FieldValue{Rank: 1, Number: 1}, true
		}
		return FieldValue{Rank: 1}, true
	case float64:
		return FieldValue{Rank: 2, Number: v}, v == v
	case int:
		return FieldValue{Rank: 2, Number: float64(v)}, true
	case int64:
		return FieldValue{Rank: 2, Number: float64(v)}, true
	case string:
		return FieldValue{Rank: 3, Text: v}, true
	}
	return FieldValue{}, false
}

// Field returns the value of a document's field; false if it has none, or an object or array.
func (d Document) Field(field string) (FieldValue, bool) {
	if field == ModifiedField {
		return FieldValue{Rank: 2, Number: float64(d.Modified)}, true
	}
	rest := d.JSON
	for name := range strings.SplitSeq(field, ".") {
		var members map[string]json.RawMessage
		if json.Unmarshal(rest, &members) != nil || members[name] == nil {
			return FieldValue{}, false
		}
		rest = members[name]
	}
	var v any
	if json.Unmarshal(rest, &v) != nil {
		return FieldValue{}, false
	}
	return fieldValue(v)
}

// Met tells whether a document meets the condition.
func (c Condition) Met(d Document) bool {
	v, ok := d.Field(c.Field)
	want, _ := fieldValue(c.Value)
	if !ok || v.Rank != want.Rank {
		return false
	}
	switch n := v.Compare(want); c.Op {
	case Equal:
		return n == 0
	case Less:
		return n < 0
	case LessEqual:
		return n <= 0
	case Greater:
		return n > 0
	default:
		return n >= 0
	}
}

// Matches tells whether a document is among those that q selects, whatever its order and limit. A watcher follows versions (ByVersion,
// IncludeDeleted) and asks it of each document that changed: one that does not match has left the result, if it was in.
func (q DocumentQuery) Matches(d Document) bool {
	if d.Group != q.Group || (d.Deleted && !q.IncludeDeleted) || (q.Type != "" && d.Type != q.Type) {
		return false
	}
	for _, c := range q.Where {
		if !c.Met(d) {
			return false
		}
	}
	if q.OrderBy != "" {
		_, ok := d.Field(q.OrderBy)
		return ok
	}
	return true
}

var (
	indexName = regexp.MustCompile(`^[a-z0-9_-]{1,64}$`)
	fieldName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,7}$`)
)

// Validate refuses an index that can't be.
func (s IndexSpec) Validate() error {
	switch {
	case !indexName.MatchString(s.Name):
		return fmt.Errorf("%w: the name of an index is 1 to 64 of a-z, 0-9, _ and -", ErrQuery)
	case s.Type == "" || len(s.Type) > 256 || strings.ContainsRune(s.Type, 0):
		return fmt.Errorf("%w: index %s has no type, or a long one", ErrQuery, s.Name)
	case len(s.Fields) == 0 || len(s.Fields) > MaxIndexFields:
		return fmt.Errorf("%w: index %s has %d fields, 1 to %d can be", ErrQuery, s.Name, len(s.Fields), MaxIndexFields)
	}
	seen := map[string]bool{}
	for i, field := range s.Fields {
		if !fieldName.MatchString(field) || seen[field] || (field == ModifiedField && i < len(s.Fields)-1) {
			return fmt.Errorf("%w: index %s can't have the field %q there", ErrQuery, s.Name, field)
		}
		seen[field] = true
	}
	return nil
}

// A QueryPlan is how a store answers a query.
type QueryPlan struct {
	// Index is a custom one, or nil: then documents are read in the order of versions, subjects or times.
	Index *IndexSpec
	// Order is the field of the order; "" if subjects or versions alone order.
	Order string
	// From is what the result continues after, nil at the beginning; its Value has no meaning without Order.
	From *QueryCursor
}

// A QueryCursor is where a document stands in a result.
type QueryCursor struct {
	Value   FieldValue
	Subject peercrypto.ID
}

// Plan checks a query and chooses among the indexes of a store.
func (q DocumentQuery) Plan(indexes []IndexSpec) (QueryPlan, error) {
	fixed, err := q.check()
	if err != nil {
		return QueryPlan{}, err
	}
	plan := QueryPlan{Order: q.order()}
	if q.Cursor != "" {
		if plan.From, err = q.decodeCursor(); err != nil {
			return QueryPlan{}, err
		}
	}
	best := -1
	for i, index := range indexes {
		if n := plan.usable(index, fixed); index.Type == q.Type && !q.ByVersion && !q.IncludeDeleted && n > best {
			plan.Index, best = &indexes[i], n
		}
	}
	onlyTime := plan.Order == "" || plan.Order == ModifiedField
	for _, c := range q.Where {
		onlyTime = onlyTime && c.Field == ModifiedField && plan.Order == ModifiedField
	}
	if plan.Index == nil && !onlyTime {
		return QueryPlan{}, ErrNoIndex
	}
	return plan, nil
}

// usable tells how many fields of an index a query fixes, -1 if the index does not give its order.
func (p QueryPlan) usable(index IndexSpec, fixed map[string]bool) int {
	n := 0
	for n < len(index.Fields) && fixed[index.Fields[n]] {
		n++
	}
	rest := index.Fields[n:]
	if (p.Order == "" && len(rest) == 0 && n > 0) || (p.Order != "" && len(rest) == 1 && rest[0] == p.Order) {
		return n
	}
	return -1
}

// order is the field of the order, "" if it is fixed and subjects alone order.
func (q DocumentQuery) order() string {
	for _, c := range q.Where {
		if c.Field == q.OrderBy && c.Op == Equal {
			return ""
		}
	}
	return q.OrderBy
}

// check returns the fields that are compared with Equal.
func (q DocumentQuery) check() (fixed map[string]bool, err error) {
	switch {
	case q.ByVersion && (len(q.Where) > 0 || q.OrderBy != "" || q.Descending || q.Cursor != ""):
		return nil, fmt.Errorf("%w: versions have an order of their own, and no conditions", ErrQuery)
	case len(q.Where) > MaxConditions:
		return nil, fmt.Errorf("%w: more than %d conditions", ErrQuery, MaxConditions)
	case q.OrderBy != "" && !fieldName.MatchString(q.OrderBy):
		return nil, fmt.Errorf("%w: there is no field %q", ErrQuery, q.OrderBy)
	case q.After != "" && (q.OrderBy != "" || q.Descending || q.Cursor != ""):
		return nil, fmt.Errorf("%w: After is for the order of subjects; use a cursor", ErrQuery)
	case q.IncludeDeleted && (len(q.Where) > 0 || (q.OrderBy != "" && q.OrderBy != ModifiedField)):
		return nil, fmt.Errorf("%w: deleted documents have no fields", ErrQuery)
	}
	fixed = map[string]bool{}
	for _, c := range q.Where {
		if _, ok := fieldValue(c.Value); !ok || !fieldName.MatchString(c.Field) {
			return nil, fmt.Errorf("%w: the condition on %q", ErrQuery, c.Field)
		}
		switch c.Op {
		case Equal:
			fixed[c.Field] = true
		case Less, LessEqual, Greater, GreaterEqual:
		default:
			return nil, fmt.Errorf("%w: there is no operator %q", ErrQuery, c.Op)
		}
	}
	return fixed, nil
}

// FieldValue returns the condition's value as stores compare it.
func (c Condition) FieldValue() FieldValue {
	v, _ := fieldValue(c.Value)
	return v
}

type cursorJSON struct {
	Order   string        `json:"o"`
	Desc    bool          `json:"d"`
	Rank    int           `json:"r"`
	Number  float64       `json:"n"`
	Text    string        `json:"t"`
	Subject peercrypto.ID `json:"s"`
}

// CursorAfter returns the Cursor with which q continues behind d, which it gave. A cursor stays good whatever is written: what comes to stand before
// it is not seen, and nothing is seen twice that did not move.
func (q DocumentQuery) CursorAfter(d Document) (string, error) {
	c := cursorJSON{Order: q.order(), Desc: q.Descending, Subject: d.Subject}
	if c.Order != "" {
		v, ok := d.Field(c.Order)
		if !ok {
			return "", fmt.Errorf("%w: document %s has no field %s", ErrQuery, d.Subject.Short(), c.Order)
		}
		c.Rank, c.Number, c.Text = v.Rank, v.Number, v.Text
	}
	b, err := json.Marshal(c)
	return base64.RawURLEncoding.EncodeToString(b), err
}

func (q DocumentQuery) decodeCursor() (*QueryCursor, error) {
	var c cursorJSON
	b, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	if err != nil || json.Unmarshal(b, &c) != nil || c.Rank < 0 || c.Rank > 3 || c.Order != q.order() || c.Desc != q.Descending {
		return nil, fmt.Errorf("%w: the cursor is of another query", ErrQuery)
	}
	return &QueryCursor{Value: FieldValue{c.Rank, c.Number, c.Text}, Subject: c.Subject}, nil
}
