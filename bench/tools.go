package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// toolNames are the tools in the order of the table's columns. "stat" is `find`, which asks for the attributes of each file.
var toolNames = []string{"skiff", "go", "buildkit", "buildah", "ko", "stat"}

// programs are what a tool needs in PATH; buildkit's are looked for by themselves.
var programs = map[string]string{"go": "go", "buildah": "buildah", "ko": "ko", "stat": "find"}

// golangBase is the line of a Dockerfile that names the image to build Go in.
var golangBase = regexp.MustCompile(`(?m)^FROM (golang:\S*)`)

// place is where one tool has one project.
type place struct {
	src, state string
}

// command is how a tool does the work of a row.
type command func(b *bench, p place) *exec.Cmd

func (b *bench) command(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = os.Environ()
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// skiffDockerfile builds the folder's Dockerfile.
func skiffDockerfile(args ...string) command {
	return func(b *bench, p place) *exec.Cmd {
		return b.skiffIn(p, append(append([]string{"build", "--progress=plain", "-t", "bench:skiff"}, args...), p.src)...)
	}
}

// skiffPackages builds packages without a Dockerfile, an image for each.
func skiffPackages(pattern string) command {
	return func(b *bench, p place) *exec.Cmd {
		return b.skiffIn(p, "build", "--progress=plain", "-t", "bench/", pattern)
	}
}

// skiffIn gives skiff a state and Go caches of its own.
func (b *bench) skiffIn(p place, args ...string) *exec.Cmd {
	cmd := b.command(p.src, b.skiff, args...)
	cmd.Env = append(cmd.Env, "SKIFF_ROOT="+filepath.Join(p.state, "skiff"))
	cmd.Env = append(cmd.Env, goCaches(p)...)
	return cmd
}

// goCaches are Go's caches of one place, and a temporary folder that is not another place's.
func goCaches(p place) []string {
	return []string{"GOCACHE=" + filepath.Join(p.state, "gocache"), "GOMODCACHE=" + filepath.Join(p.state, "gomod"),
		"GOFLAGS=-modcacherw -buildvcs=false", "CGO_ENABLED=0"}
}

// plainGo is `go build` of the packages with the flags of the project's Dockerfile.
func plainGo(flags ...string) command {
	return func(b *bench, p place) *exec.Cmd {
		cmd := b.command(p.src, "go", append([]string{"build"}, flags...)...)
		cmd.Env = append(cmd.Env, goCaches(p)...)
		cmd.Env = append(cmd.Env, "BIN="+filepath.Join(p.state, "bin"))
		return cmd
	}
}

// buildkitDockerfile builds with buildctl; with output it writes an OCI archive, else nothing leaves the daemon.
func buildkitDockerfile(output bool, args ...string) command {
	return func(b *bench, p place) *exec.Cmd {
		all := []string{"--addr", b.buildkitHost, "build", "--frontend", "dockerfile.v0", "--local", "context=" + p.src,
			"--local", "dockerfile=" + p.state}
		if output {
			all = append(all, "--output", "type=oci,dest="+filepath.Join(p.state, "out.tar"))
		}
		return b.command(p.src, "buildctl", append(all, args...)...)
	}
}

func (b *bench) buildah(p place, args ...string) *exec.Cmd {
	return b.command(p.src, "buildah", append([]string{"--root", filepath.Join(p.state, "buildah"), "--runroot", filepath.Join(p.state, "buildah-run")}, args...)...)
}

func buildahDockerfile(args ...string) command {
	return func(b *bench, p place) *exec.Cmd {
		all := append([]string{"bud", "--layers", "--isolation", "chroot", "--tls-verify=false", "-f", filepath.Join(p.state, "Dockerfile"),
			"-t", "bench:buildah"}, args...)
		return b.buildah(p, append(all, p.src)...)
	}
}

// koPackages builds packages and pushes nothing; the image goes into a layout in a folder. It takes no patterns: of FOLDER/... it is
// given the folders.
func koPackages(pattern string) command {
	return func(b *bench, p place) *exec.Cmd {
		packages := []string{pattern}
		if folder, ok := strings.CutSuffix(pattern, "/..."); ok {
			packages, _ = filepath.Glob(filepath.Join(p.src, folder, "*")) // a pattern of ours: it is not malformed
			for i, dir := range packages {
				packages[i] = "./" + filepath.Join(folder, filepath.Base(dir))
			}
		}
		cmd := b.command(p.src, "ko", append([]string{"build", "--push=false", "--sbom=none", "--oci-layout-path", filepath.Join(p.state, "oci")}, packages...)...)
		cmd.Env = append(cmd.Env, goCaches(p)...)
		cmd.Env = append(cmd.Env, "KO_DOCKER_REPO=bench.invalid/bench", "KOCACHE="+filepath.Join(p.state, "kocache"))
		if b.static != "" {
			cmd.Env = append(cmd.Env, "KO_DEFAULTBASEIMAGE="+b.static)
		}
		return cmd
	}
}

func statAll(b *bench, p place) *exec.Cmd { return b.command(p.src, "find", p.src, "-printf", "%s") }

// prepare makes a place for a tool, with the project in it and, beside it, the Dockerfile that names the others' base.
func (b *bench) prepare(pr *project, tool string) (place, error) {
	dir := filepath.Join(b.work, pr.name, tool)
	p := place{src: filepath.Join(dir, "src"), state: filepath.Join(dir, "state")}
	if _, err := os.Stat(p.src); err == nil {
		return p, nil
	}
	if err := os.MkdirAll(p.state, 0o755); err != nil {
		return p, err
	}
	if err := pr.make(p.src); err != nil {
		return p, fmt.Errorf("project %s: %w", pr.name, err)
	}
	text, err := os.ReadFile(filepath.Join(p.src, "Dockerfile"))
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	text = golangBase.ReplaceAll(text, []byte("FROM "+b.golang))
	return p, os.WriteFile(filepath.Join(p.state, "Dockerfile"), text, 0o644)
}

// empty leaves a tool nothing but its base image.
func (b *bench) empty(tool string, p place) error {
	base := p
	base.src = filepath.Join(p.state, "base")
	from := b.golang
	if tool == "skiff" {
		text, err := os.ReadFile(filepath.Join(p.src, "Dockerfile"))
		if err != nil {
			return err
		}
		if m := golangBase.FindSubmatch(text); m != nil {
			from = string(m[1])
		}
	}
	if err := os.MkdirAll(base.src, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(base.src, "Dockerfile"), []byte("FROM "+from+" AS build\nRUN go version >/v\nFROM scratch\nCOPY --from=build /v /\n"), 0o644); err != nil {
		return err
	}
	for _, dir := range []string{"gocache", "gomod", "skiff"} {
		if err := removeAll(filepath.Join(p.state, dir)); err != nil {
			return err
		}
	}
	switch tool {
	case "skiff":
		return quiet(skiffDockerfile()(b, base))
	case "buildkit":
		if err := quiet(b.command(p.src, "buildctl", "--addr", b.buildkitHost, "prune", "--all")); err != nil {
			return err
		}
		cmd := buildkitDockerfile(false)(b, base)
		for i, a := range cmd.Args {
			if strings.HasPrefix(a, "dockerfile=") {
				cmd.Args[i] = "dockerfile=" + base.src
			}
		}
		return quiet(cmd)
	case "buildah":
		if err := quiet(b.buildah(p, "rmi", "--all", "--force")); err != nil {
			return err
		}
		return quiet(b.buildah(p, "pull", "--tls-verify=false", b.golang))
	}
	return nil
}

// buildkit returns the address of a daemon: the user's, or one that is started here and stopped with stop.
func (b *bench) buildkit() (address string, stop func(), err error) {
	stop = func() {}
	if _, err := exec.LookPath("buildctl"); err != nil {
		return "", stop, errors.New("buildctl is not installed")
	}
	if host := os.Getenv("BUILDKIT_HOST"); host != "" {
		return host, stop, nil
	}
	if _, err := exec.LookPath("buildkitd"); err != nil {
		return "", stop, errors.New("BUILDKIT_HOST is not set, and buildkitd is not installed")
	}
	dir := filepath.Join(b.work, "buildkitd")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", stop, err
	}
	config := ""
	if host, _, ok := strings.Cut(b.golang, "/"); ok && strings.HasPrefix(host, "127.") {
		config = fmt.Sprintf("[registry.%q]\n  http = true\n", host)
	}
	if err := os.WriteFile(filepath.Join(dir, "buildkitd.toml"), []byte(config), 0o600); err != nil {
		return "", stop, err
	}
	address = "unix://" + filepath.Join(dir, "sock")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return "", stop, err
	}
	cmd := exec.Command("buildkitd", "--config", filepath.Join(dir, "buildkitd.toml"), "--root", filepath.Join(dir, "root"), "--addr", address)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return "", stop, err
	}
	stop = func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		log.Close()
	}
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	for exec.CommandContext(ctx, "buildctl", "--addr", address, "debug", "workers").Run() != nil {
		if ctx.Err() != nil {
			said, _ := os.ReadFile(log.Name())
			stop()
			return "", func() {}, fmt.Errorf("buildkitd does not answer:\n%s", tail(string(said), 10))
		}
		time.Sleep(100 * time.Millisecond)
	}
	return address, stop, nil
}
