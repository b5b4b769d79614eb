package peer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/files"
)

// TypeFile is the type of documents that tell about a file.
const TypeFile = "File"

const (
	maxFileName   = 255
	maxFileType   = 127
	maxShareUsers = 1000
)

// fileDoc is the content of a document about a file. Who wrote it vouches that
// ID and root belong together.
type fileDoc struct {
	Type       string          `json:"type"`
	ID         peercrypto.ID   `json:"id"`
	File       files.ID        `json:"file"`
	Root       files.Root      `json:"root"`
	Size       int64           `json:"size"`
	Name       string          `json:"name"`
	FileType   string          `json:"fileType,omitempty"`
	IsPublic   bool            `json:"isPublic,omitempty"`
	ShareUsers []peercrypto.ID `json:"shareUsers,omitempty"`
}

// FileDocumentID returns the id of the document about a file in a group: each
// file has one there.
func FileDocumentID(group peercrypto.ID, id files.ID) peercrypto.ID {
	return ImportID(group, TypeFile, id.String())
}

func (d fileDoc) ref() files.Ref { return files.Ref{ID: d.File, Root: d.Root, Size: d.Size} }

// check reports what is wrong with a document about a file.
func (d fileDoc) check(group peercrypto.ID) error {
	if d.ID != FileDocumentID(group, d.File) {
		return fmt.Errorf("%w: its id is not the one of the file", groupsync.ErrInvalidDocument)
	}
	if err := d.ref().Validate(); err != nil {
		return fmt.Errorf("%w: %w", groupsync.ErrInvalidDocument, err)
	}
	if len(d.Name) > maxFileName || !utf8.ValidString(d.Name) || strings.ContainsFunc(d.Name, isControl) {
		return fmt.Errorf("%w: the name has more than %d bytes, or control characters", groupsync.ErrInvalidDocument, maxFileName)
	}
	if len(d.FileType) > maxFileType || strings.ContainsFunc(d.FileType, isControl) {
		return fmt.Errorf("%w: the file type has more than %d bytes, or control characters", groupsync.ErrInvalidDocument, maxFileType)
	}
	if len(d.ShareUsers) > maxShareUsers {
		return fmt.Errorf("%w: it is shared with more than %d users; make a group", groupsync.ErrInvalidDocument, maxShareUsers)
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// readFileDoc reads a document; one that does not tell about a file properly is
// an error.
func readFileDoc(doc groupsync.Document) (fileDoc, error) {
	var d fileDoc
	if doc.Deleted || doc.Type != TypeFile {
		return d, fmt.Errorf("%w: it tells about no file", groupsync.ErrInvalidDocument)
	}
	if err := peercrypto.UnmarshalLenientFields(doc.JSON, &d); err != nil { // which takes "ispublic" for nothing
		return d, fmt.Errorf("%w: %w", groupsync.ErrInvalidDocument, err)
	}
	return d, d.check(doc.Group)
}

// fileDocOf returns the document about a file in a group, or ErrNotFound.
func (p *Peer) fileDocOf(ctx context.Context, group peercrypto.ID, id files.ID) (fileDoc, time.Time, error) {
	doc, err := p.engine.Get(ctx, group, FileDocumentID(group, id))
	if err != nil {
		if errors.Is(err, groupsync.ErrNotFound) {
			err = fmt.Errorf("file %s in group %s: %w", id.Short(), group.Short(), groupsync.ErrNotFound)
		}
		return fileDoc{}, time.Time{}, err
	}
	d, err := readFileDoc(doc)
	if err != nil {
		return d, time.Time{}, fmt.Errorf("document %s about file %s: %w", doc.Subject.Short(), id.Short(), err)
	}
	return d, time.UnixMilli(doc.Modified), nil
}

// fileDocs calls fn for the documents about files in a group, in the order of
// their ids; wrong ones are left out.
func (p *Peer) fileDocs(ctx context.Context, group peercrypto.ID, fn func(fileDoc, time.Time)) error {
	q := groupsync.DocumentQuery{Group: group, Type: TypeFile, Limit: 1000}
	for {
		n := 0
		err := p.engine.List(ctx, q, func(doc groupsync.Document) error {
			n++
			q.After = doc.Subject
			if d, err := readFileDoc(doc); err == nil {
				fn(d, time.UnixMilli(doc.Modified))
			}
			return nil
		})
		if err != nil || n < q.Limit {
			return err
		}
	}
}

// mayRead tells whether a user may have a file from this device: a group of this
// user names it, this device has it for that group, and the other one is a member
// there, or is named, or everybody is. first is looked at first.
func (p *Peer) mayRead(ctx context.Context, user peercrypto.ID, ref files.Ref, first *peercrypto.ID) bool {
	if !p.knows(user) {
		return false
	}
	if *first != "" && p.groupLets(ctx, *first, user, ref) {
		return true
	}
	for _, group := range p.engine.Joined() {
		if p.groupLets(ctx, group, user, ref) {
			*first = group
			return true
		}
	}
	return false
}

// knows tells whether a user is more than somebody who is here to join a group.
func (p *Peer) knows(user peercrypto.ID) bool {
	return p.engine.Admits(user) == groupsync.AdmitMember
}

func (p *Peer) groupLets(ctx context.Context, group, user peercrypto.ID, ref files.Ref) bool {
	// Who may write in a group can name any file there. That this user added it
	// there, or got it there, is what nobody else can bring about.
	if !p.engine.Shares(group, p.User()) || !p.files.store.Marked(ref, string(group)) {
		return false
	}
	d, _, err := p.fileDocOf(ctx, group, ref.ID)
	if err != nil || d.ref() != ref {
		return false
	}
	if d.IsPublic || p.engine.Shares(group, user) {
		return true
	}
	for _, u := range d.ShareUsers {
		if u == user {
			return true
		}
	}
	return false
}

// named returns a function that tells whether any group on this device names a
// file; those that were left count until they are purged.
func (p *Peer) named(ctx context.Context) (func(files.ID) bool, error) {
	groups, err := p.engine.Groups(ctx)
	if err != nil {
		return nil, err
	}
	return func(id files.ID) bool {
		for _, g := range groups {
			if _, _, err := p.fileDocOf(ctx, g.ID, id); err == nil || !errors.Is(err, groupsync.ErrNotFound) && !errors.Is(err, groupsync.ErrInvalidDocument) {
				return true // also when the store can't tell
			}
		}
		return false
	}, nil
}
