// Command release makes what a release of skiff consists of, and publishes nothing:
//
//	go run ./release -version v0.1.0 -out dist
//
// For each system there is an archive with the program, its man pages, completions and licence; for Linux a deb and an rpm, too, which nfpm
// makes; and checksums.txt has the SHA-256 of all of them, by which install.sh and action.yml know them. The same commit gives the same
// bytes on every machine: programs are built with -trimpath by the Go of go.mod, and everything carries the time that -epoch says.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// target is a system that skiff is released for.
type target struct {
	os, arch string // GOOS, GOARCH
	packages bool   // deb and rpm
}

// name is how archives and -only call it: linux_arm64.
func (t target) name() string { return t.os + "_" + t.arch }

// targets are all of them. Linux on 32 bits is none: the owner of a symlink is kept in a time after 2106 (internal/inode), which the system
// calls there that Go's packages have cannot hold.
var targets = []target{
	{"linux", "amd64", true}, {"linux", "arm64", true}, {"linux", "riscv64", true}, {"linux", "s390x", true}, {"linux", "ppc64le", true},
	{"darwin", "amd64", false}, {"darwin", "arm64", false}, {"windows", "amd64", false}, {"windows", "arm64", false},
}

// nfpm is the program that makes deb and rpm. Its version is fixed: another one might write other bytes.
const nfpm = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.4"

// release is one run.
type release struct {
	ctx     context.Context
	version string // "v0.1.0"
	out     string
	work    string // a folder of its own, which goes afterwards
	epoch   time.Time
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "release: %s\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	version := flags.String("version", "", "`VERSION` such as v0.1.0")
	out := flags.String("out", "dist", "`FOLDER` for the files, which is empty or not there")
	only := flags.String("only", "", "`SYSTEMS` with commas between them, such as linux_amd64 (all)")
	epoch := flags.Int64("epoch", -1, "`SECONDS` since 1970 that everything carries (SOURCE_DATE_EPOCH, else the time of the commit)")
	packages := flags.Bool("packages", true, "make deb and rpm")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if !versionForm.MatchString(*version) {
		return fmt.Errorf("-version %q: want one such as v0.1.0", *version)
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	r := &release{ctx: ctx, version: *version, out: *out}
	if r.epoch, err = r.time(*epoch); err != nil {
		return err
	}
	if left, err := os.ReadDir(r.out); err == nil && len(left) > 0 {
		return fmt.Errorf("%s is not empty: what is there would stand in checksums.txt, too", r.out)
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	if r.work, err = os.MkdirTemp("", "skiff-release-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.work)
	if err := r.documents(); err != nil {
		return err
	}
	for _, t := range chosen {
		if err := r.make(t, *packages); err != nil {
			return fmt.Errorf("%s: %w", t.name(), err)
		}
	}
	text, err := os.ReadFile("install.sh")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.out, "install.sh"), text, 0o755); err != nil {
		return err
	}
	return writeChecksums(r.out)
}

var versionForm = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$`)

func choose(only string) ([]target, error) {
	if only == "" {
		return targets, nil
	}
	var chosen []target
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(targets, func(t target) bool { return t.name() == name })
		if i < 0 {
			var all []string
			for _, t := range targets {
				all = append(all, t.name())
			}
			return nil, fmt.Errorf("-only %s: choose of %s", name, strings.Join(all, ", "))
		}
		chosen = append(chosen, targets[i])
	}
	return chosen, nil
}

// time is what files carry: what was given, else SOURCE_DATE_EPOCH, else the time of the commit that is checked out.
func (r *release) time(given int64) (time.Time, error) {
	if given >= 0 {
		return time.Unix(given, 0).UTC(), nil
	}
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		out, err := r.command(nil, "git", "log", "-1", "--format=%ct")
		if err != nil {
			return time.Time{}, fmt.Errorf("the time of the commit: %w; give it by -epoch", err)
		}
		text = strings.TrimSpace(out)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(n, 0).UTC(), nil
}

func (r *release) command(env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(r.ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(append([]string{name}, args[:min(2, len(args))]...), " "), err)
	}
	return string(out), nil
}

// build compiles skiff. The version stands in the program by the linker, since a checkout has none of its own.
func (r *release) build(t target, to string) error {
	env := []string{"CGO_ENABLED=0", "GOOS=" + t.os, "GOARCH=" + t.arch, "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0"}
	_, err := r.command(env, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid= -X main.released="+r.version, "-o", to, "./cmd/skiff")
	return err
}

// documents writes man pages and completions, by the skiff of this machine: they are the same on all systems.
func (r *release) documents() error {
	skiff := filepath.Join(r.work, "skiff")
	if runtime.GOOS == "windows" {
		skiff += ".exe"
	}
	if err := r.build(target{os: runtime.GOOS, arch: runtime.GOARCH}, skiff); err != nil {
		return err
	}
	if _, err := r.command(nil, skiff, "man", filepath.Join(r.work, "man")); err != nil {
		return err
	}
	dir := filepath.Join(r.work, "completions")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for shell, file := range map[string]string{"bash": "skiff.bash", "zsh": "_skiff", "fish": "skiff.fish", "powershell": "skiff.ps1"} {
		text, err := r.command(nil, skiff, "completion", shell)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// make makes what there is for one system.
func (r *release) make(t target, packages bool) error {
	program := filepath.Join(r.work, t.name(), "skiff")
	if t.os == "windows" {
		program += ".exe"
	}
	if err := r.build(t, program); err != nil {
		return err
	}
	files := []file{{from: program, to: filepath.Base(program), mode: 0o755}, {from: "LICENSE", to: "LICENSE", mode: 0o644}, {from: "README.md", to: "README.md", mode: 0o644}}
	for _, dir := range []string{"man", "completions"} {
		all, err := os.ReadDir(filepath.Join(r.work, dir))
		if err != nil {
			return err
		}
		for _, f := range all {
			files = append(files, file{from: filepath.Join(r.work, dir, f.Name()), to: dir + "/" + f.Name(), mode: 0o644})
		}
	}
	base := filepath.Join(r.out, "skiff_"+strings.TrimPrefix(r.version, "v")+"_"+t.name())
	var err error
	if t.os == "windows" {
		err = writeFile(base+".zip", func(w *os.File) error { return writeZip(w, files, r.epoch) })
	} else {
		err = writeFile(base+".tar.gz", func(w *os.File) error { return writeTar(w, files, r.epoch) })
	}
	if err != nil || !packages || !t.packages {
		return err
	}
	config := filepath.Join(r.work, t.name()+".yaml")
	if err := os.WriteFile(config, []byte(r.nfpmConfig(t, program, files)), 0o644); err != nil {
		return err
	}
	for _, kind := range []string{"deb", "rpm"} {
		env := []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.epoch.Unix()), "GOFLAGS="}
		if _, err := r.command(env, "go", "run", nfpm, "package", "-f", config, "-p", kind, "-t", base+"."+kind); err != nil {
			return err
		}
	}
	return nil
}

// nfpmConfig is what nfpm is told of a package.
func (r *release) nfpmConfig(t target, program string, files []file) string {
	var b strings.Builder
	fmt.Fprintf(&b, `name: skiff
arch: %s
platform: linux
version: %q
section: devel
priority: optional
maintainer: The skiff authors <skiff@skiff-build.invalid>
description: Builds container images for Go programs, without a daemon.
homepage: https://github.com/skiff-build/skiff
license: Apache-2.0
mtime: %s
recommends:
  - uidmap
overrides:
  rpm:
    recommends:
      - shadow-utils
rpm:
  buildhost: localhost
contents:
`, t.arch, r.version, r.epoch.Format(time.RFC3339))
	places := map[string]string{
		"skiff.bash": "/usr/share/bash-completion/completions/skiff", "_skiff": "/usr/share/zsh/vendor-completions/_skiff",
		"skiff.fish": "/usr/share/fish/vendor_completions.d/skiff.fish",
	}
	add := func(from, to string, mode int) {
		fmt.Fprintf(&b, "  - src: %q\n    dst: %s\n    file_info:\n      mode: 0%o\n      owner: root\n      group: root\n      mtime: %s\n",
			from, to, mode, r.epoch.Format(time.RFC3339))
	}
	add(program, "/usr/bin/skiff", 0o755)
	add("LICENSE", "/usr/share/doc/skiff/copyright", 0o644)
	for _, f := range files {
		name := filepath.Base(f.from)
		if strings.HasPrefix(f.to, "man/") {
			add(f.from, "/usr/share/man/man1/"+name, 0o644)
		} else if places[name] != "" {
			add(f.from, places[name], 0o644)
		}
	}
	return b.String()
}
