package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skiff-build/skiff"
	"github.com/skiff-build/skiff/internal/skifftest"
)

// Every verb is fuzzed as a user calls it, not the parsers alone: what one of them lets pass the next may not expect. A target makes files
// or a registry of the fuzzer's bytes and runs the verbs that read such things.

// verb runs a command in this process. A panic is the test's; so is output that holds more than text, a code that no command ends with, and
// a time that no input of this size may take.
func verb(t *testing.T, root string, args ...string) (out string, code int) {
	t.Helper()
	var g global
	var b bytes.Buffer
	cmd := newRoot(&g)
	cmd.SetArgs(append([]string{"--root", root}, args...))
	cmd.SetIn(strings.NewReader(""))
	cmd.SetOut(skiff.Printable(&b))
	cmd.SetErr(skiff.Printable(&b))
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := cmd.ExecuteContext(ctx)
	if err != nil {
		var c exitCode
		if ok := asExit(err, &c); ok {
			code = int(c)
		} else {
			code = report(skiff.Printable(&b), err)
		}
	}
	if err := g.close(); err != nil {
		t.Errorf("skiff %q: clean up: %v", args, err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("skiff %q took %s", args, took)
	}
	if !slices.Contains([]int{0, exitFailure, 2, exitUsage, 126, 127}, code) {
		t.Errorf("skiff %q ends with %d:\n%s", args, code, b.String())
	}
	if code != 0 && strings.TrimSpace(b.String()) == "" {
		t.Errorf("skiff %q ends with %d and says nothing", args, code)
	}
	wellBehaved(t, fmt.Sprintf("%q", args), b.String())
	return b.String(), code
}

func asExit(err error, c *exitCode) bool {
	e, ok := err.(exitCode)
	*c = e
	return ok
}

// isolate keeps the user's own configuration away from the commands.
func isolate(t testing.TB) {
	t.Helper()
	for k, v := range testEnv(t.TempDir()) {
		t.Setenv(k, v)
	}
}

func digest(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// packed is a tar of files, name and content by turns.
func packed(t testing.TB, files ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		data := files[i+1].([]byte)
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: files[i].(string), Size: int64(len(data)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// archiveOf is docker save's archive of one image, whose names and digests are right whatever config and layer are.
func archiveOf(t testing.TB, config, layer []byte) []byte {
	name := strings.TrimPrefix(digest(config), "sha256:") + ".json"
	list, err := json.Marshal([]map[string]any{{"Config": name, "RepoTags": []string{"fuzz:1"}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		t.Fatal(err)
	}
	return packed(t, name, config, "layer.tar", layer, "manifest.json", list)
}

// configOf is a config for a layer, with what a fuzzer likes to change.
func configOf(layer []byte) []byte {
	return fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","created":"2020-01-01T00:00:00Z","author":"a","config":{"Entrypoint":["/app"],"Cmd":["x"],"User":"u:g","Env":["A=b","PATH=/bin"],"WorkingDir":"/w","Labels":{"k":"v"},"Volumes":{"/v":{}},"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD","/app"]},"StopSignal":"SIGTERM"},"rootfs":{"type":"layers","diff_ids":["%s"]},"history":[{"created":"2020-01-01T00:00:00Z","created_by":"COPY app /","comment":"c"},{"empty_layer":true}]}`, digest(layer))
}

// layerBytes are layers to begin with.
func layerBytes(t testing.TB) [][]byte {
	var out [][]byte
	for _, entries := range [][]skifftest.Entry{
		{{Name: "app", Body: "#!/bin/sh\n", Mode: 0o755}, {Name: "etc/passwd", Body: "u:x:1:1::/:/bin/sh\n"}, {Name: "bin/sh", Link: "../app"}},
		{{Name: "./a/"}, {Name: "./a/.wh..wh..opq"}, {Name: "a/b", Link: "../.."}, {Name: "a/b/c", Body: "x"}, {Name: "h", Hard: "a/b/c"}, {Name: ".wh.h"}},
		{{Name: "app", Body: "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 57), Mode: 0o4755}},
	} {
		out = append(out, skifftest.ReadAll(t, skifftest.Layer(t, entries...).Uncompressed))
	}
	return append(out, skifftest.Sparse(t, "app", []byte("\x7fELF"), 8<<30-1), skifftest.Bomb(t, 64<<20))
}

// ofArchive runs the verbs that read an archive of images, and those that read what it loads.
func ofArchive(t *testing.T, data []byte) {
	dir, root := t.TempDir(), t.TempDir()
	file := filepath.Join(dir, "a.tar")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	verb(t, root, "check", file)
	if _, code := verb(t, root, "load", "-i", file); code != 0 {
		return
	}
	out, code := verb(t, root, "images", "-q", "--no-trunc")
	if code != 0 {
		t.Errorf("images after a load: %s", out)
	}
	for _, id := range strings.Fields(out) {
		for _, args := range [][]string{
			{"images", "--digests"}, {"images", "--format", "json"}, {"inspect", id}, {"inspect", "-f", "{{json .Config}}", id}, {"check", id},
			{"check", "--format", "json", id}, {"tag", id, "fuzz:2"}, {"save", "-o", filepath.Join(dir, "out.tar"), id},
			{"save", "--format", "oci", "--compression", "zstd", "-o", filepath.Join(dir, "out.tar"), "fuzz:2"}, {"push", "127.0.0.1:1/x"},
		} {
			out, code := verb(t, root, args...)
			if code != 0 && args[0] != "check" && args[0] != "push" && args[0] != "inspect" {
				t.Errorf("what was loaded cannot be used: %q: %s", args, out)
			}
		}
	}
	verb(t, root, "prune", "-a", "-f")
}

// ofConfig and ofLayer are ofArchive for bytes within a sound archive.
func ofConfig(t *testing.T, config []byte) { ofArchive(t, archiveOf(t, config, layerBytes(t)[0])) }
func ofLayer(t *testing.T, layer []byte)   { ofArchive(t, archiveOf(t, configOf(layer), layer)) }

// ofRegistry pulls from a registry that answers with these bytes whatever it is asked for, and with their digests.
func ofRegistry(t *testing.T, manifest, config, layer []byte) {
	root := t.TempDir()
	blobs := map[string][]byte{digest(config): config, digest(layer): layer}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		switch {
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			w.Header().Set("Docker-Content-Digest", digest(manifest))
			_, _ = w.Write(manifest)
		case blobs[last] != nil:
			_, _ = w.Write(blobs[last])
		case strings.Contains(r.URL.Path, "/blobs/"):
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer s.Close()
	ref := strings.TrimPrefix(s.URL, "http://") + "/x:1"
	if _, code := verb(t, root, "pull", ref); code == 0 {
		verb(t, root, "images", "--digests")
		verb(t, root, "inspect", ref)
		verb(t, root, "check", ref)
	}
}

func manifestOf(config, layer []byte) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"%s","size":%d}],"annotations":{"a":"b"}}`,
		digest(config), len(config), digest(layer), len(layer))
}

// ofDockerfile checks a Dockerfile, and builds it in a context whose one file is an archive to ADD. No program runs: no text of a fuzzer's
// has a base that could.
func ofDockerfile(t *testing.T, text, archive []byte) {
	dir, root := t.TempDir(), t.TempDir()
	for name, data := range map[string][]byte{"Dockerfile": text, "a.tar": archive} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	verb(t, root, "build", "--check", dir)
	if bytes.Contains(bytes.ToUpper(text), []byte("RUN")) || bytes.Contains(text, []byte("syntax")) || bytes.Contains(text, []byte("://")) {
		return
	}
	if _, code := verb(t, root, "build", "-t", "built:1", dir); code == 0 {
		verb(t, root, "check", "built:1")
		verb(t, root, "build", "-o", "type=tar,dest="+filepath.Join(dir, "out.tar"), dir)
		verb(t, root, "build", "-o", filepath.Join(dir, "out"), dir)
	}
	verb(t, root, "prune", "-a", "-f")
}

func ofProgram(t *testing.T, data []byte) {
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, data, 0o755); err != nil {
		t.Fatal(err)
	}
	verb(t, t.TempDir(), "check", file)
}

const addDockerfile = "FROM scratch\nADD a.tar /x/\nUSER u\nWORKDIR /w\nENTRYPOINT [\"/x/app\"]\nLABEL a=b\n"

func FuzzVerbsArchive(f *testing.F) {
	isolate(f)
	for _, l := range layerBytes(f) {
		f.Add(archiveOf(f, configOf(l), l))
	}
	f.Fuzz(ofArchive)
}

func FuzzVerbsConfig(f *testing.F) {
	isolate(f)
	f.Add(configOf(layerBytes(f)[0]))
	f.Fuzz(ofConfig)
}

func FuzzVerbsLayer(f *testing.F) {
	isolate(f)
	for _, l := range layerBytes(f) {
		f.Add(l)
	}
	f.Fuzz(ofLayer)
}

func FuzzVerbsRegistry(f *testing.F) {
	isolate(f)
	l := layerBytes(f)[0]
	f.Add(manifestOf(configOf(l), l), configOf(l), l)
	f.Fuzz(ofRegistry)
}

func FuzzVerbsDockerfile(f *testing.F) {
	isolate(f)
	for _, l := range layerBytes(f) {
		f.Add([]byte(addDockerfile), l)
	}
	f.Fuzz(ofDockerfile)
}

func FuzzVerbsProgram(f *testing.F) {
	isolate(f)
	f.Add([]byte("\x7fELF"))
	f.Fuzz(ofProgram)
}

// mutated changes some bytes: single ones, runs, digits, or the length.
func mutated(r *rand.Rand, in []byte) []byte {
	out := bytes.Clone(in)
	for range 1 + r.IntN(4) {
		if len(out) == 0 {
			return out
		}
		at := r.IntN(len(out))
		switch r.IntN(7) {
		case 0:
			out[at] = byte(r.Uint32())
		case 1:
			out[at] ^= 1 << r.IntN(8)
		case 2:
			out = out[:at]
		case 3:
			n := min(len(out)-at, r.IntN(600))
			out = slices.Delete(out, at, at+n)
		case 4:
			n := min(len(out)-at, r.IntN(600))
			out = slices.Insert(out, r.IntN(len(out)), bytes.Clone(out[at:at+n])...)
		case 5:
			odd := []string{"null", "-1", "99999999999999999999", `""`, "[]", "{}", "\x1b[2J", "../", "\xff", "1e999", `"\u0000"`}
			out = slices.Insert(out, at, []byte(odd[r.IntN(len(odd))])...)
		case 6: // a member of JSON, or a part of a path, becomes another
			if i := bytes.IndexAny(out[at:], `":,[]{}/`); i >= 0 {
				odd := []string{"null", "-1", "0", `"x"`, "[null]", "{}", "true", `[[[]]]`}
				end := min(len(out), at+i+1+r.IntN(12))
				out = slices.Replace(out, at+i+1, max(at+i+1, end), []byte(odd[r.IntN(len(odd))])...)
			}
		}
	}
	return out
}

// TestVerbsMutated gives every target some mutants of sound input. The seed is new each time, and said where one fails.
func TestVerbsMutated(t *testing.T) {
	isolate(t)
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	layers := layerBytes(t)[:4]
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		program = []byte("\x7fELF")
	}
	program = program[:min(len(program), 64<<10)]
	for i := range 6 {
		layer := layers[r.IntN(len(layers))]
		config := configOf(layer)
		for name, run := range map[string]func(*testing.T){
			"archive":    func(t *testing.T) { ofArchive(t, mutated(r, archiveOf(t, config, layer))) },
			"config":     func(t *testing.T) { ofConfig(t, mutated(r, configOf(layers[0]))) },
			"layer":      func(t *testing.T) { ofLayer(t, mutated(r, layer)) },
			"manifest":   func(t *testing.T) { ofRegistry(t, mutated(r, manifestOf(config, layer)), config, layer) },
			"pulled":     func(t *testing.T) { c := mutated(r, config); ofRegistry(t, manifestOf(c, layer), c, layer) },
			"Dockerfile": func(t *testing.T) { ofDockerfile(t, mutated(r, []byte(addDockerfile)), layer) },
			"program":    func(t *testing.T) { ofProgram(t, mutated(r, program)) },
		} {
			if !t.Run(fmt.Sprintf("%s-%d", name, i), run) {
				t.Fatalf("seed %d", seed)
			}
		}
	}
	for _, l := range layers {
		ofDockerfile(t, []byte(addDockerfile), l)
	}
}
