package peer

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	groupsync "github.com/peersignal/peersignal/pkg/sync"
)

// Limits of an import.
const (
	importBatch      = 1000           // documents in one transaction
	importBatchBytes = 4 << 20        // text of one transaction
	importMaxValue   = 1<<20 + 64<<10 // text of one document, white space included
	importFlush      = 500 * time.Millisecond
	importIDTime     = 1_420_070_400_000 // 2015-01-01, the first time an id may have
	maxTypeName      = 64
)

// ImportOptions say how documents are made of what is read.
type ImportOptions struct {
	// Type is the type of documents that have no member "type".
	Type string
	// Key names a member whose value, a string or number, identifies a
	// document in its type: the same value is the same document. Without a key
	// a document that has an id keeps it, and another one is identified by
	// its content.
	Key string
	// Progress is called after each durable batch; may be nil.
	Progress func(ImportResult)
}

// ImportResult counts documents.
type ImportResult struct {
	Read, New, Changed, Unchanged int
}

// An ImportError says which document could not be imported. All before it were, and some after it may be.
type ImportError struct {
	Document int   // counted from 1
	Offset   int64 // bytes from the begin of the text to the document
	Err      error
}

func (e *ImportError) Error() string {
	return fmt.Sprintf("document %d (at byte %d): %v", e.Document, e.Offset, e.Err)
}

// Unwrap returns the cause.
func (e *ImportError) Unwrap() error { return e.Err }

// ImportID is the id that an imported document gets: always the same for a
// group, type and key, so that an import can be repeated or resumed.
func ImportID(group peercrypto.ID, typ, key string) peercrypto.ID {
	sum := sha256.Sum256([]byte("peerd/import/1\n" + string(group) + "\n" + typ + "\n" + key))
	n := new(big.Int).SetBytes(sum[:])
	n.Mod(n, new(big.Int).Exp(big.NewInt(36), big.NewInt(15), nil))
	return peercrypto.ID(pad36(strconv.FormatInt(importIDTime, 36), 10) + pad36(n.Text(36), 15))
}

func pad36(s string, n int) string { return strings.Repeat("0", n-len(s)) + s }

// Import reads a stream of JSON objects, separated by white space or not at all
// (so NDJSON too), and puts them into a group in transactions of up to 1,000
// documents. A batch is also committed when the text pauses for half a second.
// It stops at the first document that is invalid, with an *ImportError.
// Repeating an import changes nothing. The last Read of r may still be under
// way when Import returns because of ctx.
func (p *Peer) Import(ctx context.Context, group peercrypto.ID, r io.Reader, o ImportOptions) (ImportResult, error) {
	if len(o.Type) > maxTypeName {
		return ImportResult{}, fmt.Errorf("%w: type is longer than %d bytes", ErrImport, maxTypeName)
	}
	im := &importer{peer: p, group: group, o: o}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	docs := make(chan importDoc)
	go im.read(ctx, r, docs)
	err := im.collect(ctx, docs)
	return im.result, err
}

type importDoc struct {
	n      int
	offset int64
	raw    json.RawMessage
	err    error // the last one; nil at the end of the text
	end    bool
}

type importer struct {
	peer   *Peer
	group  peercrypto.ID
	o      ImportOptions
	result ImportResult
	batch  []importDoc
	bytes  int
}

// read decodes values until the end, an error or the end of ctx.
func (im *importer) read(ctx context.Context, r io.Reader, docs chan<- importDoc) {
	limited := &valueReader{r: r}
	dec := jsontext.NewDecoder(limited)
	for n := 1; ; n++ {
		limited.left = importMaxValue
		doc := importDoc{n: n, offset: dec.InputOffset()}
		raw, err := dec.ReadValue()
		switch {
		case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			doc.end = true
		case err != nil:
			doc.err, doc.end = importSyntax(err), true
		default:
			doc.raw = append(doc.raw, raw...)
		}
		select {
		case docs <- doc:
		case <-ctx.Done():
			return
		}
		if doc.end {
			return
		}
	}
}

var errValueTooLarge = errors.New("a document is at most 1 MiB")

// importSyntax words what is wrong with a text without repeating it.
func importSyntax(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, errValueTooLarge):
		return fmt.Errorf("%w: %w", ErrImport, errValueTooLarge)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: the text ends in the middle of a document", ErrImport)
	case errors.As(err, &syntax):
		return fmt.Errorf("%w: not JSON at byte %d: %w", ErrImport, syntax.ByteOffset, syntax.Err)
	}
	return err
}

// valueReader fails when one value needs more than left bytes.
type valueReader struct {
	r    io.Reader
	left int
}

func (v *valueReader) Read(b []byte) (int, error) {
	if v.left <= 0 {
		return 0, errValueTooLarge
	}
	n, err := v.r.Read(b[:min(len(b), v.left)])
	v.left -= n
	return n, err
}

// collect makes batches and commits them.
func (im *importer) collect(ctx context.Context, docs <-chan importDoc) error {
	pause := time.NewTimer(importFlush)
	defer pause.Stop()
	for {
		select {
		case doc := <-docs:
			if doc.err != nil {
				return errors.Join(im.commit(ctx), &ImportError{Document: doc.n, Offset: doc.offset, Err: doc.err})
			}
			if doc.end {
				return im.commit(ctx)
			}
			if err := im.prepare(&doc); err != nil {
				return errors.Join(im.commit(ctx), &ImportError{Document: doc.n, Offset: doc.offset, Err: err})
			}
			im.batch = append(im.batch, doc)
			im.bytes += len(doc.raw)
			if len(im.batch) < importBatch && im.bytes < importBatchBytes {
				pause.Reset(importFlush)
				continue
			}
		case <-pause.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := im.commit(ctx); err != nil {
			return err
		}
		pause.Reset(importFlush)
	}
}

// commit writes the batch and reports it.
func (im *importer) commit(ctx context.Context) error {
	if len(im.batch) == 0 {
		return nil
	}
	raws := make([]json.RawMessage, len(im.batch))
	for i, doc := range im.batch {
		raws[i] = doc.raw
	}
	results, err := im.peer.PutMany(ctx, im.group, raws)
	if err != nil {
		return err
	}
	var failed error
	for i, r := range results {
		switch r.Status {
		case groupsync.PutUnchanged:
			im.result.Unchanged++
		case groupsync.PutCreated:
			im.result.New++
		case groupsync.PutChanged:
			im.result.Changed++
		default:
			if failed == nil {
				failed = &ImportError{Document: im.batch[i].n, Offset: im.batch[i].offset, Err: r.Err}
			}
			continue
		}
		im.result.Read++
	}
	im.batch, im.bytes = im.batch[:0], 0
	if im.o.Progress != nil {
		im.o.Progress(im.result)
	}
	return failed
}
