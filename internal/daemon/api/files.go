package api

// File is a file as a group knows it and this device has it.
type File struct {
	File     string   `json:"file"` // its id: SHA-256 of the content, hex
	Ref      string   `json:"ref"`  // what others need to fetch it: id, root and size
	Size     int64    `json:"size"`
	Name     string   `json:"name,omitempty"`
	Type     string   `json:"type,omitempty"` // media type, as its author says
	Group    string   `json:"group,omitempty"`
	Document string   `json:"document,omitempty"` // that tells the group about it
	Modified int64    `json:"modified,omitempty"` // of the document, unix ms
	Users    []string `json:"users,omitempty"`    // who may have it beside the members
	Public   bool     `json:"public,omitempty"`
	Complete bool     `json:"complete"` // the whole file is on this device
	Have     int64    `json:"have"`     // verified bytes on this device
	Pinned   bool     `json:"pinned,omitempty"`
	Fetching bool     `json:"fetching,omitempty"`
	Sources  int      `json:"sources,omitempty"` // devices that it is fetched from now
	Error    string   `json:"error,omitempty"`   // why the last fetch failed
}

// LocalFiles is the answer of GET /v1/files.
type LocalFiles struct {
	Used  int64  `json:"used"`            // bytes; files that are not whole count in full
	Quota int64  `json:"quota,omitempty"` // bytes; absent when there is none
	Files []File `json:"files"`
}

// ShareFile is the body of POST /v1/groups/{g}/files/{f}/share.
type ShareFile struct {
	Users  []string `json:"users,omitempty"` // ids, begins of ids or names of members of your groups
	Public bool     `json:"public,omitempty"`
}

// PinFile is the body of POST /v1/groups/{g}/files/{f}/pin.
type PinFile struct {
	Pinned bool `json:"pinned"`
}

// FetchRef is the body of POST /v1/files/fetch.
type FetchRef struct {
	Ref string `json:"ref"`
}
