package main

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // for home.html
	"encoding/base64"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/peersignal/peersignal/internal/buildinfo"
	"github.com/peersignal/peersignal/pkg/wire"
)

//go:embed home.html
var homeHTML string

// docsURL is where the documentation of this version is.
const docsURL = "https://github.com/peersignal/peersignal/tree/main/docs"

var (
	homePage   = template.Must(template.New("home").Parse(homeHTML))
	homePolicy = "default-src 'none'; style-src 'sha256-" + homeStyle() + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// homeStyle is the hash of the page's style sheet, the one thing that its
// policy lets a browser use.
func homeStyle() string {
	_, rest, _ := strings.Cut(homeHTML, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	h := sha256.Sum256([]byte(style))
	return base64.StdEncoding.EncodeToString(h[:])
}

// home tells a person who opens the server's address what it is and how an app
// is pointed at it, and nothing about who uses it.
func (a *app) home(w http.ResponseWriter, r *http.Request) {
	url, known := a.clientURL(r.Host)
	var page bytes.Buffer
	err := homePage.Execute(&page, map[string]any{
		"Version": buildinfo.Version, "URL": url, "Known": known, "Path": wire.Path, "Docs": docsURL,
	})
	if err != nil {
		a.log.Error("the page for people cannot be made", "error", err)
		http.Error(w, "this page cannot be made", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", homePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	_, _ = w.Write(page.Bytes())
}

// clientURL is what apps are given: the server's name, or, when it has none,
// the address that it was asked under, if it would accept that.
func (a *app) clientURL(host string) (url string, known bool) {
	scheme := "http://"
	if a.secure {
		scheme = "https://"
	}
	if names := a.current().names; len(names) > 0 {
		if !a.secure && !isLocal(names[0]) {
			scheme = "https://" // through a proxy
		}
		return scheme + strings.TrimSuffix(names[0], ":443"), true
	}
	if !isLocal(host) {
		return "", false
	}
	return scheme + host, true
}

// isLocal reports whether a server without names accepts host: localhost or an
// address.
func isLocal(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	_, err = netip.ParseAddr(name)
	return err == nil || name == "localhost"
}
