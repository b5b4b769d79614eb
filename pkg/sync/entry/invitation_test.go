package entry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
	"github.com/peersignal/peersignal/pkg/sync/entry"
)

func TestInvitationLink(t *testing.T) {
	want := goldenInvitation(makeCreate(t))
	link := want.Link()
	payload := strings.TrimPrefix(link, "peers:join#")
	for _, text := range []string{
		link, "  " + link + "\n", "https://example.org/join#" + payload, "https://example.org/app/join#" + payload,
		link[:40] + "\r\n " + link[40:],
	} {
		got, err := entry.ParseInvitation(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, %v", got, err)
		}
	}
	if want.IPK() != inviteKey.Public() || want.SigningKey().Public() != inviteKey.Public() {
		t.Error("the key is not that of the secret")
	}
	bare := want
	bare.Servers, bare.Name = nil, ""
	if got, err := entry.ParseInvitation(bare.Link()); err != nil || got.Name != "" || len(got.Servers) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestInvitationRefused(t *testing.T) {
	good := goldenInvitation(makeCreate(t))
	link := good.Link()
	for i := range link {
		altered := link[:i] + string(alter(link[i])) + link[i+1:]
		if _, err := entry.ParseInvitation(altered); !errors.Is(err, entry.ErrInvitation) {
			t.Errorf("with another character at %d: %v", i, err)
		}
		if _, err := entry.ParseInvitation(link[:i]); !errors.Is(err, entry.ErrInvitation) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	for _, text := range []string{
		"", "peers:join", "http://example.org/join#" + link[11:], "https://example.org/" + link[11:], link + "A", link + "#x", strings.Repeat("a", 5000),
		signed(`{"v":2}`), signed(`{"v":1}`), signed(`[]`), signed(``), signed(`{"v":1,"x":1}`),
	} {
		_, err := entry.ParseInvitation(text)
		if !errors.Is(err, entry.ErrInvitation) || len(text) > 30 && strings.Contains(err.Error(), text[20:]) {
			t.Errorf("%.40s: got %v", text, err)
		}
	}
	for name, breakIt := range map[string]func(*entry.Invitation){
		"group":   func(i *entry.Invitation) { i.Group = "x" },
		"create":  func(i *entry.Invitation) { i.Create = peercrypto.Hash{} },
		"secret":  func(i *entry.Invitation) { i.Secret = [32]byte{} },
		"role":    func(i *entry.Invitation) { i.Role = "owner" },
		"expires": func(i *entry.Invitation) { i.Expires = 0 },
		"name":    func(i *entry.Invitation) { i.Name = "a\x1b[2J" },
		"servers": func(i *entry.Invitation) { i.Servers = []string{"ws://a", "ws://b", "ws://c", "ws://d"} },
		"file":    func(i *entry.Invitation) { i.Servers = []string{"file:///etc/passwd"} },
		"user":    func(i *entry.Invitation) { i.Servers = []string{"wss://u:p@example.org"} },
		"no host": func(i *entry.Invitation) { i.Servers = []string{"wss:///x"} },
		"long":    func(i *entry.Invitation) { i.Servers = []string{"wss://a/" + strings.Repeat("x", 300)} },
	} {
		bad := good
		breakIt(&bad)
		if bad.Link() != "" {
			t.Errorf("%s: made a link", name)
		}
	}
}

func alter(c byte) rune {
	if c == 'A' {
		return 'B'
	}
	return 'A'
}

// signed makes a link of any object.
func signed(object string) string {
	sum := peercrypto.Sum([]byte(object))
	return "peers:join#" + peercrypto.EncodeB64u(append([]byte(object), sum[:4]...))
}

func TestInvitationPrintsNoSecret(t *testing.T) {
	i := goldenInvitation(makeCreate(t))
	texts := []string{i.String(), i.GoString(), i.LogValue().String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, i), fmt.Sprintf(verb, &i), fmt.Sprintf(verb, []entry.Invitation{i}))
	}
	for _, text := range texts {
		if strings.Contains(text, "64 65") || strings.Contains(text, "404142") || !strings.Contains(text, "redacted") {
			t.Errorf("prints %s", text)
		}
	}
	if _, err := json.Marshal(i); !errors.Is(err, peercrypto.ErrSecret) {
		t.Errorf("got %v", err)
	}
	if s := fmt.Sprintf("%v %+v", entry.RVKey{Key: secret}, entry.TopicKey(secret)); strings.Contains(s, "64") {
		t.Errorf("prints %s", s)
	}
}

func TestClaim(t *testing.T) {
	create := makeCreate(t)
	c := makeClaim(t, create)
	raw, err := c.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	again, err := entry.ParseClaim(raw)
	if err != nil || again != c || again.Hash() != c.Hash() {
		t.Fatalf("got %v", err)
	}
	for name, breakIt := range map[string]func(*entry.Claim){
		"group":    func(c *entry.Claim) { c.Group = subject },
		"create":   func(c *entry.Claim) { c.Create[0]++ },
		"ipk":      func(c *entry.Claim) { c.IPK = owner.Public() },
		"user":     func(c *entry.Claim) { c.UserID = subject },
		"genesis":  func(c *entry.Claim) { c.Genesis[0]++ },
		"key":      func(c *entry.Claim) { c.UserKey = owner.Public() },
		"device":   func(c *entry.Claim) { c.DeviceID = subject },
		"role":     func(c *entry.Claim) { c.Role = entry.Admin },
		"no role":  func(c *entry.Claim) { c.Role = "" },
		"time":     func(c *entry.Claim) { c.Time++ },
		"early":    func(c *entry.Claim) { c.Time = 1 },
		"sigI":     func(c *entry.Claim) { c.SigI = c.SigU },
		"sigU":     func(c *entry.Claim) { c.SigU = c.SigI },
		"no ipk":   func(c *entry.Claim) { c.IPK = peercrypto.PublicKey{} },
		"bad id":   func(c *entry.Claim) { c.UserID = "x" },
		"not utf8": func(c *entry.Claim) { c.DeviceID = "\xff" },
	} {
		bad := c
		breakIt(&bad)
		if err := bad.Verify(); !errors.Is(err, entry.ErrClaim) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	signedTwice := c
	signedTwice.SigU[0]++
	if signedTwice.Hash() != c.Hash() {
		t.Error("the hash covers a signature")
	}
	for _, text := range []string{"", "{}", string(raw) + " ", strings.Replace(string(raw), `"g":`, `"h":1,"g":`, 1)} {
		if _, err := entry.ParseClaim([]byte(text)); !errors.Is(err, entry.ErrClaim) {
			t.Errorf("%.20s: got %v", text, err)
		}
	}
}

func FuzzInvitation(f *testing.F) {
	link := goldenInvitation(makeCreate(f)).Link()
	f.Add(link)
	f.Add(link[:len(link)/2])
	f.Add("https://example.org/join#" + link[11:])
	f.Add(signed(`{"v":1}`))
	f.Fuzz(func(t *testing.T, text string) {
		i, err := entry.ParseInvitation(text)
		if err != nil {
			if !errors.Is(err, entry.ErrInvitation) {
				t.Errorf("unknown error %v", err)
			}
			return
		}
		again, err := entry.ParseInvitation(i.Link())
		if err != nil || !reflect.DeepEqual(again, i) {
			t.Errorf("parsed %v and then %v, %v", i, again, err)
		}
	})
}

func FuzzClaim(f *testing.F) {
	raw, err := makeClaim(f, makeCreate(f)).Canonical()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := entry.ParseClaim(raw)
		if err != nil {
			return
		}
		if again, err := c.Canonical(); err != nil || string(again) != string(raw) {
			t.Error("a claim has two forms")
		}
	})
}
