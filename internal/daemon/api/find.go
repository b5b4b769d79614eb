package api

// Index is an element of GET /v1/indexes and, without Name, the body of
// PUT /v1/indexes/{name}.
type Index struct {
	Name   string   `json:"name,omitempty"`
	Type   string   `json:"type"`
	Fields []string `json:"fields"` // names of members, with dots between levels; the last may be "modified"
}

// FindEnd is the last line of find when there is more.
type FindEnd struct {
	Next string `json:"next"` // goes on with after=
}

// Change is a line of find with watch=1.
type Change struct {
	Change   string    `json:"change"` // added, changed, removed; ready behind what was there at the beginning
	Document *Document `json:"document,omitempty"`
}
