package gocache

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain is the program that GOCACHEPROG names in [TestGoCommand].
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "serve" {
		if err := Serve(os.Stdin, os.Stdout, Dir(os.Args[2]), Dir(os.Args[3])); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestGoCommand: what one cache has the go command does not compile; the files end in the cache of its own, from which
// it goes on without the program; the result is the same. (Of a package that needs no runtime: that takes long to compile.)
func TestGoCommand(t *testing.T) {
	src, machine, own, empty := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	write(t, filepath.Join(src, "go.mod"), "module example.com/app\n\ngo 1.24\n")
	write(t, filepath.Join(src, "app.go"), "package app\n\nimport \"unicode/utf8\"\n\nvar N = utf8.RuneCountInString(\"å\")\n")
	build := func(name, cache string, env ...string) (archive string, compiled int) {
		archive = filepath.Join(t.TempDir(), name)
		cmd := exec.CommandContext(t.Context(), "go", "build", "-x", "-o", archive, ".")
		cmd.Dir = src
		cmd.Env = append(os.Environ(), append(env, "GOCACHE="+cache, "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off", "GO111MODULE=")...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return archive, strings.Count(string(out), "/compile -o ")
	}
	first, all := build("first", machine)
	if all < 2 {
		t.Fatalf("%d packages compiled with an empty cache", all)
	}
	before := listing(t, machine)
	prog := fmt.Sprintf("GOCACHEPROG='%s' serve '%s' '%s'", os.Args[0], own, machine)
	second, none := build("second", own, prog)
	if none != 0 {
		t.Errorf("%d packages compiled although the machine's cache has all", none)
	}
	if after := listing(t, machine); after != before {
		t.Errorf("the machine's cache was changed:\n%s\nbefore:\n%s", after, before)
	}
	_, none = build("third", own)
	if none != 0 {
		t.Errorf("%d packages compiled without the program, after it had filled the cache", none)
	}
	write(t, filepath.Join(src, "app.go"), "package app\n\nimport \"unicode/utf16\"\n\nvar N = utf16.IsSurrogate('å')\n")
	fourth, some := build("fourth", own, prog)
	if some == 0 {
		t.Error("a changed file was not compiled")
	}
	fifth, none := build("fifth", own)
	if none != 0 {
		t.Errorf("%d packages compiled that the go command had put", none)
	}
	sixth, _ := build("sixth", empty)
	for _, pair := range [][2]string{{first, second}, {fourth, fifth}, {fourth, sixth}} {
		if !bytes.Equal(read(t, pair[0]), read(t, pair[1])) {
			t.Errorf("%s and %s differ", filepath.Base(pair[0]), filepath.Base(pair[1]))
		}
	}
}

func TestDir(t *testing.T) {
	d := Dir(t.TempDir())
	a := ActionID{1}
	put := func(content string, size int64) error {
		return d.Put(a, Entry{Output: sha256.Sum256([]byte("content")), Size: size, Time: time.Unix(1, 2)}, strings.NewReader(content))
	}
	for _, bad := range []string{"CONTENT", "content and more", "short", ""} {
		if err := put(bad, 7); err == nil {
			t.Errorf("%q was taken", bad)
		}
		if _, err := d.Get(a); err != ErrMiss {
			t.Errorf("after %q: %v", bad, err)
		}
	}
	if err := put("content", 7); err != nil {
		t.Fatal(err)
	}
	e, err := d.Get(a)
	if err != nil || e.Size != 7 || !e.Time.Equal(time.Unix(1, 2)) || string(read(t, d.OutputFile(e.Output))) != "content" {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := d.Get(ActionID{2}); err != ErrMiss {
		t.Errorf("an action that was never put: %v", err)
	}
	if err := put("CONTENT", 7); err == nil {
		t.Error("wrong content was taken since the right one is there")
	}
	// A file cut short, a link, an entry for another action.
	if err := os.Truncate(d.OutputFile(e.Output), 3); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get(a); err != ErrMiss {
		t.Errorf("an output cut short: %v", err)
	}
	os.Remove(d.OutputFile(e.Output))
	write(t, filepath.Join(string(d), "elsewhere"), "content")
	if err := os.Symlink(filepath.Join(string(d), "elsewhere"), d.OutputFile(e.Output)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get(a); err != ErrMiss {
		t.Errorf("an output that is a link: %v", err)
	}
}

// TestSecondCacheIsChecked: content that is not what its name says is not taken over.
func TestSecondCacheIsChecked(t *testing.T) {
	own, second := Dir(t.TempDir()), Dir(t.TempDir())
	good, bad := ActionID{1}, ActionID{2}
	for a, content := range map[ActionID]string{good: "good", bad: "bad!"} {
		if err := second.Put(a, Entry{Output: sha256.Sum256([]byte(content)), Size: 4, Time: time.Now()}, strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, second.OutputFile(sha256.Sum256([]byte("bad!"))), "evil")
	in := lines(t, request{ID: 1, Command: "get", ActionID: good[:]}, request{ID: 2, Command: "get", ActionID: bad[:]}, request{ID: 3, Command: "close", ActionID: nil})
	var out bytes.Buffer
	if err := Serve(strings.NewReader(in), &out, own, second); err != nil {
		t.Fatal(err)
	}
	got := map[int64]response{}
	for dec := json.NewDecoder(&out); dec.More(); {
		var r response
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		got[r.ID] = r
	}
	if r := got[1]; r.Miss || string(read(t, r.DiskPath)) != "good" || !strings.HasPrefix(r.DiskPath, string(own)) {
		t.Errorf("the good one: %+v", r)
	}
	if r := got[2]; !r.Miss {
		t.Errorf("the bad one: %+v", r)
	}
	if _, closed := got[3]; !closed {
		t.Error("close was not answered")
	}
}

func FuzzServe(f *testing.F) {
	a := bytes.Repeat([]byte{1}, 32)
	sum := sha256.Sum256([]byte("body"))
	f.Add(lines(f, request{ID: 1, Command: "get", ActionID: a}))
	f.Add(lines(f, request{ID: 1, Command: "put", ActionID: a, OutputID: sum[:], BodySize: 4}) + "\"" + base64.StdEncoding.EncodeToString([]byte("body")) + "\"\n")
	f.Add(lines(f, request{ID: 1, Command: "put", ActionID: a, OutputID: sum[:], BodySize: 1 << 60}) + "\"")
	f.Fuzz(func(t *testing.T, text string) {
		root := t.TempDir()
		own, second := filepath.Join(root, "own"), filepath.Join(root, "second")
		_ = Serve(strings.NewReader(text), &bytes.Buffer{}, Dir(own), Dir(second)) // an error is an answer; a panic is not
		entries, err := os.ReadDir(root)
		if err != nil || len(entries) > 1 || len(entries) == 1 && entries[0].Name() != "own" {
			t.Errorf("%v, %v: written elsewhere", entries, err)
		}
	})
}

func lines(t testing.TB, list ...request) string {
	t.Helper()
	var b strings.Builder
	for _, r := range list {
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(data, "\n\n"...)) // as the go command does it
	}
	return b.String()
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
		if err == nil {
			fmt.Fprintln(&b, strings.TrimPrefix(p, dir), info.Size(), info.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
