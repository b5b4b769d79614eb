package crypto_test

import (
	"testing"
	"time"

	peercrypto "github.com/peersignal/peersignal/pkg/crypto"
)

// benchmarkObject is a change as it is stored: about 600 bytes.
const benchmarkObject = `{"auth":{"as":"tpoAqMtIEyuiCWeqKBofu0jJhuBaQXEBHxCz6oYldt8","prev":"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU","seq":17},` +
	`"changes":[["title","a title of a few words"],["body","é: a text of some length, in which nothing needs an escape, and a bit more of it"],["n",42.5],["old"]],` +
	`"group":"00kqn91s56yt2gu3yf5vnbg67","id":"00kqn91s56yt2gu3yf5vnbg73","modified":1625282091500,` +
	`"signature":"oFJIZVB+LZA7lFNofoL0FHsxkZFD5xyBfVspxuUjonksPKH7844S3ONc+lue6nhoYw/dil/nG5Maf0Atg5uHDg==",` +
	`"signer":"00kqn91s56yt2gu3yf5vnbg67","subject":"00kqn91s56yt2gu3yf5vnbg70"}`

func BenchmarkCanonicalize(b *testing.B) {
	raw := []byte(benchmarkObject)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := peercrypto.Canonicalize(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSumObject(b *testing.B) {
	raw := []byte(benchmarkObject)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := peercrypto.SumObject(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyHash(b *testing.B) {
	k := seedKey(b, 0)
	h := peercrypto.Sum([]byte(benchmarkObject))
	sig, public := k.SignHash(h), k.Public()
	b.ReportAllocs()
	for b.Loop() {
		if !public.VerifyHash(h, sig) {
			b.Fatal("own signature refused")
		}
	}
}

func BenchmarkParsePublicKey(b *testing.B) {
	text := seedKey(b, 0).Public().String()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := peercrypto.ParsePublicKey(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCertVerify(b *testing.B) {
	cert := goldenCert(b)
	now := time.UnixMilli(cert.Issued)
	b.ReportAllocs()
	for b.Loop() {
		if err := cert.Verify(now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUserID(b *testing.B) {
	user, _, _ := goldenBodies()
	b.ReportAllocs()
	for b.Loop() {
		user.Created++ // not cached
		if user.ID() == "" {
			b.Fatal("no id")
		}
	}
}
