package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// runSkiff runs skiff with a state of its own and standard input, and returns what it said.
func runSkiff(t *testing.T, dir string, stdin []byte, args ...string) (said string, err error) {
	t.Helper()
	cmd := exec.Command(skifftest.Binary(t), args...)
	cmd.Dir, cmd.Stdin, cmd.Env = dir, bytes.NewReader(stdin), os.Environ()
	for k, v := range testEnv(dir) {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

type member struct{ name, text, link string }

func tarOf(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.text)), Typeflag: tar.TypeReg}
		switch {
		case strings.HasPrefix(m.link, "="):
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, m.link[1:], 0
		case m.link != "":
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, m.link, 0
		case strings.HasSuffix(m.name, "/"):
			h.Typeflag, h.Mode = tar.TypeDir, 0o555
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const copyAll = "FROM scratch\nCOPY . /\n"

// TestContextFromStdin: a tar in any compression, with its .dockerignore; a Dockerfile; what is foreign in a tar.
func TestContextFromStdin(t *testing.T) {
	dir := t.TempDir()
	whole := tarOf(t, member{name: "./Dockerfile", text: copyAll}, member{name: ".dockerignore", text: "secret\n"}, member{name: "secret", text: "x"},
		member{name: "sub/"}, member{name: "sub/file", text: "hello"}, member{name: "sub/link", link: "file"}, member{name: "hard", link: "=sub/file"},
		member{name: "other.Dockerfile", text: "FROM scratch\nCOPY hard /only\n"})
	compressed := map[string][]byte{"plain": whole}
	var gz, x, z bytes.Buffer
	gw := gzip.NewWriter(&gz)
	_, _ = gw.Write(whole)
	_ = gw.Close()
	xw, err := xz.NewWriter(&x)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = xw.Write(whole)
	_ = xw.Close()
	zw, err := zstd.NewWriter(&z)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = zw.Write(whole)
	_ = zw.Close()
	compressed["gzip"], compressed["xz"], compressed["zstd"] = gz.Bytes(), x.Bytes(), z.Bytes()
	for name, text := range compressed {
		out := filepath.Join(dir, "out-"+name)
		if said, err := runSkiff(t, dir, text, "build", "-o", out, "-"); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, said)
		}
		for file, want := range map[string]string{"sub/file": "hello", "sub/link": "hello", "hard": "hello"} {
			if got, err := os.ReadFile(filepath.Join(out, file)); err != nil || string(got) != want {
				t.Errorf("%s: %s: %q, %v", name, file, got, err)
			}
		}
		if _, err := os.Stat(filepath.Join(out, "secret")); err == nil {
			t.Errorf("%s: what .dockerignore names is there", name)
		}
	}
	if said, err := runSkiff(t, dir, whole, "build", "-o", filepath.Join(dir, "only"), "-f", "other.Dockerfile", "-"); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "only/only")); err != nil || string(got) != "hello" {
		t.Errorf("-f: %q, %v", got, err)
	}
	if said, err := runSkiff(t, dir, []byte("FROM scratch\nCOPY <<EOF /made\nby hand\nEOF\n"), "build", "-o", filepath.Join(dir, "text"), "-"); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "text/made")); err != nil || string(got) != "by hand\n" {
		t.Errorf("a Dockerfile: %q, %v", got, err)
	}
	df := member{name: "Dockerfile", text: copyAll}
	for name, c := range map[string]struct {
		stdin []byte
		args  []string
		want  string
	}{
		"dots":        {tarOf(t, df, member{name: "../evil", text: "x"}), nil, "../evil: it leads out of the context"},
		"link":        {tarOf(t, df, member{name: "up", link: ".."}, member{name: "up/evil", text: "x"}), nil, "up/evil: "},
		"host link":   {tarOf(t, df, member{name: "etc", link: dir}, member{name: "etc/evil", text: "x"}), nil, "etc/evil: "},
		"hard link":   {tarOf(t, df, member{name: "evil", link: "=../../../../etc/passwd"}), nil, "evil: "},
		"truncated":   {whole[:len(whole)/2], nil, "unexpected EOF"},
		"empty":       {nil, nil, "it is empty"},
		"no tar":      {gz.Bytes()[:10], nil, "standard input"},
		"no file":     {tarOf(t, member{name: "x", text: "x"}), nil, "the context of standard input has no Dockerfile"},
		"twice":       {whole, []string{"-f", "-"}, "either the Dockerfile (-f -) or the context (-)"},
		"file of one": {[]byte(copyAll), []string{"-f", "x"}, "standard input is no tar"},
	} {
		said, err := runSkiff(t, dir, c.stdin, append(append([]string{"build", "-o", filepath.Join(dir, "bad")}, c.args...), "-")...)
		if err == nil || !strings.Contains(said, c.want) {
			t.Errorf("%s: %v, want %q:\n%s", name, err, c.want, said)
		}
		for _, at := range []string{dir, filepath.Dir(dir), os.TempDir()} {
			if _, err := os.Lstat(filepath.Join(at, "evil")); err == nil {
				t.Errorf("%s: a file of the tar is in %s", name, at)
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "context-*")); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// TestContextByURL: a git repository over http, with a password too, with #REF:FOLDER; a tarball; a Dockerfile alone.
func TestContextByURL(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("no git")
	}
	dir := t.TempDir()
	repo := filepath.Join(dir, "repos", "app")
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(git, append([]string{"-C", repo, "-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
	if err := os.MkdirAll(filepath.Join(repo, "svc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"Dockerfile": copyAll, "file": "one", "svc/Dockerfile": copyAll, "svc/only": "svc"} {
		if err := os.WriteFile(filepath.Join(repo, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run("init", "-q", "-b", "main", ".")
	run("add", "-A")
	run("commit", "-qm", "one")
	run("tag", "v1")
	if err := os.WriteFile(filepath.Join(repo, "file"), []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	run("commit", "-qam", "two")
	backend := &cgi.Handler{Path: git, Args: []string{"http-backend"}, Dir: dir, Env: []string{"GIT_PROJECT_ROOT=" + filepath.Join(dir, "repos"), "GIT_HTTP_EXPORT_ALL=1"}}
	mux := http.NewServeMux()
	mux.Handle("/git/", http.StripPrefix("/git", backend))
	mux.HandleFunc("/private/", func(w http.ResponseWriter, r *http.Request) {
		if _, token, _ := r.BasicAuth(); token != "s3cret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.StripPrefix("/private", backend).ServeHTTP(w, r)
	})
	mux.HandleFunc("/app.tar.gz", func(w http.ResponseWriter, _ *http.Request) {
		gw := gzip.NewWriter(w)
		_, _ = gw.Write(tarOf(t, member{name: "Dockerfile", text: copyAll}, member{name: "file", text: "tarball"}))
		_ = gw.Close()
	})
	mux.HandleFunc("/Some.Dockerfile", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("FROM scratch\nCOPY <<EOF /file\ntext\nEOF\n"))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	build := func(stdin, file, want string, args ...string) {
		t.Helper()
		out := filepath.Join(t.TempDir(), "out")
		said, err := runSkiff(t, dir, []byte(stdin), append([]string{"build", "-o", out}, args...)...)
		if err != nil {
			t.Errorf("%s: %v\n%s", args, err, said)
			return
		}
		if got, err := os.ReadFile(filepath.Join(out, file)); err != nil || string(got) != want {
			t.Errorf("%s: %s: %q, %v", args, file, got, err)
		}
		if strings.Contains(said, "s3cret") {
			t.Errorf("the password is shown:\n%s", said)
		}
	}
	build("", "file", "two", server.URL+"/git/app/.git")
	build("", "file", "one", server.URL+"/git/app/.git#v1")
	build("", "only", "svc", server.URL+"/git/app/.git#main:svc")
	build("", "svc/only", "svc", "-f", "svc/Dockerfile", server.URL+"/git/app/.git")
	build("FROM scratch\nCOPY file /mine\n", "mine", "two", "-f", "-", server.URL+"/git/app/.git")
	build("", "file", "tarball", server.URL+"/app.tar.gz")
	build("", "file", "text\n", server.URL+"/Some.Dockerfile")
	if said, err := runSkiff(t, dir, nil, "build", "-o", "out", server.URL+"/private/app/.git"); err == nil || !strings.Contains(said, "GIT_AUTH_TOKEN") {
		t.Errorf("without a password: %v\n%s", err, said)
	}
	t.Setenv("GIT_AUTH_TOKEN", "s3cret")
	build("", "file", "two", server.URL+"/private/app/.git")
	if said, err := runSkiff(t, dir, nil, "build", "-o", "out", server.URL+"/git/app/.git#nosuch"); err == nil || !strings.Contains(said, "nosuch") {
		t.Errorf("a reference that is not there: %v\n%s", err, said)
	}
}
