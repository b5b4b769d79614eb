package link

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/wire"
)

// The roles in a transcript.
const (
	roleOfferer  = "a"
	roleAnswerer = "b"
)

func otherRole(role string) string {
	if role == roleOfferer {
		return roleAnswerer
	}
	return roleOfferer
}

// auth1 introduces a side: who it is and a fresh nonce.
type auth1 struct {
	Type    string                 `json:"type"` // "auth1"
	V       int                    `json:"v"`    // 2
	Role    string                 `json:"role"`
	Cert    peercrypto.DeviceCert  `json:"cert"`
	User    json.RawMessage        `json:"user"` // signed User document
	Genesis peercrypto.UserGenesis `json:"genesis"`
	Keys    []json.RawMessage      `json:"keys,omitzero"` // key events, when the user key is not the one in genesis
	Nonce   wire.Nonce             `json:"nonce"`
}

// auth2 proves it: a signature by the device key over this side's view of the
// channel.
type auth2 struct {
	Type string               `json:"type"` // "auth2"
	Sig  peercrypto.Signature `json:"sig"`
}

// auth3 says that the other side's proof was good.
type auth3 struct {
	Type  string `json:"type"` // "auth3"
	OK    bool   `json:"ok"`
	Level int    `json:"level"` // 2
}

// party is one side of a transcript.
type party struct {
	Dev     peercrypto.ID        `json:"dev"`
	DKey    peercrypto.PublicKey `json:"dkey"`
	User    peercrypto.ID        `json:"user"`
	Genesis peercrypto.Hash      `json:"genesis"`
	FP      string               `json:"fp"`
	Nonce   wire.Nonce           `json:"nonce"`
}

// transcript is what both sides sign: identities (RFC 8844) and both DTLS
// certificates (RFC 8827) of one channel. Layout: docs/formats.md, "The
// channel between two devices".
type transcript struct {
	V    int           `json:"v"` // 2
	Conn peercrypto.ID `json:"conn"`
	A    party         `json:"a"`
	B    party         `json:"b"`
}

// hash names the connection.
func (t transcript) hash() (peercrypto.Hash, error) {
	b, err := peercrypto.MarshalCanonical(t)
	if err != nil {
		return peercrypto.Hash{}, err
	}
	return peercrypto.Sum(b), nil
}

// signedBytes is T with the role of the signer, which stops reflection.
func (t transcript) signedBytes(role string) ([]byte, error) {
	return peercrypto.MarshalCanonical(struct {
		transcript
		Role string `json:"role"`
	}{t, role})
}

// frames is the main channel before authentication. ReadFrame returns
// ErrAuthFrame for what is longer than MaxAuthFrame.
type frames interface {
	ReadFrame() ([]byte, error)
	WriteFrame(frame []byte) error
}

// handshake authenticates one channel. It is used once.
type handshake struct {
	role    string
	conn    peercrypto.ID
	self    selfProof
	expect  Remote // of the offer or answer
	localFP string
	// remoteFP is the certificate that the DTLS connection has, offeredFP the
	// one that the peer signed in its offer or answer.
	remoteFP, offeredFP string
	now                 func() time.Time
	// userID gives the id of a genesis body; it is slow (scrypt), so the link
	// bounds how many run at once.
	userID func(peercrypto.UserGenesis) (peercrypto.ID, error)
	// checkKeys is Config.CheckKeys.
	checkKeys func(genesis peercrypto.UserGenesis, events [][]byte, key peercrypto.PublicKey) error
	// verified is called when the peer's proof was good, before auth3 is sent:
	// from then on the peer may open streams.
	verified func()
}

// selfProof is what this device shows of itself.
type selfProof struct {
	cert    peercrypto.DeviceCert
	device  peercrypto.SigningKey
	genesis peercrypto.UserGenesis
	userDoc []byte
	history [][]byte
}

// run exchanges the three frames with ch and returns who the peer is and the
// hash of the transcript.
func (h *handshake) run(ch frames) (Remote, peercrypto.Hash, error) {
	if h.remoteFP != h.offeredFP {
		return Remote{}, peercrypto.Hash{}, ErrFingerprintMismatch
	}
	var nonce wire.Nonce
	_, _ = rand.Read(nonce[:]) // never fails, see crypto/rand
	mine := auth1{
		Type: "auth1", V: 2, Role: h.role, Cert: h.self.cert,
		User: h.self.userDoc, Genesis: h.self.genesis, Nonce: nonce,
	}
	for _, event := range h.self.history {
		mine.Keys = append(mine.Keys, event)
	}
	if err := writeFrame(ch, mine); err != nil {
		return Remote{}, peercrypto.Hash{}, err
	}
	var theirs auth1
	if err := readFrame(ch, "auth1", &theirs); err != nil {
		return Remote{}, peercrypto.Hash{}, err
	}
	remote, err := h.checkAuth1(theirs, nonce)
	if err != nil {
		return Remote{}, peercrypto.Hash{}, err
	}
	t := h.transcript(mine, theirs)
	if err := h.prove(ch, t); err != nil {
		return Remote{}, peercrypto.Hash{}, err
	}
	id, err := t.hash()
	return remote, id, err
}

func (h *handshake) checkAuth1(p auth1, nonce wire.Nonce) (Remote, error) {
	if p.V != 2 {
		return Remote{}, fmt.Errorf("%w: version is not 2", ErrAuthFrame)
	}
	if p.Role == h.role || p.Nonce == nonce {
		return Remote{}, ErrReflection
	}
	if p.Role != otherRole(h.role) {
		return Remote{}, fmt.Errorf("%w: unknown role", ErrAuthFrame)
	}
	if err := p.Cert.Verify(h.now()); err != nil {
		return Remote{}, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	c, e := p.Cert, h.expect
	if c.DeviceID != e.DeviceID || c.DeviceKey != e.DeviceKey || c.UserID != e.UserID || c.UserKey != e.UserKey {
		return Remote{}, fmt.Errorf("%w: another device or user", ErrWrongUser)
	}
	if err := h.checkGenesis(p.Genesis, p.Keys, c); err != nil {
		return Remote{}, err
	}
	doc, err := peercrypto.ParseUserDoc(p.User)
	if err != nil {
		return Remote{}, fmt.Errorf("%w: %w", ErrWrongUser, err)
	}
	if doc.ID != c.UserID || doc.PublicKey != c.UserKey {
		return Remote{}, fmt.Errorf("%w: the user document is another user's", ErrWrongUser)
	}
	r := remoteOf(c)
	r.Genesis, r.UserDoc, r.Via, r.History = p.Genesis, doc.Canonical, e.Via, history(p.Keys)
	return r, nil
}

// checkGenesis ties the user id to the user key: the one in the genesis, or the
// one to which key events lead from there.
func (h *handshake) checkGenesis(g peercrypto.UserGenesis, events []json.RawMessage, c peercrypto.DeviceCert) error {
	if err := g.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrWrongUser, err)
	}
	if len(events) == 0 && g.Key != c.UserKey {
		return fmt.Errorf("%w: the user key is not the one that the user began with", ErrWrongUser)
	}
	id, err := h.userID(g)
	if err != nil {
		return err
	}
	if id != c.UserID {
		return fmt.Errorf("%w: the user id does not belong to the key", ErrWrongUser)
	}
	if len(events) == 0 {
		return nil
	}
	if h.checkKeys == nil {
		return fmt.Errorf("%w: key histories are not configured", ErrWrongUser)
	}
	if err := h.checkKeys(g, history(events), c.UserKey); err != nil {
		return fmt.Errorf("%w: %w", ErrWrongUser, err)
	}
	return nil
}

func history(events []json.RawMessage) [][]byte {
	var out [][]byte
	for _, e := range events {
		out = append(out, e)
	}
	return out
}

func (h *handshake) transcript(mine, theirs auth1) transcript {
	side := func(p auth1, fp string) party {
		return party{
			Dev: p.Cert.DeviceID, DKey: p.Cert.DeviceKey, User: p.Cert.UserID,
			Genesis: p.Genesis.Hash(), FP: fp, Nonce: p.Nonce,
		}
	}
	t := transcript{V: 2, Conn: h.conn}
	if h.role == roleOfferer {
		t.A, t.B = side(mine, h.localFP), side(theirs, h.remoteFP)
	} else {
		t.A, t.B = side(theirs, h.remoteFP), side(mine, h.localFP)
	}
	return t
}

// prove exchanges auth2 and auth3. The peer's signature is checked over this
// side's own transcript.
func (h *handshake) prove(ch frames, t transcript) error {
	own, err := t.signedBytes(h.role)
	if err != nil {
		return fmt.Errorf("building transcript: %w", err)
	}
	other, err := t.signedBytes(otherRole(h.role))
	if err != nil {
		return fmt.Errorf("building transcript: %w", err)
	}
	mine := auth2{Type: "auth2", Sig: h.self.device.SignPurpose(peercrypto.PurposePeerAuth, own)}
	if err := writeFrame(ch, mine); err != nil {
		return err
	}
	var theirs auth2
	if err := readFrame(ch, "auth2", &theirs); err != nil {
		return err
	}
	if theirs.Sig == mine.Sig {
		return ErrReflection
	}
	if !h.expect.DeviceKey.VerifyPurpose(peercrypto.PurposePeerAuth, other, theirs.Sig) {
		return ErrAuthSignature
	}
	h.verified()
	if err := writeFrame(ch, auth3{Type: "auth3", OK: true, Level: 2}); err != nil {
		return err
	}
	var done auth3
	if err := readFrame(ch, "auth3", &done); err != nil {
		return err
	}
	if !done.OK || done.Level != 2 {
		return fmt.Errorf("%w: auth3 does not say ok at level 2", ErrAuthFrame)
	}
	return nil
}

func writeFrame(ch frames, v any) error {
	b, err := peercrypto.MarshalCanonical(v)
	if err != nil {
		return fmt.Errorf("writing authentication frame: %w", err)
	}
	if len(b) > MaxAuthFrame {
		return fmt.Errorf("writing authentication frame: %d bytes, limit is %d; the user document is too large", len(b), MaxAuthFrame)
	}
	if err := ch.WriteFrame(b); err != nil {
		return fmt.Errorf("writing authentication frame: %w", err)
	}
	return nil
}

func readFrame(ch frames, typ string, v any) error {
	b, err := ch.ReadFrame()
	if err != nil {
		return fmt.Errorf("reading %s: %w", typ, err)
	}
	return parseFrame(b, typ, v)
}

// parseFrame decodes a frame of the type that is due. Frames are canonical and
// have no unknown members.
func parseFrame(b []byte, typ string, v any) error {
	if len(b) > MaxAuthFrame {
		return fmt.Errorf("reading %s: %w: too long", typ, ErrAuthFrame)
	}
	if err := decodeCanonical(b, v); err != nil {
		return fmt.Errorf("reading %s: %w: %w", typ, ErrAuthFrame, err)
	}
	got := ""
	switch f := v.(type) {
	case *auth1:
		got = f.Type
	case *auth2:
		got = f.Type
	case *auth3:
		got = f.Type
	}
	if got != typ {
		return fmt.Errorf("reading %s: %w: out of order", typ, ErrAuthFrame)
	}
	return nil
}

// userIDs computes ids of genesis bodies, few at a time: scrypt takes 16 MiB
// and tens of milliseconds of a core.
type userIDs struct{ slots chan struct{} }

func newUserIDs(atOnce int) *userIDs { return &userIDs{make(chan struct{}, atOnce)} }

// of waits for a slot until done is closed.
func (u *userIDs) of(g peercrypto.UserGenesis, done <-chan struct{}) (peercrypto.ID, error) {
	select {
	case u.slots <- struct{}{}:
		defer func() { <-u.slots }()
		return g.ID(), nil
	case <-done:
		return "", errors.New("checking user id: connection ended")
	}
}
