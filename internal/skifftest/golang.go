package skifftest

import (
	"archive/tar"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// shellPath is where the skiff binary lies in the images made here; commands are links to it.
const shellPath = "opt/toybox"

// Commands are the small commands of the toy images.
var Commands = strings.Fields(`sh ls cat cp mv rm ln mkdir touch chmod echo env pwd sleep date find grep head id test true false wc`)

// shellLayer is a root file system of the least that a step needs: a shell and small commands, which are the skiff
// binary, passwd and group, and /tmp.
func shellLayer(t testing.TB, more ...Entry) v1.Layer {
	t.Helper()
	entries := []Entry{
		{Name: "bin/"}, {Name: "dev/"}, {Name: "etc/"}, {Name: "opt/"}, {Name: "proc/"}, {Name: "root/", Mode: 0o700}, {Name: "sys/"},
		{Name: "tmp/", Mode: 0o1777}, {Name: "usr/"}, {Name: "var/"},
		{Name: "etc/passwd", Body: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
		{Name: "etc/group", Body: "root:x:0:\nnobody:x:65534:\n"},
		{Name: shellPath, File: Binary(t), Mode: 0o755},
	}
	for _, c := range Commands {
		entries = append(entries, Entry{Name: "bin/" + c, Link: "/" + shellPath})
	}
	return Layer(t, append(entries, more...)...)
}

// ShellImage is an image whose steps have a shell.
func ShellImage(t testing.TB, more ...Entry) v1.Image {
	t.Helper()
	return Image(t, v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"/bin/sh"}}, shellLayer(t, more...))
}

// GolangImage stands in for the real golang image of this machine's Go version: a plain root file system with the
// machine's GOROOT at /usr/local/go, environment and working directory as in the official image. git is asked for in
// vain in it, as in the Alpine image before `apk add git`.
func GolangImage(t testing.TB) v1.Image {
	t.Helper()
	config := v1.Config{
		Env: []string{
			"PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"GOLANG_VERSION=" + strings.TrimPrefix(GoVersion(t), "go"), "GOTOOLCHAIN=local", "GOPATH=/go",
		},
		WorkingDir: "/go",
	}
	return Image(t, config, shellLayer(t, Entry{Name: "go/", Mode: 0o1777}, Entry{Name: "usr/local/"}), gorootLayer(t))
}

// GoVersion is the version of the go command, as go1.26.8.
func GoVersion(t testing.TB) string { return GoEnv(t, "GOVERSION") }

// GoEnv is what go env says of name.
func GoEnv(t testing.TB, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatalf("go env %s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// gorootLayer is the machine's GOROOT without what no build reads.
func gorootLayer(t testing.TB) v1.Layer {
	t.Helper()
	goroot, err := filepath.EvalSymlinks(GoEnv(t, "GOROOT"))
	if err != nil {
		t.Fatal(err)
	}
	return layerOf(t, func(w *tar.Writer) error {
		return filepath.WalkDir(goroot, func(file string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(goroot, file)
			if err != nil {
				return err
			}
			rel = filepath.ToSlash(rel)
			if d.IsDir() && slices.Contains([]string{"test", "api", "doc", "misc", ".git"}, rel) || d.Name() == "testdata" {
				return filepath.SkipDir
			}
			return addFile(w, file, path.Join("usr/local/go", rel))
		})
	})
}

// addFile writes one file of this machine, owned by root, without its time.
func addFile(w *tar.Writer, file, name string) error {
	st, err := os.Lstat(file)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() && !st.IsDir() {
		return nil
	}
	h := &tar.Header{Name: name, Mode: int64(st.Mode().Perm()), Typeflag: tar.TypeDir, Format: tar.FormatPAX}
	if st.IsDir() {
		h.Name += "/"
		return w.WriteHeader(h)
	}
	h.Typeflag, h.Size = tar.TypeReg, st.Size()
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
