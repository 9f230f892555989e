package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestArchivesAreEqual: neither times nor modes nor the place of files reach an archive.
func TestArchivesAreEqual(t *testing.T) {
	at := time.Unix(1700000000, 0).UTC()
	var tars, zips []string
	for i := range 2 {
		dir := t.TempDir()
		name := filepath.Join(dir, "skiff")
		if err := os.WriteFile(name, bytes.Repeat([]byte("skiff\n"), 1000), os.FileMode(0o600+i)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
		files := []file{{from: name, to: "skiff", mode: 0o755}, {from: name, to: "man/skiff.1", mode: 0o644}}
		var tarred, zipped bytes.Buffer
		if err := writeTar(&tarred, files, at); err != nil {
			t.Fatal(err)
		}
		if err := writeZip(&zipped, files, at); err != nil {
			t.Fatal(err)
		}
		tars, zips = append(tars, tarred.String()), append(zips, zipped.String())
	}
	if tars[0] != tars[1] || zips[0] != zips[1] {
		t.Error("the archives of equal files differ")
	}
}

func TestChoose(t *testing.T) {
	all, err := choose("linux_s390x,windows_amd64")
	if err != nil || len(all) != 2 || all[0].arch != "s390x" {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := choose("plan9_amd64"); err == nil || !strings.Contains(err.Error(), "linux_riscv64") {
		t.Errorf("%v", err)
	}
}

func TestMistakes(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "old.tar.gz"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"-version 1.0":                            "want one such as v0.1.0",
		"-version v1.0.0 -only x":                 "choose of",
		"-version v1.0.0 -epoch 1 -out " + full:   "is not empty",
		"-version v1.0.0;rm -epoch 1 -out ./none": "want one such as",
	} {
		if err := run(t.Context(), strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// releases serves releases as GitHub does, in which skiff is a script: v1.0.0, which is the latest, and v1.0.1, whose archive is not the
// one that its checksums are of.
func releases(t *testing.T, system string) string {
	t.Helper()
	work := t.TempDir()
	script := filepath.Join(work, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho skiff v1.0.0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var files []file
	for _, name := range []string{"skiff", "man/skiff.1", "completions/skiff.bash", "completions/_skiff", "completions/skiff.fish"} {
		files = append(files, file{from: script, to: name, mode: 0o755})
	}
	root := filepath.Join(work, "root")
	for _, version := range []string{"1.0.0", "1.0.1"} {
		dir := filepath.Join(root, "download", "v"+version)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, fmt.Sprintf("skiff_%s_%s.tar.gz", version, system))
		if err := writeFile(name, func(w *os.File) error { return writeTar(w, files, time.Unix(0, 0)) }); err != nil {
			t.Fatal(err)
		}
		if err := writeChecksums(dir); err != nil {
			t.Fatal(err)
		}
		if version == "1.0.1" {
			if err := writeFile(name, func(w *os.File) error { return writeTar(w, files, time.Unix(1, 0)) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/download/", http.FileServer(http.Dir(root)))
	mux.HandleFunc("/latest/download/{file}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/download/v1.0.0/"+r.PathValue("file"), http.StatusFound)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// TestInstall runs install.sh by each POSIX shell at hand, from a server on this machine.
func TestInstall(t *testing.T) {
	system := runtime.GOOS + "_" + runtime.GOARCH
	if runtime.GOOS == "windows" {
		t.Skip("install.sh is not for Windows")
	}
	url := releases(t, system)
	tried := 0
	for _, shell := range [][]string{{"sh"}, {"dash"}, {"bash", "--posix"}, {"busybox", "sh"}} {
		if _, err := exec.LookPath(shell[0]); err != nil {
			continue
		}
		tried++
		install := func(home string, args ...string) (string, error) {
			cmd := exec.Command(shell[0], append(append(shell[1:len(shell):len(shell)], "../install.sh"), args...)...)
			cmd.Env = append(os.Environ(), "HOME="+home, "TMPDIR="+home, "SKIFF_RELEASES="+url, "no_proxy=127.0.0.1")
			out, err := cmd.CombinedOutput()
			if left, _ := filepath.Glob(filepath.Join(home, "tmp.*")); len(left) > 0 {
				t.Errorf("%s %q leaves %q", shell, args, left)
			}
			return string(out), err
		}
		home := t.TempDir()
		dir := filepath.Join(home, "bin")
		if out, err := install(home, "--dir", dir, "--dry-run"); err != nil || out != "would install skiff v1.0.0 to "+dir+"/skiff\n" {
			t.Errorf("%s: dry run: %v %s", shell, err, out)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: a dry run wrote to %s", shell, dir)
		}
		if out, err := install(home, "--version", "v1.0.1", "--dir", dir); err == nil || !strings.Contains(out, "nothing was installed") {
			t.Errorf("%s: a wrong archive: %v %s", shell, err, out)
		}
		if _, err := os.Stat(filepath.Join(dir, "skiff")); err == nil {
			t.Errorf("%s: the wrong archive was installed", shell)
		}
		if out, err := install(home, "--version", "9.9.9", "--dir", dir); err == nil || !strings.Contains(out, "cannot download") {
			t.Errorf("%s: a version that is not there: %v %s", shell, err, out)
		}
		if out, err := install(home, "--nix"); err == nil || !strings.Contains(out, "unknown argument") {
			t.Errorf("%s: an unknown argument: %v %s", shell, err, out)
		}
		for range 2 { // the second replaces the first
			out, err := install(home, "--version=1.0.0", "--dir="+dir)
			if err != nil || !strings.Contains(out, "installed skiff v1.0.0 to "+dir+"/skiff") || !strings.Contains(out, dir+" is not in PATH") {
				t.Errorf("%s: %v %s", shell, err, out)
			}
		}
		for _, name := range []string{
			"bin/skiff", "share/man/man1/skiff.1", "share/bash-completion/completions/skiff", "share/zsh/site-functions/_skiff",
			"share/fish/vendor_completions.d/skiff.fish",
		} {
			if _, err := os.Stat(filepath.Join(home, name)); err != nil {
				t.Errorf("%s: %v", shell, err)
			}
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("%s: in %s are %v, %v", shell, dir, left, err)
		}
		if os.Getuid() != 0 { // root's is /usr/local/bin, where a test has no business
			if out, err := install(home); err != nil || !strings.Contains(out, home+"/.local/bin/skiff") {
				t.Errorf("%s: as a user: %v %s", shell, err, out)
			}
		}
	}
	if tried == 0 {
		t.Error("no shell was found")
	}
}
