package skiff_test

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// teller is a program that needs a time zone and a temporary folder, and shows both.
const teller = `package main

import (
	_ "embed"
	"fmt"
	"os"
	"time"
)

//go:embed word
var word string

func main() {
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "x")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	defer os.Remove(dir)
	fmt.Println(word, time.Unix(0, 0).In(tokyo))
}
`

// tellerModule is its module, with a file for its image beside it.
func tellerModule(t *testing.T) string {
	return skifftest.Files(t, "go.mod", "module example.com/teller\n\ngo 1.21\n", "main.go", teller, "word", "hello", "extra/deep/page", "page")
}

// members are the entries of a tar, in its order, as "mode uid:gid name".
func members(t *testing.T, file string) (lines []string) {
	t.Helper()
	for _, h := range tarHeaders(t, file) {
		lines = append(lines, fmt.Sprintf("%o %d:%d %s", h.Mode, h.Uid, h.Gid, strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")))
	}
	return lines
}

// tarHeaders are those of a tar, in its order.
func tarHeaders(t *testing.T, file string) (headers []*tar.Header) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return headers
		}
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, h)
	}
}

// TestDoorOnABase: the folders of a base keep what it gave them, where files come into them and where links lead to them.
func TestDoorOnABase(t *testing.T) {
	c := newCLI(t)
	dir := tellerModule(t)
	registry := skifftest.NewRegistry(t, nil)
	base := registry.Push(t, "base:1", skifftest.Image(t, v1.Config{}, skifftest.Layer(t,
		skifftest.Entry{Name: "usr/", Mode: 0o711}, skifftest.Entry{Name: "usr/bin/", Mode: 0o751}, skifftest.Entry{Name: "usr/local/", Mode: 0o2775, GID: 50},
		skifftest.Entry{Name: "usr/local/bin/", Mode: 0o2775, GID: 50}, skifftest.Entry{Name: "srv/", Mode: 0o1770, UID: 7, GID: 8},
		skifftest.Entry{Name: "bin", Link: "usr/bin"},
	)))
	file := filepath.Join(t.TempDir(), "root.tar")
	c.run("build", "--dockerfile=none", "--base", base, "--add", filepath.Join(dir, "extra")+":/srv", "--add", filepath.Join(dir, "word")+":/bin/",
		"-o", "type=tar,dest="+file, dir)
	got := members(t, file)
	for _, want := range []string{
		"711 0:0 usr", "751 0:0 usr/bin", "2775 0:50 usr/local", "2775 0:50 usr/local/bin", "755 0:0 usr/local/bin/teller",
		"1770 7:8 srv", "755 0:0 srv/deep", "644 0:0 srv/deep/page", "644 0:0 bin", "644 0:0 usr/bin/word", "1777 0:0 tmp",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not in the image:\n%s", want, strings.Join(got, "\n"))
		}
	}

	// What the base lacks comes along.
	empty := registry.Push(t, "base:2", skifftest.Image(t, v1.Config{}, skifftest.Layer(t, skifftest.Entry{Name: "usr/", Mode: 0o711})))
	c.run("build", "--dockerfile=none", "--base", empty, "-o", "type=tar,dest="+file, dir)
	got = members(t, file)
	for _, want := range []string{"711 0:0 usr", "755 0:0 usr/local", "755 0:0 usr/local/bin", "755 0:0 usr/local/bin/teller"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not in the image:\n%s", want, strings.Join(got, "\n"))
		}
	}
}

// TestDoorSameForEverybody builds the same sources in another folder, with other modes and times, as another user with a home, caches,
// a time zone and a language of its own: the image is the same.
func TestDoorSameForEverybody(t *testing.T) {
	skifftest.Long(t, "it builds for several users")
	c := newCLI(t)
	dir := tellerModule(t)
	id := func(build func(args ...string)) string {
		file := filepath.Join(t.TempDir(), "id")
		if err := errors.Join(os.Chmod(filepath.Dir(file), 0o777), os.Chmod(filepath.Dir(filepath.Dir(file)), 0o755)); err != nil {
			t.Fatal(err)
		}
		build("build", "--dockerfile=none", "-q", "--iidfile", file, "--add", "extra:/srv", ".")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	mine := id(func(args ...string) {
		cmd := exec.CommandContext(t.Context(), c.bin, args...)
		cmd.Dir, cmd.Env = dir, c.env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	})

	other := filepath.Join(t.TempDir(), "far", "down")
	if err := os.CopyFS(other, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	old := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	uid := os.Getuid()
	if uid == 0 {
		uid = 65533
	}
	err := filepath.WalkDir(filepath.Dir(other), func(name string, d fs.DirEntry, err error) error {
		mode := fs.FileMode(0o600)
		if d.IsDir() {
			mode = 0o700
		}
		return errors.Join(err, os.Chmod(name, mode), os.Chtimes(name, old, old), os.Lchown(name, uid, uid))
	})
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(other, "..", "home")
	if err := errors.Join(os.Mkdir(home, 0o700), os.Lchown(home, uid, uid), os.Chmod(filepath.Dir(filepath.Dir(other)), 0o755)); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "TZ=Asia/Tokyo", "LANG=tr_TR.UTF-8", "LC_ALL=tr_TR.UTF-8", "USER=other",
		"GOPROXY=off", "GOFLAGS=-buildvcs=false"}
	theirs := id(func(args ...string) {
		cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-c", `umask 077; exec "$@"`, "sh", c.bin}, args...)...)
		cmd.Dir, cmd.Env = other, append(env, c.mark)
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	})
	if mine != theirs {
		t.Errorf("one has the image %s, the other %s", mine, theirs)
	}
}

// TestDoorForPlatforms: an index with an image for each, whose program is for that processor, and where the doctor reads both.
func TestDoorForPlatforms(t *testing.T) {
	skifftest.Long(t, "it compiles for several platforms")
	c := newCLI(t)
	dir := tellerModule(t)
	out := c.run("build", "--dockerfile=none", "--platform", "linux/amd64,linux/arm64", "-t", "teller:both", dir)
	if strings.Contains(out, "skiff check") {
		t.Errorf("findings:\n%s", out)
	}
	text, code := c.try("check", "--fail-on", "info", "--format", "json", "teller:both")
	var reports []struct {
		Platform  string
		Programs  []struct{ Path, Arch string }
		Findings  []any
		Undecided []string
	}
	if err := json.Unmarshal([]byte(text), &reports); err != nil || code != 0 {
		t.Fatalf("%v, exit code %d:\n%s", err, code, text)
	}
	var got []string
	for _, r := range reports {
		for _, p := range r.Programs {
			got = append(got, fmt.Sprint(r.Platform, " ", p.Path, " ", p.Arch, " ", len(r.Findings), len(r.Undecided)))
		}
	}
	if want := []string{"linux/amd64 /usr/local/bin/teller amd64 0 0", "linux/arm64 /usr/local/bin/teller arm64 0 0"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	// What each needs is supplied for each, and read off its code alone.
	for _, arch := range []string{"amd64", "arm64"} {
		file := filepath.Join(t.TempDir(), "root.tar")
		c.run("build", "--dockerfile=none", "--platform", "linux/"+arch, "-o", "type=tar,dest="+file, dir)
		if got := members(t, file); !slices.Contains(got, "644 0:0 usr/share/zoneinfo/Asia/Tokyo") || !slices.Contains(got, "1777 0:0 tmp") {
			t.Errorf("%s: what it needs is not there:\n%s", arch, strings.Join(got, "\n"))
		}
	}
}

// cgoProgram calls libraries of C of its own.
const cgoProgram = `package main

/*
#cgo LDFLAGS: -lm
#include <math.h>
#include <stdlib.h>
*/
import "C"

import "fmt"

func main() { fmt.Println("the root of two:", float64(C.sqrt(C.double(2+C.abs(0))))) }
`

// TestDoorCGO: a program with C runs in its image on nothing, where its loader and libraries come along, and on a base that has them. One
// that lacks them is refused.
func TestDoorCGO(t *testing.T) {
	skifftest.Long(t, "it compiles a C program")
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no C compiler")
	}
	c := newCLI(t)
	c.env = append(c.env, "CGO_ENABLED=1")
	dir := skifftest.Files(t, "go.mod", "module example.com/root\n\ngo 1.21\n", "main.go", cgoProgram)
	c.run("build", "--dockerfile=none", "--strict", "-t", "cgo:1", dir)
	const want = "the root of two: 1.414"
	if said := c.run("run", "cgo:1"); !strings.Contains(said, want) {
		t.Errorf("on nothing: %s", said)
	}

	registry := skifftest.NewRegistry(t, nil)
	base := registry.Host + "/base/libc:1"
	c.run("tag", "cgo:1", base)
	c.run("push", base)
	c.run("build", "--dockerfile=none", "--strict", "--base", base, "-t", "cgo:2", dir)
	if said := c.run("run", "cgo:2"); !strings.Contains(said, want) {
		t.Errorf("on a base: %s", said)
	}
	first, second := c.run("inspect", "-f", "{{len .RootFS.Layers}}", "cgo:1"), c.run("inspect", "-f", "{{len .RootFS.Layers}}", "cgo:2")
	if strings.TrimSpace(first) != "2" || strings.TrimSpace(second) != "3" {
		t.Errorf("%s and %s layers: libraries that the base has were added to it", first, second)
	}

	bare := registry.Push(t, "bare:1", skifftest.Image(t, v1.Config{}, skifftest.Layer(t, skifftest.Entry{Name: "etc/"})))
	if said, code := c.try("build", "--dockerfile=none", "--base", bare, "-t", "cgo:3", dir); code == 0 || !strings.Contains(said, "ld-") {
		t.Errorf("on a base without a loader: exit code %d, and it is not named:\n%s", code, said)
	}
}

// TestDoorSmallest holds the example to its sizes: with what --optimize=size applies the whole image is below 6.81 MB, and with HTTP/1.1
// alone below 2.6 MB to pull.
func TestDoorSmallest(t *testing.T) {
	skifftest.Long(t, "it builds the example in several ways")
	c := newCLI(t)
	src := copyTree(t, "examples/slackbot")
	dest := filepath.Join(t.TempDir(), "layout")
	out := c.run("build", "--dockerfile=none", "--optimize=size", "--tags", "nethttpomithttp2", "--strict=info", "--compression", "zstd:19", "-t", "slackbot:small",
		"-o", "type=image", "-o", "type=oci,tar=false,dest="+dest, src)
	t.Log(out)
	var bytes int64
	fmt.Sscan(c.run("inspect", "-f", "{{.Size}}", "slackbot:small"), &bytes)
	if bytes < 4_000_000 || bytes >= 6_810_000 {
		t.Errorf("the image has %d bytes, not less than 6,810,000", bytes)
	}
	pull := int64(0)
	blobs, err := os.ReadDir(filepath.Join(dest, "blobs", "sha256"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs {
		st, err := b.Info()
		if err != nil {
			t.Fatal(err)
		}
		pull += st.Size()
	}
	t.Logf("%d bytes unpacked, %d to pull", bytes, pull)
	if pull < 1_000_000 || pull >= 2_600_000 {
		t.Errorf("%d bytes are pulled, not less than 2,600,000", pull)
	}
	if text, code := c.try("check", "--fail-on", "info", "slackbot:small"); code != 0 {
		t.Errorf("check: exit code %d:\n%s", code, text)
	}
	said, code := c.try("run", "slackbot:small")
	if code != 1 || !strings.Contains(said, "slackbot: SLACK_BOT_TOKEN is not set") {
		t.Errorf("run: exit code %d: %s", code, said)
	}
}

// TestDoorRealPrograms: images of real programs have no finding, and the report that comes of what was read when they were built is that
// of one who reads them anew.
func TestDoorRealPrograms(t *testing.T) {
	skifftest.Long(t, "it compiles public programs")
	c := newCLI(t)
	build := []string{"build", "-t", "real/"}
	programs := map[string]string{ // of modules that this one needs, by what they need
		"crane":  "github.com/google/go-containerregistry/cmd/crane", // CAs, a home, a temporary folder
		"s2c":    "github.com/klauspost/compress/s2/cmd/s2c",         // CAs
		"gxz":    "github.com/ulikunitz/xz/cmd/gxz",                  // signals and files alone
		"xxhsum": "github.com/cespare/xxhash/v2/xxhsum",              // nothing
	}
	for _, path := range programs {
		build = append(build, path)
	}
	if out := c.run(build...); strings.Contains(out, "skiff check") {
		t.Errorf("findings:\n%s", out)
	}
	for name := range programs {
		kept, code := c.try("check", "--fail-on", "info", "--format", "json", "real/"+name)
		if code != 0 {
			t.Errorf("check %s: exit code %d:\n%s", name, code, kept)
		}
		archive := filepath.Join(t.TempDir(), "image.tar")
		c.run("save", "--format", "oci", "-o", archive, "real/"+name)
		cmd := exec.CommandContext(t.Context(), c.bin, "check", "--fail-on", "info", "--format", "json", archive)
		cmd.Env = append(c.env, "SKIFF_ROOT="+t.TempDir())
		anew, err := cmd.Output()
		if err != nil {
			t.Fatalf("check %s: %v\n%s", archive, err, anew)
		}
		if a, b := reportOf(t, []byte(kept)), reportOf(t, anew); a != b || !strings.Contains(a, `"path":"/usr/local/bin/`+name+`"`) {
			t.Errorf("%s: the report of the build is\n%s\nand of the archive\n%s", name, a, b)
		}
	}
}

// reportOf is what a report says of programs and needs: names and compressed layers differ between a state and an archive.
func reportOf(t *testing.T, text []byte) string {
	t.Helper()
	var reports []struct {
		Bytes     int64           `json:"bytes"`
		Programs  json.RawMessage `json:"programs"`
		Findings  json.RawMessage `json:"findings"`
		Undecided json.RawMessage `json:"undecided"`
		Largest   json.RawMessage `json:"largest"`
	}
	if err := json.Unmarshal(text, &reports); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	out, err := json.Marshal(reports)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
