package skiff_test

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/skiff-build/skiff"
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
	skifftest.Long(t, "it compiles an HTTP client in an image")
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
	if said, code := c.try("run", "--network=host", "client:2", server.URL); code != 1 || !strings.Contains(said, "signed by unknown authority") {
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
	if said := c.run("run", "--network=host", "-v", own+":"+bundle+":ro", "client:2", server.URL); !strings.Contains(said, "404 Not Found") {
		t.Errorf("a server that it can verify: %s", said)
	}
}

// needy needs all that can be added to an image.
const needy = `package main

import (
	"fmt"
	"net/http"
	"os"
	"os/user"
	"time"
)

func main() {
	if len(os.Args) > 1 {
		return
	}
	r, err := http.Get("https://example.com")
	fmt.Println(r, err)
	l, err := time.LoadLocation("Asia/Tokyo")
	fmt.Println(l, err)
	u, err := user.Current()
	fmt.Println(u, err)
	f, err := os.CreateTemp("", "x")
	fmt.Println(f, err)
	home, err := os.UserCacheDir()
	fmt.Println(home, err)
}
`

// TestRemediesCanBePasted pastes each remedy of each finding into the Dockerfile that it was said of, builds and checks again: the
// finding is gone. What is a sentence has nothing to paste; no remedy has a word that the reader would have to fill in.
func TestRemediesCanBePasted(t *testing.T) {
	const (
		builder = "FROM golang:1.26-alpine AS build\nWORKDIR /src\nCOPY . .\nCOPY out/ /\n"
		good    = "COPY --from=build /plain /app\nUSER 65532:65532\n"
		plain   = "package main\n\nfunc main() { println(\"hello\") }\n"
		start   = "ENTRYPOINT [\"/app\"]\n"
		bundle  = "/etc/ssl/certs/ca-certificates.crt"
	)
	c := newCLI(t)
	programs := t.TempDir()
	sources := skifftest.Files(t, "go.mod", "module example.com/x\n\ngo 1.24\n", "needy/main.go", needy, "plain/main.go", plain)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", programs+"/", "./needy", "./plain")
	cmd.Dir, cmd.Env = sources, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, d := range map[string]struct {
		text string
		want string // ids of findings that have something to paste, sorted
	}{
		"all needs":            {builder + "FROM scratch\nCOPY --from=build /needy /app\nUSER 65532:65532\n" + start, "ca-certificates home temp-dir time-zones users"},
		"no golang stage":      {"FROM scratch\nCOPY out/needy /app\nUSER 1000:1000\n" + start, "ca-certificates home temp-dir time-zones users"},
		"as root":              {builder + "FROM scratch\nCOPY --from=build /needy /app\n" + start, "ca-certificates root-user temp-dir time-zones users"},
		"TMPDIR and HOME":      {builder + "FROM scratch\nCOPY --from=build /tmp /tmp\nCOPY --from=build /needy /app\nENV TMPDIR=/nowhere HOME=/none\nUSER 65532:65532\n" + start, "ca-certificates home temp-dir time-zones users"},
		"closed folders":       {builder + "FROM scratch\nCOPY --from=build --chmod=700 /tmp /tmp\nCOPY --from=build --chmod=700 /tmp /home/nonroot\nCOPY --from=build /etc/ssl /etc/ssl\nCOPY --from=build --chmod=600 " + bundle + " " + bundle + "\nCOPY --from=build /needy /app\nUSER 65532:65532\n" + start, "ca-certificates home temp-dir time-zones users"},
		"passwd closed":        {builder + "FROM scratch\nCOPY --from=build --chmod=600 /etc/passwd /etc/passwd\nCOPY --from=build /needy /app\nUSER 405:100\n" + start, "home temp-dir time-zones users"},
		"not executable":       {builder + "FROM scratch\nCOPY --from=build --chmod=644 /plain /app\nUSER 65532:65532\n" + start, "entrypoint-not-executable"},
		"below a closed":       {builder + "FROM scratch\nCOPY --from=build --chmod=700 /tmp /priv\nCOPY --from=build /plain /priv/app\nUSER 65532:65532\nENTRYPOINT [\"/priv/app\", \"x\"]\nCMD [\"y\"]\n", "entrypoint-not-executable"},
		"missing":              {builder + "FROM scratch\n" + good + "ENTRYPOINT [\"/bin/app\"]\nCMD [\"serve\"]\n", "entrypoint-missing"},
		"a folder":             {builder + "FROM scratch\nCOPY --from=build /plain /bin/app\nUSER 65532:65532\nENTRYPOINT [\"/bin\"]\n", "entrypoint-not-executable"},
		"shell form":           {builder + "FROM scratch\n" + good + "CMD /app 'a word' \"$HOME\"x\nENV HOME=/h\n", "shell-form"},
		"health in shell form": {builder + "FROM scratch\n" + good + start + "HEALTHCHECK --interval=9s CMD /app health\n", "shell-form"},
		"health without curl":  {builder + "FROM scratch\n" + good + start + "HEALTHCHECK CMD [\"curl\", \"-f\", \"http://localhost\"]\n", "entrypoint-missing"},
		"health elsewhere":     {builder + "FROM scratch\n" + good + start + "HEALTHCHECK --retries=2 CMD [\"/usr/bin/app\", \"health\"]\n", "entrypoint-missing"},
		"unknown user":         {builder + "FROM scratch\nCOPY --from=build /plain /app\nUSER nonroot\n" + start, "users"},
		"unknown group":        {builder + "FROM scratch\nCOPY --from=build /plain /app\nUSER 7:wheel\n" + start, "users"},
		"working directory":    {builder + "FROM scratch\nCOPY --from=build --chmod=700 /tmp /work\n" + good + "WORKDIR /work\n" + start, "working-dir"},
		"sources":              {builder + "FROM scratch\nCOPY --from=build /src /\nCOPY --from=build /plain /app\nUSER 65532:65532\n" + start, "ca-certificates home sources temp-dir time-zones users"},
		"sources beside it":    {builder + "COPY out/plain /src/app\nFROM scratch\nCOPY --from=build /src /\nUSER 65532:65532\n" + start, "ca-certificates home sources temp-dir time-zones users"},
		"instructions":         {"FROM golang AS build\nWORKDIR /src\nCOPY . .\nRUN go mod tidy && CGO_ENABLED=0 go build -a -o /plain ./plain\nFROM scratch\n" + good + start, "debug-info go-build-a go-mod-tidy unpinned-base"},
		"line ends of Windows": {crlf(builder + "FROM scratch\nCOPY --from=build /needy /app\nUSER 65532:65532\n" + start), "ca-certificates home temp-dir time-zones users"},
		"continued, Windows":   {crlf("FROM golang:1.26-alpine AS build\nWORKDIR /src\nCOPY . .\nRUN CGO_ENABLED=0 go build -buildmode=pie -ldflags='-s -w' \\\n  -o /plain ./plain\nFROM scratch\n" + good + start), "pie"},
		"a target":             {builder + "FROM scratch AS ship\nCOPY --from=build /needy /app\nUSER 65532:65532\n" + start + later + "FROM ship\nRUN exit 1\n", "ca-certificates home temp-dir time-zones users"},
		"heredocs":             {"FROM golang:1.26-alpine AS build\nWORKDIR /src\nCOPY . .\nCOPY out/ /\nRUN <<EOF\nset -e\nCGO_ENABLED=0 go build -a -o /plain ./plain\nEOF\nFROM scratch\nCOPY <<A <<B /etc/\nFROM nothing\nA\nRUN nothing\nB\nCOPY --from=build /needy /app\nUSER 65532:65532\n" + start, "ca-certificates home temp-dir time-zones users"},
		"pie":                  {"FROM golang:1.26-alpine AS build\nWORKDIR /src\nCOPY . .\nRUN CGO_ENABLED=0 go build -buildmode=pie -ldflags='-s -w' \\\n  -o /plain ./plain\nFROM scratch\n" + good + start, "pie"},
	} {
		t.Run(name, func(t *testing.T) {
			c.t = t
			dir := skifftest.Files(t, "go.mod", "module example.com/x\n\ngo 1.24\n", "needy/main.go", needy,
				"plain/main.go", plain, "Dockerfile", d.text)
			for _, program := range []string{"needy", "plain"} {
				text, err := os.ReadFile(filepath.Join(programs, program))
				if err == nil && strings.Contains(d.text, "COPY out/") {
					err = errors.Join(os.MkdirAll(filepath.Join(dir, "out"), 0o755), os.WriteFile(filepath.Join(dir, "out", program), text, 0o755))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			file := filepath.Join(dir, "Dockerfile")
			findings := func(args ...string) []skiff.Finding {
				if strings.Contains(d.text, later) {
					args = append(args, "--target=ship")
				}
				if out, code := c.try(append(append([]string{"build", "--progress=plain", "-t", "pasted:1"}, args...), dir)...); code != 0 {
					text, _ := os.ReadFile(file)
					t.Errorf("does not build: %s\n%s", out, text)
					return []skiff.Finding{{ID: "does not build"}}
				}
				said := c.run("check", "--format", "json", "--fail-on", "none", "pasted:1")
				var reports []skiff.Report
				if err := json.Unmarshal([]byte(said), &reports); err != nil || len(reports) != 1 {
					t.Fatalf("%v: %s", err, said)
				}
				return reports[0].Findings
			}
			var pasted []string
			for _, f := range findings() {
				for _, remedy := range f.Remedy {
					text, args, ok := paste(d.text, remedy)
					if strings.ContainsAny(remedy, "…") || strings.Contains(remedy, "-1") || strings.Contains(remedy, "STAGE") || strings.Contains(remedy, "FOLDER") {
						t.Errorf("%s: something is to be filled in: %s", f.ID, remedy)
					}
					if !ok {
						if r := remedy[0]; r < 'a' || r > 'z' {
							t.Errorf("%s: neither an instruction nor a sentence: %s", f.ID, remedy)
						}
						continue
					}
					pasted = append(pasted, f.ID)
					if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
					for _, g := range findings(args...) {
						if g.ID == f.ID || g.ID == "does not build" {
							t.Errorf("%s: %s\nis there after\n%s\n%s: %s %v", f.ID, f.Message, remedy, g.ID, g.Message, g.Evidence)
						}
					}
				}
			}
			slices.Sort(pasted)
			if got := strings.Join(slices.Compact(pasted), " "); got != d.want {
				t.Errorf("pasted for %s, want %s", got, d.want)
			}
		})
	}
	for _, args := range [][]string{{"check", "./nowhere"}, {"check", "Dockerfile.none"}} {
		c.t = t
		if out, code := c.try(args...); code != 2 {
			t.Errorf("%s: exit code %d: %s", args, code, out)
		}
	}
}

// later begins what comes behind the stage that ships.
const later = "# later\n"

func crlf(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }

// paste is a Dockerfile with a remedy, as docs/doctor.md says; not ok for a sentence.
func paste(text, remedy string) (pasted string, args []string, ok bool) {
	if remedy == "skiff build --add-missing" {
		return text, []string{"--add-missing"}, true
	}
	if strings.Contains(text, "\r\n") { // an editor keeps them, and gives them to what is pasted
		pasted, args, ok = paste(strings.ReplaceAll(text, "\r\n", "\n"), remedy)
		return crlf(pasted), args, ok
	}
	text, behind, found := strings.Cut(text, later)
	if found {
		defer func() { pasted += later + behind }()
	}
	if m := regexp.MustCompile(`^line (\d+) becomes: (.*)$`).FindStringSubmatch(remedy); m != nil {
		n, _ := strconv.Atoi(m[1])
		lines := strings.Split(text, "\n")
		end := n
		for strings.HasSuffix(lines[end-1], "\\") {
			end++
		}
		return strings.Join(slices.Concat(lines[:n-1], m[2:], lines[end:]), "\n"), nil, true
	}
	if regexp.MustCompile(`^[A-Z]+ `).MatchString(remedy) {
		return text + remedy + "\n", nil, true
	}
	return "", nil, false
}
