package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
	"github.com/peersignal/peersignal/pkg/sync/entry"
	"github.com/peersignal/peersignal/pkg/sync/files"
)

// Errors of files; those of the store are files.ErrNotFound and others.
var (
	// ErrNoFiles means that Config.Files is not set.
	ErrNoFiles = errors.New("this device keeps no files")
	// ErrFileRemote means that a file is known, but not (as a whole) on this device.
	ErrFileRemote = errors.New("the file is not on this device; fetch it first")
)

// FileLimits bound the exchange of files; zero means the default that is named.
type FileLimits struct {
	// UploadRate and PeerUploadRate bound what is sent to all devices and to
	// each, DownloadRate what is fetched, in bytes a second; default no bound.
	UploadRate, PeerUploadRate, DownloadRate int64
	// MaxFetches bounds the files that are fetched at once; default 3. Others
	// wait, first come, first served.
	MaxFetches int
	// MaxUploads bounds the transfers to others at once; default 32.
	MaxUploads int
	// EvictAfter is how long a file stays that no group names any more;
	// default 1 h.
	EvictAfter time.Duration
}

func (l FileLimits) withDefaults() (FileLimits, error) {
	setDefault(&l.MaxFetches, 3)
	setDefault(&l.MaxUploads, 32)
	setDefault(&l.EvictAfter, time.Hour)
	if l.UploadRate < 0 || l.PeerUploadRate < 0 || l.DownloadRate < 0 || l.MaxFetches < 0 || l.MaxUploads < 0 || l.EvictAfter < 0 {
		return l, errors.New("peer configuration: a limit of files is negative")
	}
	return l, nil
}

// FileMeta is what the author of a file tells about it.
type FileMeta struct {
	Name string // for people, at most 255 bytes; never a path
	Type string // media type; may be empty
	// Users may have the file beside the members of the group, Public: everybody
	// who is connected with a member. They need its files.Ref.
	Users  []peercrypto.ID
	Public bool
}

// FileInfo is a file as a group knows it and this device has it.
type FileInfo struct {
	files.Ref
	FileMeta
	Group    peercrypto.ID // "" for one that was fetched by its reference
	Document peercrypto.ID
	Modified time.Time
	// Complete is set when the whole file is on this device; Have counts the
	// verified bytes.
	Complete bool
	Have     int64
	Pinned   bool
	Fetching bool  // it is being fetched, or waits for its turn
	Sources  int   // devices that it is fetched from now
	Err      error // why the last fetch ended without success
}

// AddFile stores what r has until its end as a file and tells the group about
// it in a document, which it returns. Nothing is held in memory but a chunk. A
// content that the group knows already gets the new name.
func (p *Peer) AddFile(ctx context.Context, group peercrypto.ID, r io.Reader, meta FileMeta) (FileInfo, error) {
	if p.files == nil {
		return FileInfo{}, ErrNoFiles
	}
	if err := p.mayWriteFiles(ctx, group); err != nil {
		return FileInfo{}, fmt.Errorf("adding a file: %w", err)
	}
	if err := meta.check(group); err != nil {
		return FileInfo{}, fmt.Errorf("adding a file: %w", err)
	}
	p.files.makeRoom(-1)
	ref, err := p.files.store.Add(ctx, r, nil)
	if err != nil {
		return FileInfo{}, err
	}
	return p.putFileDoc(ctx, group, ref, meta)
}

// FileRoom reports whether a file of so many bytes could be added or fetched:
// files.ErrTooLarge, ErrQuota or ErrNoSpace if not. A negative size is unknown.
func (p *Peer) FileRoom(size int64) error {
	if p.files == nil {
		return ErrNoFiles
	}
	p.files.makeRoom(size)
	return p.files.store.Room(size)
}

func (m FileMeta) check(group peercrypto.ID) error { return m.doc(group, files.Ref{}).check(group) }

func (m FileMeta) doc(group peercrypto.ID, ref files.Ref) fileDoc {
	return fileDoc{
		Type: TypeFile, ID: FileDocumentID(group, ref.ID), File: ref.ID, Root: ref.Root, Size: ref.Size,
		Name: m.Name, FileType: m.Type, IsPublic: m.Public, ShareUsers: m.Users,
	}
}

// mayWriteFiles fails early where the document could not be written.
func (p *Peer) mayWriteFiles(ctx context.Context, group peercrypto.ID) error {
	g, err := p.engine.Group(ctx, group)
	switch {
	case err != nil:
		return err
	case !g.Joined || g.Left || g.Role == "":
		return fmt.Errorf("group %s: %w", group.Short(), groupsync.ErrNotMember)
	case !g.Role.AtLeast(entry.Write):
		return fmt.Errorf("group %s: %w", group.Short(), groupsync.ErrReadOnly)
	}
	return nil
}

func (p *Peer) putFileDoc(ctx context.Context, group peercrypto.ID, ref files.Ref, meta FileMeta) (FileInfo, error) {
	if err := p.files.giveIn(group, ref); err != nil {
		return FileInfo{}, err
	}
	doc, err := json.Marshal(meta.doc(group, ref))
	if err == nil {
		_, err = p.engine.Put(ctx, group, doc)
	}
	if err != nil {
		return FileInfo{}, fmt.Errorf("telling the group about file %s: %w", ref.ID.Short(), err)
	}
	return p.File(ctx, group, ref.ID)
}

// ShareFile changes with whom a file of a group is shared beside its members.
func (p *Peer) ShareFile(ctx context.Context, group peercrypto.ID, id files.ID, users []peercrypto.ID, public bool) (FileInfo, error) {
	if p.files == nil {
		return FileInfo{}, ErrNoFiles
	}
	d, _, err := p.fileDocOf(ctx, group, id)
	if err != nil {
		return FileInfo{}, err
	}
	return p.putFileDoc(ctx, group, d.ref(), FileMeta{Name: d.Name, Type: d.FileType, Users: users, Public: public})
}

// Files lists the files that a group knows, in the order of their documents.
func (p *Peer) Files(ctx context.Context, group peercrypto.ID) ([]FileInfo, error) {
	if p.files == nil {
		return nil, ErrNoFiles
	}
	var out []FileInfo
	err := p.fileDocs(ctx, group, func(d fileDoc, modified time.Time) {
		out = append(out, p.files.info(group, d, modified))
	})
	return out, err
}

// File describes one file of a group.
func (p *Peer) File(ctx context.Context, group peercrypto.ID, id files.ID) (FileInfo, error) {
	if p.files == nil {
		return FileInfo{}, ErrNoFiles
	}
	d, modified, err := p.fileDocOf(ctx, group, id)
	if err != nil {
		return FileInfo{}, err
	}
	return p.files.info(group, d, modified), nil
}

// FileByRef describes a file by its reference alone.
func (p *Peer) FileByRef(ref files.Ref) (FileInfo, error) {
	if p.files == nil {
		return FileInfo{}, ErrNoFiles
	}
	return p.files.state(FileInfo{Ref: ref}), nil
}

// LocalFiles describes every file on this device, whole or not, by reference
// alone, and tells the bytes that count and the quota, 0 when there is none.
func (p *Peer) LocalFiles() (list []FileInfo, used, quota int64, err error) {
	if p.files == nil {
		return nil, 0, 0, ErrNoFiles
	}
	for _, info := range p.files.store.List() {
		list = append(list, p.files.state(FileInfo{Ref: info.Ref}))
	}
	used, quota = p.files.store.Usage()
	return list, used, quota, nil
}

// FetchFile gets a file that a group knows from the devices of its members, as
// many as there are at once, and returns when the whole file is on this device.
// progress, which may be nil, is called now and then. When ctx ends the fetch
// goes on in the background, also after a restart, until it is done or ForgetFile
// is called; calling FetchFile again waits for it.
func (p *Peer) FetchFile(ctx context.Context, group peercrypto.ID, id files.ID, progress func(FileInfo)) error {
	if p.files == nil {
		return ErrNoFiles
	}
	d, _, err := p.fileDocOf(ctx, group, id)
	if err != nil {
		return err
	}
	return p.files.fetch(ctx, d.ref(), group, progress)
}

// FetchFileRef is FetchFile for a file that was shared with this user, or with
// everybody, by its reference. Every connected device is asked.
func (p *Peer) FetchFileRef(ctx context.Context, ref files.Ref, progress func(FileInfo)) error {
	if p.files == nil {
		return ErrNoFiles
	}
	if err := ref.Validate(); err != nil {
		return err
	}
	return p.files.fetch(ctx, ref, "", progress)
}

// ForgetFile removes a file from this device, and ends its fetch. The group
// still knows it, and it can be fetched again while others have it; delete its
// document to make everybody forget it.
func (p *Peer) ForgetFile(_ context.Context, id files.ID) error {
	if p.files == nil {
		return ErrNoFiles
	}
	return p.files.forget(id)
}

// PinFile keeps a file on this device also when no group names it any more.
func (p *Peer) PinFile(id files.ID, pinned bool) error {
	if p.files == nil {
		return ErrNoFiles
	}
	return p.files.store.Pin(id, pinned)
}

// FileProgress says how far the fetch of a file is, at most twice a second and
// once at its end: then Complete or Err is set.
type FileProgress struct {
	File FileInfo
}

func (FileProgress) event() {}
