package skiff_test

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// client asks a server for a page and trusts the CAs of the system, as most programs do.
const client = `package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Println("name a server")
		os.Exit(2)
	}
	r, err := http.Get(os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(r.Status)
}
`

// TestScratchImageOfAClient is the mistake that most people make first: a scratch image of an HTTPS client by
// COPY --from=builder /src /. The doctor names what is wrong with it, with its lines; --add-missing mends the first.
func TestScratchImageOfAClient(t *testing.T) {
	c := newCLI(t)
	dir := skifftest.Files(t, "go.mod", "module example.com/client\n\ngo 1.21\n", "main.go", client,
		"Dockerfile", "FROM golang:1.26-alpine AS builder\nWORKDIR /src\nCOPY . .\nRUN CGO_ENABLED=0 go build -o client .\n\n"+
			"FROM scratch\nCOPY --from=builder /src /\nENTRYPOINT [\"/client\"]\n")
	file := filepath.Join(dir, "Dockerfile")

	out := c.run("build", "-t", "client:1", dir)
	for _, want := range []string{
		"error: ca-certificates: /client verifies TLS certificates, and the image has no CA certificates (" + file + ":7)",
		"warning: sources: Go sources ship: 3 files, ",
		"warning: root-user: the program runs as root (" + file + ":6)",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not said:\n%s", want, out)
		}
	}
	report, code := c.try("check", "client:1")
	for _, want := range []string{"COPY --from=builder /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/", "COPY --from=builder /src/client /client", "no USER follows"} {
		if code != 1 || !strings.Contains(report, want) {
			t.Errorf("check: exit code %d, %q is not said:\n%s", code, want, report)
		}
	}

	mended := c.run("build", "--add-missing", "-t", "client:2", dir)
	if strings.Contains(mended, "error: ") || !strings.Contains(mended, "adding what is missing: ca-certificates") {
		t.Errorf("with --add-missing:\n%s", mended)
	}
	// Twice the same.
	id := regexp.MustCompile(`client +2 +([0-9a-f]{12})`)
	again := c.run("build", "--add-missing", "-t", "client:2", dir)
	if first, second := id.FindStringSubmatch(mended), id.FindStringSubmatch(again); first == nil || second == nil || first[1] != second[1] {
		t.Errorf("the layer differs from one build to the next:\n%s\n%s", mended, again)
	}

	// No CA that the world trusts signs for a test. So the test's own is added to the bundle that was supplied, at its place: the
	// program reads that very file, and what was supplied in it is whole.
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if said, code := c.try("run", "client:2", server.URL); code != 1 || !strings.Contains(said, "signed by unknown authority") {
		t.Errorf("a server that nobody signed for: exit code %d: %s", code, said)
	}
	files := t.TempDir()
	c.run("build", "--add-missing", "-o", files, dir)
	const bundle = "/etc/ssl/certs/ca-certificates.crt"
	text, err := os.ReadFile(filepath.Join(files, filepath.FromSlash(bundle)))
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "bundle")
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})...)
	if err := os.WriteFile(own, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if said := c.run("run", "-v", own+":"+bundle+":ro", "client:2", server.URL); !strings.Contains(said, "404 Not Found") {
		t.Errorf("a server that it can verify: %s", said)
	}
}
