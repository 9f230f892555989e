package doctor_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/skiff-build/skiff/internal/doctor"
	"github.com/skiff-build/skiff/internal/rootfiles"
	"github.com/skiff-build/skiff/internal/skifftest"
)

type entry = skifftest.Entry

// sources are of the programs in the images.
var sources = map[string]string{
	"plain":  "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"hello\") }\n",
	"client": "package main\n\nimport (\n\t\"fmt\"\n\t\"net/http\"\n)\n\nfunc main() { fmt.Println(http.Get(\"https://example.com\")) }\n",
	"all": `package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"time"
)

func main() {
	r, err := http.Get(os.Args[1])
	fmt.Println(r, err)
	l, err := time.LoadLocation("Asia/Tokyo")
	fmt.Println(l, err)
	u, err := user.Current()
	fmt.Println(u, err)
	f, err := os.CreateTemp("", "x")
	fmt.Println(f, err)
	home, err := os.UserCacheDir()
	fmt.Println(home, err)
	fmt.Println(exec.Command("git", "version").Run())
}
`,
}

func build(t *testing.T, name string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "main.go")
	if err := os.WriteFile(file, []byte(sources[name]), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, name)
	cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"build", "-trimpath", "-o", out}, args...), file)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=", "GOWORK=off")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

// said are the findings, a line each: severity, id, path.
func said(r *doctor.Report) []string {
	var lines []string
	for _, f := range r.Findings {
		lines = append(lines, fmt.Sprintf("%s %s %s", f.Severity, f.ID, f.Path))
	}
	return lines
}

func examine(t *testing.T, img v1.Image, o doctor.Options) *doctor.Report {
	t.Helper()
	r, err := doctor.Examine(t.Context(), img, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// bundle holds CAs.
var bundle = string(rootfiles.CABundle())

const key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAt0dGtYYp0mC1p6bqDn0X6v8rL8L9mVbTzqVQx1\n-----END RSA PRIVATE KEY-----\n"

// TestFindings has an image for each kind of finding: what is said of it, and no more.
func TestFindings(t *testing.T) {
	plain := build(t, "plain", "-ldflags=-s -w")
	app := entry{Name: "app", File: plain, Mode: 0o755}
	start := v1.Config{Entrypoint: []string{"/app"}, User: "65532"}
	pie := entry{Name: "app", File: build(t, "plain", "-buildmode=pie", "-ldflags=-s -w"), Mode: 0o755}
	debug := entry{Name: "app", File: build(t, "plain"), Mode: 0o755}
	cmd := func(args ...string) v1.Config { return v1.Config{Cmd: args, User: "65532"} }
	passwd := entry{Name: "etc/passwd", Body: "root:x:0:0::/root:/bin/sh\napp:x:65532:65532::/:/bin/sh\n"}
	sh := entry{Name: "bin/sh", File: plain, Mode: 0o755}
	script := func(text string) entry { return entry{Name: "run.sh", Body: "#!/bin/sh\n" + text, Mode: 0o755} }
	health := func(test ...string) v1.Config {
		return v1.Config{Entrypoint: []string{"/app"}, User: "65532", Healthcheck: &v1.HealthConfig{Test: test}}
	}
	for name, c := range map[string]struct {
		config v1.Config
		files  []entry
		want   []string
	}{
		"nothing":                     {start, []entry{app}, nil},
		"root":                        {v1.Config{Entrypoint: []string{"/app"}}, []entry{app}, []string{"warning root-user "}},
		"root by name":                {v1.Config{Entrypoint: []string{"/app"}, User: "root"}, []entry{app, passwd}, []string{"warning root-user "}},
		"root of no passwd":           {v1.Config{Entrypoint: []string{"/app"}, User: "root"}, []entry{app}, []string{"error users /etc/passwd"}},
		"unknown group":               {v1.Config{Entrypoint: []string{"/app"}, User: "65532:nosuch"}, []entry{app, passwd}, []string{"error users /etc/group"}},
		"passwd, a folder":            {v1.Config{Entrypoint: []string{"/app"}, User: "65532"}, []entry{app, {Name: "etc/passwd/"}}, []string{"error users /etc/passwd"}},
		"group, a folder":             {v1.Config{Entrypoint: []string{"/app"}, User: "65532:nosuch"}, []entry{app, {Name: "etc/group/"}}, []string{"error users /etc/passwd"}},
		"passwd with a line too long": {v1.Config{Entrypoint: []string{"/app"}, User: "app"}, []entry{app, {Name: "etc/passwd", Body: strings.Repeat("x", 1<<17) + "\n" + passwd.Body}}, []string{"error users /etc/passwd"}},
		"passwd with damaged lines":   {v1.Config{Entrypoint: []string{"/app"}, User: "app"}, []entry{app, {Name: "etc/passwd", Body: "\x00\xff\n:::\n#x\n" + passwd.Body}}, nil},
		"passwd by a link":            {v1.Config{Entrypoint: []string{"/app"}, User: "app"}, []entry{app, {Name: "etc/passwd", Link: "../usr/etc/passwd"}, {Name: "usr/etc/passwd", Body: passwd.Body}}, nil},
		"passwd too large, a number":  {v1.Config{Entrypoint: []string{"/app"}, User: "65532"}, []entry{app, {Name: "etc/passwd", Body: strings.Repeat(passwd.Body, 100_000)}}, nil},
		"passwd too large, a name":    {v1.Config{Entrypoint: []string{"/app"}, User: "app"}, []entry{app, {Name: "etc/passwd", Body: strings.Repeat(passwd.Body, 100_000)}}, nil},
		"a number too large":          {v1.Config{Entrypoint: []string{"/app"}, User: "4294967295"}, []entry{app, passwd}, []string{"error users /etc/passwd"}},
		"known group": {v1.Config{Entrypoint: []string{"/app"}, User: "app:www"}, []entry{{Name: "app", File: plain, Mode: 0o750, GID: 33}, passwd,
			{Name: "etc/group", Body: "www:x:33:\n"}}, nil},
		"group by membership": {v1.Config{Entrypoint: []string{"/app"}, User: "app"}, []entry{{Name: "app", File: plain, Mode: 0o750, GID: 33}, passwd,
			{Name: "etc/group", Body: "www:x:33:bin,app\n"}}, nil},
		"other spelling of names": {v1.Config{Entrypoint: []string{"/app"}, User: "app"}, []entry{app, {Name: "./etc/passwd", Body: passwd.Body}}, nil},
		"below a closed folder": {v1.Config{Entrypoint: []string{"/root/app"}, User: "65532"}, []entry{{Name: "root/", Mode: 0o700}, {Name: "root/app", File: plain, Mode: 0o755}},
			[]string{"error entrypoint-not-executable /root/app"}},
		"by a link below a closed folder": {start, []entry{{Name: "root/", Mode: 0o700}, {Name: "root/app", File: plain, Mode: 0o755}, {Name: "app", Link: "root/app"}},
			[]string{"error entrypoint-not-executable /app"}},
		"root passes": {v1.Config{Entrypoint: []string{"/root/app"}, User: "0"}, []entry{{Name: "root/", Mode: 0o700, UID: 7}, {Name: "root/app", File: plain, Mode: 0o744}},
			[]string{"warning root-user "}},
		"working directory closed": {v1.Config{Entrypoint: []string{"/app"}, User: "65532", WorkingDir: "/srv/x"}, []entry{app, {Name: "srv/", Mode: 0o700}, {Name: "srv/x/"}},
			[]string{"error working-dir /srv/x"}},
		"working directory to be made": {v1.Config{Entrypoint: []string{"/app"}, User: "65532", WorkingDir: "/srv/x"}, []entry{app}, nil},
		"second in PATH":               {v1.Config{Cmd: []string{"app"}, User: "65532", Env: []string{"PATH=/root:/"}}, []entry{app, {Name: "root/", Mode: 0o700}, {Name: "root/app", File: plain, Mode: 0o755}}, nil},
		"unknown user":                 {v1.Config{Entrypoint: []string{"/app"}, User: "app"}, []entry{app}, []string{"error users /etc/passwd"}},
		"no program":                   {v1.Config{}, []entry{{Name: "data/x", Body: "x"}}, nil},
		"missing":                      {start, []entry{{Name: "bin/app", File: plain, Mode: 0o755}}, []string{"error entrypoint-missing /app"}},
		"missing in PATH":              {cmd("app"), []entry{app}, []string{"error entrypoint-missing app"}},
		"in PATH":                      {v1.Config{Cmd: []string{"app"}, User: "1", Env: []string{"PATH=/bin:/"}}, []entry{app}, nil},
		"by a link":                    {cmd("/bin/app"), []entry{app, {Name: "bin", Link: "/"}}, nil},
		"dangling":                     {start, []entry{{Name: "app", Link: "/elsewhere"}}, []string{"error entrypoint-missing /app"}},
		"links in circles":             {start, []entry{{Name: "app", Link: "b"}, {Name: "b", Link: "app"}}, []string{"error entrypoint-missing /app"}},
		"link that climbs":             {start, []entry{{Name: "x/app", File: plain, Mode: 0o755}, {Name: "app", Link: "../../../x/app"}}, nil},
		"not executable":               {start, []entry{{Name: "app", File: plain, Mode: 0o644}}, []string{"error entrypoint-not-executable /app"}},
		"not by this user":             {start, []entry{{Name: "app", File: plain, Mode: 0o700}}, []string{"error entrypoint-not-executable /app"}},
		"a folder":                     {start, []entry{{Name: "app/"}, {Name: "app/app", File: plain, Mode: 0o755}}, []string{"error entrypoint-not-executable /app"}},
		"shell form":                   {cmd("/bin/sh", "-c", "/app serve"), []entry{app}, []string{"error shell-form /bin/sh"}},
		"a shell's program":            {cmd("/bin/sh", "-c", "exec /app serve --port=$PORT"), []entry{{Name: "app", File: plain, Mode: 0o644}, sh}, []string{"error entrypoint-not-executable /app"}},
		"a shell's program missing":    {cmd("/bin/sh", "-c", "set -e; cd /srv && ./server \"$@\""), []entry{app, sh}, []string{"error entrypoint-missing ./server"}},
		"a shell's good program":       {cmd("/bin/sh", "-ec", "umask 022\ncd /bin; exec ./sh /app"), []entry{app, sh}, nil},
		"a shell's branches":           {cmd("/bin/sh", "-c", "[ -x /x ] || exec /y; if /app; then /z; fi; f() { /f; }; f; $TOOL; eval x; /w"), []entry{app, sh}, nil},
		"a shell's variable":           {v1.Config{Cmd: []string{"/bin/sh", "-c", "$BIN/server"}, User: "65532", Env: []string{"BIN=/opt"}}, []entry{app, sh}, []string{"error entrypoint-missing /opt/server"}},
		"a shell's own variable":       {v1.Config{Cmd: []string{"/bin/sh", "-c", "BIN=/; ${BIN}app; for f in /; do :; done; $f/app"}, User: "65532", Env: []string{"BIN=/opt/", "f=/opt"}}, []entry{app, sh}, nil},
		"a shell's other end":          {cmd("/bin/sh", "-c", "[ -x /x ] || exec /app; /y"), []entry{app, sh}, nil},
		"a shell's check":              {cmd("/bin/sh", "-c", "[ -x /app ] || exit 1; exec /y"), []entry{app, sh}, []string{"error entrypoint-missing /y"}},
		"a shell's case":               {cmd("/bin/sh", "-c", "case $X in *) exec /app;; esac; /y"), []entry{app, sh}, nil},
		"a shell's function that ends": {cmd("/bin/sh", "-c", "f() { exec /app; }; f; /y"), []entry{app, sh}, nil},
		"a shell's PATH":               {cmd("/bin/sh", "-c", "export PATH=/opt; y"), []entry{app, sh}, nil},
		"words for a shell":            {cmd("/bin/sh", "-c", "exec \"$@\"", "--", "/y", "z"), []entry{app, sh}, []string{"error entrypoint-missing /y"}},
		"a word for a shell":           {cmd("/bin/sh", "-c", "exec $1", "--", "/y", "z"), []entry{app, sh}, []string{"error entrypoint-missing /y"}},
		"a script's program":           {v1.Config{Entrypoint: []string{"/run.sh"}, Cmd: []string{"/server"}, User: "65532"}, []entry{app, sh, script("set -eu\n. /dev/null\nexec \"$@\"\n")}, nil},
		"a script's missing program":   {v1.Config{Entrypoint: []string{"/run.sh"}, Cmd: []string{"/server"}, User: "65532"}, []entry{app, sh, script("set -eu\necho $1\nexec \"$@\"\n")}, []string{"error entrypoint-missing /server"}},
		"a script's words":             {v1.Config{Entrypoint: []string{"/run.sh"}, Cmd: []string{"-x"}, User: "65532"}, []entry{app, sh, script("if [ \"${1#-}\" != \"$1\" ]; then\n\tset -- app \"$@\"\nfi\nexec \"$@\"\n")}, nil},
		"a script's closed program":    {v1.Config{Entrypoint: []string{"/run.sh"}, User: "65532"}, []entry{{Name: "app", File: plain, Mode: 0o700}, sh, script("exec /app \"$@\"\n")}, []string{"error entrypoint-not-executable /app"}},
		"a script by its shell":        {v1.Config{Entrypoint: []string{"/bin/sh", "/run.sh"}, Cmd: []string{"/server"}, User: "65532"}, []entry{app, sh, script("exec \"$@\"\n")}, []string{"error entrypoint-missing /server"}},
		"a wrapper": {v1.Config{Entrypoint: []string{"/tini", "--"}, Cmd: []string{"/server"}, User: "65532"}, []entry{app, {Name: "tini", File: plain, Mode: 0o755}},
			[]string{"error entrypoint-missing /server"}},
		"a wrapper of a good program": {v1.Config{Entrypoint: []string{"/tini", "--"}, Cmd: []string{"/app"}, User: "65532"}, []entry{app, {Name: "tini", File: plain, Mode: 0o755}}, nil},
		"health":                      {health("CMD", "/app", "health"), []entry{app}, nil},
		"health, none":                {health("NONE"), []entry{app}, nil},
		"health, no shell":            {health("CMD-SHELL", "curl -f http://localhost/ || exit 1"), []entry{app}, []string{"error shell-form /bin/sh"}},
		"health, no curl":             {health("CMD-SHELL", "curl -f http://localhost/ || exit 1"), []entry{app, sh}, []string{"error entrypoint-missing curl"}},
		"health, no wget":             {health("CMD", "wget", "--spider", "http://localhost/"), []entry{app}, []string{"error entrypoint-missing wget"}},
		"health, not executable":      {health("CMD", "/check"), []entry{app, {Name: "check", File: plain, Mode: 0o700}}, []string{"error entrypoint-not-executable /check"}},
		"a script":                    {start, []entry{{Name: "app", Body: "#!/bin/sh\n", Mode: 0o755}}, []string{"error entrypoint-interpreter /app"}},
		"a script by env":             {start, []entry{{Name: "app", Body: "#!/usr/bin/env -S bash -e\n", Mode: 0o755}, {Name: "usr/bin/env", File: plain, Mode: 0o755}}, []string{"error entrypoint-interpreter /app"}},
		"Windows lines":               {start, []entry{{Name: "app", Body: "#!/bin/sh\r\n", Mode: 0o755}, {Name: "bin/sh", File: plain, Mode: 0o755}}, []string{"error entrypoint-interpreter /app"}},
		"a good script":               {start, []entry{{Name: "app", Body: "#! /bin/sh -e\n", Mode: 0o755}, {Name: "bin/sh", File: plain, Mode: 0o755}}, nil},
		"text":                        {start, []entry{{Name: "app", Body: "echo hello\n", Mode: 0o755}}, []string{"error entrypoint-format /app"}},
		"empty":                       {start, []entry{{Name: "app", Mode: 0o755}}, []string{"error entrypoint-format /app"}},
		"macOS":                       {start, []entry{{Name: "app", Body: "\xcf\xfa\xed\xfe\x07\x00\x00\x01", Mode: 0o755}}, []string{"error entrypoint-format /app"}},
		"Windows":                     {start, []entry{{Name: "app", Body: "MZ\x90\x00", Mode: 0o755}}, []string{"error entrypoint-format /app"}},
		"pie":                         {start, []entry{pie}, []string{"error pie /app"}},
		"pie with a loader":           {start, []entry{pie, {Name: "lib64/ld-linux-x86-64.so.2", Body: "x", Mode: 0o755}}, nil},
		"debug information":           {start, []entry{debug}, []string{"info debug-info /app"}},
		"sources": {start, []entry{app, {Name: "go.mod", Body: "module x\n"}, {Name: "main.go", Body: "package main\n"}, {Name: "Makefile", Body: "x"}},
			[]string{"warning sources /Makefile"}},
		"vcs":          {start, []entry{app, {Name: ".git/HEAD", Body: "ref: refs/heads/main\n"}, {Name: ".git/objects/ab/cd", Body: "x"}}, []string{"warning vcs /.git"}},
		"no vcs":       {start, []entry{app, {Name: "srv/.git/description", Body: "x"}}, nil},
		"module cache": {start, []entry{app, {Name: "go/pkg/mod/cache/download/x/@v/list", Body: "v1\n"}, {Name: "go/pkg/mod/x@v1/x.go", Body: "package x\n"}}, []string{"warning go-cache /go/pkg/mod"}},
		"build cache":  {start, []entry{app, {Name: "root/.cache/go-build/README", Body: "x"}, {Name: "root/.cache/go-build/00/a", Body: "x"}}, []string{"warning go-cache /root/.cache/go-build"}},
		"toolchain": {start, []entry{app, {Name: "usr/local/go/VERSION", Body: "go1.26.8"}, {Name: "usr/local/go/pkg/tool/linux_amd64/compile", File: plain, Mode: 0o755},
			{Name: "usr/local/go/src/fmt/print.go", Body: "package fmt\n"}}, []string{"warning go-toolchain /usr/local/go"}},
		"package index": {start, []entry{app, {Name: "var/lib/apt/lists/x_Packages", Body: "x"}, {Name: "var/cache/apk/APKINDEX.tar.gz", Body: "x"}}, []string{"info package-index /var/cache/apk"}},
		"test data":     {start, []entry{app, {Name: "go.mod", Body: "module x\n"}, {Name: "testdata/big", Body: "x"}}, []string{"warning sources /go.mod", "info test-data /testdata"}},
		"set-user-ID":   {start, []entry{app, {Name: "bin/su", File: plain, Mode: 0o4755}}, []string{"info setuid /bin/su"}},
		"broken program": {start, []entry{app, {Name: "bin/x", Body: "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00" + strings.Repeat("\xff", 400), Mode: 0o755}},
			nil},
		"a private key":     {start, []entry{app, {Name: "etc/tls.pem", Body: key}}, []string{"error secret /etc/tls.pem"}},
		"a certificate":     {start, []entry{app, {Name: "etc/tls.pem", Body: strings.ReplaceAll(key, "RSA PRIVATE KEY", "CERTIFICATE")}}, nil},
		"a key of a test":   {start, []entry{app, {Name: "src/testdata/tls.pem", Body: key}}, nil},
		".env":              {start, []entry{app, {Name: "srv/.env", Body: "PORT=80\nSLACK_BOT_TOKEN=abc123\n"}}, []string{"error secret /srv/.env"}},
		".env.example":      {start, []entry{app, {Name: "srv/.env.example", Body: "SLACK_BOT_TOKEN=abc123\n"}}, nil},
		".env, harmless":    {start, []entry{app, {Name: "srv/.env", Body: "PORT=80\nTOKEN=\nSECRET=changeme\n"}}, nil},
		".netrc":            {start, []entry{app, {Name: "root/.netrc", Body: "machine x login y password z\n"}}, []string{"error secret /root/.netrc"}},
		".netrc, empty":     {start, []entry{app, {Name: "root/.netrc"}}, nil},
		"Docker":            {start, []entry{app, {Name: "root/.docker/config.json", Body: `{"auths":{"x":{"auth":"eDp5"}}}`}}, []string{"error secret /root/.docker/config.json"}},
		"Docker's helper":   {start, []entry{app, {Name: "root/.docker/config.json", Body: `{"credsStore":"pass"}`}}, nil},
		"AWS":               {start, []entry{app, {Name: "root/.aws/credentials", Body: "[default]\naws_secret_access_key = abc\n"}}, []string{"error secret /root/.aws/credentials"}},
		"AWS's sample":      {start, []entry{app, {Name: "doc", Body: "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n"}}, nil},
		"a token of GitHub": {start, []entry{app, {Name: "x.txt", Body: "token: ghp_" + strings.Repeat("a1B2", 9) + "\n"}}, []string{"error secret /x.txt"}},
		"an environment": {v1.Config{Entrypoint: []string{"/app"}, User: "1", Env: []string{"API_TOKEN=abc", "TOKEN_FILE=/run/x"}},
			[]entry{app}, []string{"error secret ENV API_TOKEN"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := examine(t, skifftest.Image(t, c.config, skifftest.Layer(t, c.files...)), doctor.Options{})
			if got := said(r); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q\n%+v", got, c.want, r.Findings)
			}
			for _, f := range r.Findings {
				if !slices.Contains(doctor.IDs, f.ID) || f.Message == "" || len(f.Remedy) == 0 {
					t.Errorf("not a whole finding: %+v", f)
				}
				if strings.Contains(fmt.Sprint(f), "abc123") || strings.Contains(fmt.Sprint(f), "MIIE") {
					t.Errorf("the secret is told: %+v", f)
				}
			}
		})
	}
}

// TestNeeds: what a program lacks is found, supplied, and then not found.
func TestNeeds(t *testing.T) {
	app := entry{Name: "app", File: build(t, "all", "-ldflags=-s -w"), Mode: 0o755}
	for name, c := range map[string]struct {
		config v1.Config
		more   []entry
		want   []string
		rest   []string // what is left when all that can be has been supplied
		files  []string
		env    []string
	}{
		"scratch": {
			config: v1.Config{Entrypoint: []string{"/app"}, User: "65532:65532"},
			want: []string{"error ca-certificates /app", "error time-zones /app", "error temp-dir /app", "warning users /app", "warning home /app",
				"warning program /app"},
			rest: []string{"warning program /app"},
			files: []string{"/etc", "/etc/group", "/etc/passwd", "/etc/ssl", "/etc/ssl/certs", "/etc/ssl/certs/ca-certificates.crt", "/home", "/home/nonroot",
				"/tmp", "/usr", "/usr/share", "/usr/share/zoneinfo", "/usr/share/zoneinfo/Asia", "/usr/share/zoneinfo/Asia/Tokyo"},
			env: []string{"HOME=/home/nonroot"},
		},
		"root": {
			config: v1.Config{Entrypoint: []string{"/app"}},
			more: []entry{{Name: "etc/ssl/cert.pem", Body: bundle}, {Name: "usr/share/zoneinfo/Asia/Tokyo", Body: "TZif"},
				{Name: "usr/bin/git", Body: "#!/app\n", Mode: 0o755}, {Name: "etc/passwd", Body: "root:x:0:0::/root:/bin/sh\n"}, {Name: "tmp/", Mode: 0o755}},
			want: []string{"warning root-user "}, rest: []string{"warning root-user "},
		},
		"a number without a name": {
			config: v1.Config{Entrypoint: []string{"/app"}, User: "1000", Env: []string{"HOME=/data", "TMPDIR=/data"}},
			more: []entry{{Name: "etc/ssl/cert.pem", Body: bundle}, {Name: "usr/share/zoneinfo/Asia/Tokyo", Body: "TZif"}, {Name: "data/", UID: 1000},
				{Name: "usr/bin/git", Body: "#!/app\n", Mode: 0o755}, {Name: "etc/passwd", Body: "root:x:0:0::/root:/bin/sh", Mode: 0o600}},
			want:  []string{"warning users /app"},
			files: []string{"/etc/group", "/etc/passwd"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			img := skifftest.Image(t, c.config, skifftest.Layer(t, append([]entry{app}, c.more...)...))
			r := examine(t, img, doctor.Options{})
			if got := said(r); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q\n%+v", got, c.want, r.Findings)
			}
			s, err := doctor.Missing(t.Context(), img, doctor.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var files []string
			entries := []entry{}
			for _, f := range s.Files {
				files = append(files, f.Path)
				e := entry{Name: strings.TrimPrefix(f.Path, "/"), Body: string(f.Data), Mode: f.Mode, UID: f.UID, GID: f.GID}
				if f.Dir {
					e.Name += "/"
				}
				entries = append(entries, e)
			}
			if !slices.Equal(files, c.files) || !slices.Equal(s.Env, c.env) {
				t.Errorf("supplied %q %q, want %q %q", files, s.Env, c.files, c.env)
			}
			img, err = mutate.AppendLayers(img, skifftest.Layer(t, entries...))
			if err != nil {
				t.Fatal(err)
			}
			c.config.Env = append(c.config.Env, s.Env...)
			if img, err = mutate.Config(img, c.config); err != nil {
				t.Fatal(err)
			}
			if got := said(examine(t, img, doctor.Options{})); !slices.Equal(got, c.rest) {
				t.Errorf("after that: %q, want %q", got, c.rest)
			}
		})
	}
}

// TestHiddenSecret: what a later layer removes ships all the same.
func TestHiddenSecret(t *testing.T) {
	img := skifftest.Image(t, v1.Config{}, skifftest.Layer(t, entry{Name: "id_rsa", Body: key}), skifftest.Layer(t, entry{Name: ".wh.id_rsa"}))
	r := examine(t, img, doctor.Options{})
	if len(r.Findings) != 1 || r.Findings[0].ID != doctor.IDSecret || !strings.Contains(fmt.Sprint(r.Findings[0].Evidence), "layer 1 ships it") {
		t.Errorf("%+v", r.Findings)
	}
}

// TestArchitecture: a program for another machine than the image says.
func TestArchitecture(t *testing.T) {
	img := skifftest.Image(t, v1.Config{Entrypoint: []string{"/app"}, User: "1"}, skifftest.Layer(t, entry{Name: "app", File: build(t, "plain", "-ldflags=-s -w"), Mode: 0o755}))
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Architecture = "arm64"
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	if got := said(examine(t, img, doctor.Options{})); !slices.Equal(got, []string{"error entrypoint-architecture /app"}) {
		t.Errorf("%q", got)
	}
}

// TestSpellings: the doctor sees the files of a layer however it spells their names. Alpine's root filesystem begins them with "./".
func TestSpellings(t *testing.T) {
	app := entry{Name: "app", File: build(t, "plain", "-ldflags=-s -w"), Mode: 0o755}
	for _, name := range skifftest.Spellings {
		img := skifftest.Image(t, v1.Config{Entrypoint: []string{"/app"}, User: "nobody"},
			skifftest.Layer(t, entry{Name: name, Body: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"}), skifftest.Layer(t, app))
		if got := said(examine(t, img, doctor.Options{})); got != nil {
			t.Errorf("%q: %q", name, got)
		}
		supply, err := doctor.Missing(t.Context(), img, doctor.Options{})
		if err != nil || len(supply.Files) > 0 {
			t.Errorf("%q: %v would be added, %v", name, supply.Kinds, err)
		}
	}
	// The same goes for what should not ship.
	for _, prefix := range []string{"./", "/", ".//"} {
		img := skifftest.Image(t, v1.Config{Entrypoint: []string{"/app"}, User: "65532"}, skifftest.Layer(t, app, entry{Name: prefix + "root/.ssh/id_rsa", Body: key}))
		if got := said(examine(t, img, doctor.Options{})); len(got) != 1 || got[0] != "error secret /root/.ssh/id_rsa" {
			t.Errorf("%q: %q", prefix, got)
		}
	}
}

// TestRoots: the doctor looks for CAs where Go's crypto/x509 does, with the rights of the image's user, and adds none beside the image's.
func TestRoots(t *testing.T) {
	app := entry{Name: "app", File: build(t, "client", "-ldflags=-s -w"), Mode: 0o755}
	ca := func(name string, mode int64) entry { return entry{Name: name, Body: bundle, Mode: mode} }
	const first = "etc/ssl/certs/ca-certificates.crt"
	for name, c := range map[string]struct {
		env   []string
		files []entry
		found bool // that none can be used
		added bool // Mozilla's
	}{
		"none":                           {nil, nil, true, true},
		"bundle":                         {nil, []entry{ca(first, 0o644)}, false, false},
		"last of the files":              {nil, []entry{ca("etc/ssl/cert.pem", 0o644)}, false, false},
		"any name in the folder":         {nil, []entry{ca("etc/ssl/certs/corp", 0o644)}, false, false},
		"the other folder":               {nil, []entry{ca("etc/pki/tls/certs/corp.pem", 0o644)}, false, false},
		"below the folder":               {nil, []entry{ca("etc/ssl/certs/corp/ca.pem", 0o644)}, true, true},
		"a link to elsewhere":            {nil, []entry{ca("usr/share/ca-certificates/x.crt", 0o644), {Name: "etc/ssl/certs/x.pem", Link: "/usr/share/ca-certificates/x.crt"}}, false, false},
		"a link to nowhere":              {nil, []entry{{Name: "etc/ssl/certs/x.pem", Link: "/usr/share/ca-certificates/x.crt"}}, true, true},
		"SSL_CERT_FILE":                  {[]string{"SSL_CERT_FILE=/certs/corp.txt"}, []entry{ca("certs/corp.txt", 0o644)}, false, false},
		"SSL_CERT_FILE hides the bundle": {[]string{"SSL_CERT_FILE=/certs/corp.txt"}, []entry{ca("etc/ssl/cert.pem", 0o644)}, true, false},
		"SSL_CERT_FILE hides no folder":  {[]string{"SSL_CERT_FILE=/certs/corp.txt"}, []entry{ca("etc/ssl/certs/x.pem", 0o644)}, false, false},
		"SSL_CERT_FILE missing":          {[]string{"SSL_CERT_FILE=/certs/corp.txt"}, nil, true, false},
		"SSL_CERT_DIR":                   {[]string{"SSL_CERT_DIR=/a:/certs"}, []entry{ca("certs/x", 0o644)}, false, false},
		"SSL_CERT_DIR empty":             {[]string{"SSL_CERT_DIR=/certs"}, []entry{{Name: "certs/"}}, true, false},
		"SSL_CERT_DIR empty, a bundle":   {[]string{"SSL_CERT_DIR=/certs"}, []entry{{Name: "certs/"}, ca(first, 0o644)}, false, false},
		"SSL_CERT_DIR of nothing":        {[]string{"SSL_CERT_DIR=:"}, []entry{ca("x.pem", 0o644)}, true, false},
		"linked folder":                  {nil, []entry{{Name: "etc/ssl", Link: "../usr/lib/ssl"}, ca("usr/lib/ssl/certs/ca-certificates.crt", 0o644)}, false, false},
		"linked folder, closed":          {nil, []entry{{Name: "etc/ssl", Link: "/priv/ssl"}, {Name: "priv/", Mode: 0o700}, ca("priv/ssl/certs/ca-certificates.crt", 0o644)}, true, false},
		"a hard link":                    {nil, []entry{ca("certs/x", 0o644), {Name: first, Hard: "certs/x"}}, false, false},
		"a closed hard link":             {nil, []entry{ca("certs/x", 0o600), {Name: first, Hard: "certs/x"}}, true, false},
		"removed":                        {nil, []entry{ca(first, 0o644), {Name: "\n"}, {Name: "etc/ssl/certs/.wh.ca-certificates.crt"}}, true, true},
		"removed with all beside it":     {nil, []entry{ca(first, 0o644), {Name: "\n"}, {Name: "etc/ssl/certs/.wh..wh..opq"}}, true, true},
		"SSL_CERT_DIR hides the folders": {[]string{"SSL_CERT_DIR=/certs"}, []entry{ca("etc/ssl/certs/x.pem", 0o644)}, true, false},
		"of root alone":                  {nil, []entry{ca(first, 0o600)}, true, false},
		"of root alone, and another":     {nil, []entry{ca(first, 0o600), ca("etc/ssl/cert.pem", 0o644)}, false, false},
		"below a closed folder":          {nil, []entry{{Name: "etc/ssl/", Mode: 0o700}, ca(first, 0o644)}, true, false},
		"in a folder that is not listed": {nil, []entry{{Name: "etc/ssl/certs/", Mode: 0o711}, ca("etc/ssl/certs/x.pem", 0o644)}, true, false},
		"empty":                          {nil, []entry{{Name: first}}, true, false},
		"no certificate":                 {nil, []entry{{Name: first, Body: "-----BEGIN CERTIFICATE-----\neA==\n-----END CERTIFICATE-----\n"}, ca("etc/ssl/cert.pem", 0o644)}, true, false},
		"by name with ./":                {nil, []entry{ca("./"+first, 0o644)}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			img := skifftest.Image(t, v1.Config{Entrypoint: []string{"/app"}, User: "65532", Env: c.env}, layers(t, append([]entry{app}, c.files...))...)
			r := examine(t, img, doctor.Options{})
			i := slices.IndexFunc(r.Findings, func(f doctor.Finding) bool { return f.ID == doctor.IDCA })
			if i >= 0 != c.found || i >= 0 && r.Findings[i].Supplied != c.added {
				t.Errorf("%+v", r.Findings)
			}
			s, err := doctor.Missing(t.Context(), img, doctor.Options{})
			if err != nil || slices.Contains(s.Kinds, doctor.NeedCA) != c.added {
				t.Errorf("supplied %v, %v", s.Kinds, err)
			}
			root, err := doctor.OpenRoot(t.Context(), img)
			if err != nil {
				t.Fatal(err)
			}
			s, err = doctor.Complete(needing(doctor.Linked, doctor.NeedCA), doctor.SupplyOptions{User: "65532", Env: c.env, Root: root})
			if err != nil || slices.Contains(s.Kinds, doctor.NeedCA) != c.added {
				t.Errorf("on it as a base, supplied %v, %v", s.Kinds, err)
			}
		})
	}
}

// layers are those of entries, parted by ones that are named "\n".
func layers(t *testing.T, entries []entry) []v1.Layer {
	t.Helper()
	var all []v1.Layer
	for {
		i := slices.IndexFunc(entries, func(e entry) bool { return e.Name == "\n" })
		if i < 0 {
			return append(all, skifftest.Layer(t, entries...))
		}
		all, entries = append(all, skifftest.Layer(t, entries[:i]...)), entries[i+1:]
	}
}

// TestEyes: temporary files, homes and zones are looked for where the environment says, with the rights of the image's user.
func TestEyes(t *testing.T) {
	app := entry{Name: "app", File: build(t, "all", "-ldflags=-s -w"), Mode: 0o755}
	zones := entry{Name: "z.zip", Body: zipped(t, "Asia/Tokyo", zip.Store)}
	for name, c := range map[string]struct {
		id    string
		user  string
		env   []string
		files []entry
		found bool
	}{
		"TMPDIR":                    {doctor.IDTemp, "65532", []string{"TMPDIR=/data"}, []entry{{Name: "data/", Mode: 0o777}}, false},
		"TMPDIR missing":            {doctor.IDTemp, "65532", []string{"TMPDIR=/data"}, []entry{{Name: "tmp/", Mode: 0o1777}}, true},
		"TMPDIR not writable":       {doctor.IDTemp, "65532", []string{"TMPDIR=/data"}, []entry{{Name: "data/"}, {Name: "tmp/", Mode: 0o1777}}, true},
		"TMPDIR below closed":       {doctor.IDTemp, "65532", []string{"TMPDIR=/data/t"}, []entry{{Name: "data/", Mode: 0o700}, {Name: "data/t/", Mode: 0o777}}, true},
		"TMPDIR of every container": {doctor.IDTemp, "65532", []string{"TMPDIR=/dev/shm"}, nil, false},
		"tmp of a group":            {doctor.IDTemp, "65532:50", nil, []entry{{Name: "tmp/", Mode: 0o770, GID: 50}}, false},
		"tmp of another group":      {doctor.IDTemp, "65532:51", nil, []entry{{Name: "tmp/", Mode: 0o770, GID: 50}}, true},
		"the owner's rights first":  {doctor.IDTemp, "65532", nil, []entry{{Name: "tmp/", Mode: 0o077, UID: 65532}}, true},
		"root needs one, too":       {doctor.IDTemp, "0", nil, nil, true},
		"HOME":                      {doctor.IDHome, "65532", []string{"HOME=/data"}, []entry{{Name: "data/", UID: 65532}}, false},
		"HOME missing":              {doctor.IDHome, "65532", []string{"HOME=/data"}, nil, true},
		"of passwd":                 {doctor.IDHome, "7", nil, []entry{{Name: "etc/passwd", Body: "x:x:7:7::/h:\n"}, {Name: "h/", UID: 7}}, false},
		"passwd closed":             {doctor.IDUsers, "7", nil, []entry{{Name: "etc/passwd", Body: "x:x:7:7::/h:\n", Mode: 0o600}}, true},
		"ZONEINFO, a zip":           {doctor.IDZones, "65532", []string{"ZONEINFO=/z.zip"}, []entry{zones}, false},
		"ZONEINFO without it":       {doctor.IDZones, "65532", []string{"ZONEINFO=/z.zip"}, []entry{{Name: "z.zip", Body: zipped(t, "Asia/Seoul", zip.Store)}}, true},
		"ZONEINFO missing":          {doctor.IDZones, "65532", []string{"ZONEINFO=/none.zip"}, nil, true},
		"ZONEINFO missing, system":  {doctor.IDZones, "65532", []string{"ZONEINFO=/none.zip"}, []entry{{Name: "usr/share/zoneinfo/Asia/Tokyo", Body: "TZif"}}, false},
		"ZONEINFO, compressed":      {doctor.IDZones, "65532", []string{"ZONEINFO=/z.zip"}, []entry{{Name: "z.zip", Body: zipped(t, "Asia/Tokyo", zip.Deflate)}}, true},
		"passwd's line too short":   {doctor.IDUsers, "7", nil, []entry{{Name: "etc/passwd", Body: "x:x:7:7::/h\n"}}, true},
		"passwd too large":          {doctor.IDUsers, "7", nil, []entry{{Name: "etc/passwd", Body: strings.Repeat("y:x:8:8::/h:\n", 400_000)}}, false},
		"ZONEINFO closed":           {doctor.IDZones, "65532", []string{"ZONEINFO=/z.zip"}, []entry{{Name: "z.zip", Body: zones.Body, Mode: 0o600}}, true},
		"ZONEINFO, a folder":        {doctor.IDZones, "65532", []string{"ZONEINFO=/z"}, []entry{{Name: "z/Asia/Tokyo", Body: "TZif"}}, false},
		"ZONEINFO beside":           {doctor.IDZones, "65532", []string{"ZONEINFO=/z"}, []entry{{Name: "usr/share/zoneinfo/Asia/Tokyo", Body: "TZif"}}, false},
		"GOROOT":                    {doctor.IDZones, "65532", []string{"GOROOT=/go"}, []entry{{Name: "go/lib/time/zoneinfo.zip", Body: zones.Body}}, false},
		"-trimpath knows no GOROOT": {doctor.IDZones, "65532", nil, []entry{{Name: "usr/local/go/lib/time/zoneinfo.zip", Body: zones.Body}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			img := skifftest.Image(t, v1.Config{Entrypoint: []string{"/app"}, User: c.user, Env: c.env}, skifftest.Layer(t, append([]entry{app}, c.files...)...))
			r := examine(t, img, doctor.Options{})
			i := slices.IndexFunc(r.Findings, func(f doctor.Finding) bool { return f.ID == c.id })
			if i >= 0 != c.found {
				t.Errorf("%+v", r.Findings)
			}
			if !c.found {
				return
			}
			// What --add-missing is said to mend, it does; what it is not said to, it leaves alone.
			s, err := doctor.Missing(t.Context(), img, doctor.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var entries []entry
			for _, f := range s.Files {
				e := entry{Name: strings.TrimPrefix(f.Path, "/"), Body: string(f.Data), Mode: f.Mode, UID: f.UID, GID: f.GID}
				if f.Dir {
					e.Name += "/"
				}
				entries = append(entries, e)
			}
			config, err := img.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			config.Config.Env = append(config.Config.Env, s.Env...)
			if img, err = mutate.Config(img, config.Config); err != nil {
				t.Fatal(err)
			}
			if img, err = mutate.AppendLayers(img, skifftest.Layer(t, entries...)); err != nil {
				t.Fatal(err)
			}
			after := examine(t, img, doctor.Options{})
			gone := !slices.ContainsFunc(after.Findings, func(f doctor.Finding) bool { return f.ID == c.id })
			if gone != r.Findings[i].Supplied {
				t.Errorf("addMissing is %t, and it is gone: %t\n%+v", r.Findings[i].Supplied, gone, after.Findings)
			}
		})
	}
}

func zipped(t *testing.T, name string, method uint16) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: method})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("TZif")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestTrust: on both machines whose code is read, a client that skips verification, or has roots of its own, on every way to its
// connection does not need the system's; one that may do so does.
func TestTrust(t *testing.T) {
	const program = `package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

func main() {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(os.Getenv("CA")))
	config := %s
	c, err := tls.Dial("tcp", os.Args[1], config)
	fmt.Println(c, err)
}
`
	for config, want := range map[string]doctor.Level{
		"&tls.Config{InsecureSkipVerify: true}":                                                             doctor.Possible,
		"&tls.Config{RootCAs: pool, ServerName: os.Args[2]}":                                                doctor.Possible,
		"&tls.Config{InsecureSkipVerify: len(os.Args) > 2}":                                                 doctor.Linked,
		"(*tls.Config)(nil)":                                                                                doctor.Linked,
		"&tls.Config{ServerName: os.Args[2]}":                                                               doctor.Linked,
		"&tls.Config{}; if len(os.Args) > 2 { config.RootCAs = pool }":                                      doctor.Linked,
		"&tls.Config{InsecureSkipVerify: true}; if len(os.Args) > 2 { config = new(tls.Config) }":           doctor.Linked,
		"&tls.Config{RootCAs: pool}; if len(os.Args) > 2 { config = &tls.Config{InsecureSkipVerify: true}}": doctor.Possible,
	} {
		for _, arch := range []string{"amd64", "arm64"} {
			dir := t.TempDir()
			file := filepath.Join(dir, "main.go")
			if err := os.WriteFile(file, fmt.Appendf(nil, program, config), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "app"), file)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=", "GOWORK=off")
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			f, err := os.Open(filepath.Join(dir, "app"))
			if err != nil {
				t.Fatal(err)
			}
			st, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			b, err := doctor.ReadBinary(f, st.Size())
			f.Close()
			if err != nil {
				t.Fatal(err)
			}
			if n := b.Need(doctor.NeedCA); n.Level != want {
				t.Errorf("%s: %s: %s, want %s: %q", arch, config, n.Level, want, n.Evidence)
			}
		}
	}
}
