package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-build/skiff"
	"github.com/skiff-build/skiff/internal/skifftest"
)

// TestUsageErrors: a mistake in the command line ends with 125, whatever reads the flag, and is said in one line.
func TestUsageErrors(t *testing.T) {
	dir := skifftest.Files(t, "df/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n", "go/go.mod", "module x\n", "go/main.go", "package main\n\nfunc main() {}\n")
	df, pkg := filepath.Join(dir, "df"), filepath.Join(dir, "go")
	state := t.TempDir()
	for _, line := range [][]string{
		{"nosuch"},
		{"build"},
		{"build", df, df},
		{"build", "--nosuch", df},
		{"build", "-t", "App:1", df},
		{"build", "-t", "app:tag:two", df},
		{"build", "-t", "app@sha256:" + strings.Repeat("0", 64), df},
		{"build", "-t", "App:1", pkg},
		{"build", "--platform", "linux/amd64/v1/x", df},
		{"build", "--platform", "linux/amd64/v1/x", pkg},
		{"build", "--network", "some", df},
		{"build", "--add-host", "x", df},
		{"build", "--add-host", "x:y", df},
		{"build", "--ulimit", "nofile", df},
		{"build", "--shm-size", "much", df},
		{"build", "--allow", "device", df},
		{"build", "--annotation", "bogus:x=y", df},
		{"build", "--annotation", "x", df},
		{"build", "--annotation", "bogus:x=y", pkg},
		{"build", "--label", "=x", df},
		{"build", "--build-arg", "=x", df},
		{"build", "--build-context", "x", df},
		{"build", "--secret", "src=x", df},
		{"build", "--no-cache", "--no-cache-filter", "x", df},
		{"build", "--pull=sometimes", df},
		{"build", "--progress", "fancy", df},
		{"build", "--go-base", "best", df},
		{"build", "--faithful=fast", df},
		{"build", "--timestamps", "now", df},
		{"build", "--strict=bad", df},
		{"build", "--ignore", "nosuch", df},
		{"build", "--call", "lint,format=xml", df},
		{"build", "--call", "outline", df},
		{"build", "--compression", "lz4", df},
		{"build", "--compression", "gzip:77", df},
		{"build", "-o", "type=zip,dest=x", df},
		{"build", "--keep-storage", "much", df},
		{"build", "--memory", "lots", df},
		{"build", "--entrypoint", "x", df},
		{"build", "--target", "x", pkg},
		{"build", "--expose", "http", pkg},
		{"build", "--image-env", "=x", pkg},
		{"build", "--add", "x", pkg},
		{"build", "--user", "a b", pkg},
		{"build", "--workdir", "rel", pkg},
		{"build", "--optimize", "speed", pkg},
		{"build", "-t", "x/", "-t", "y", pkg},
		{"check"},
		{"check", "--format", "xml", "x"},
		{"check", "--fail-on", "x", "x"},
		{"check", "--platform", "a/b/c/d", "x"},
		{"pull", "App:1"},
		{"pull", "--platform", "a/b/c/d", "x"},
		{"push", "App:1"},
		{"run"},
		{"run", "--network", "some", "x"},
		{"run", "-e", "=x", "x"},
		{"run", "-v", "x", "x"},
		{"run", "--pull=sometimes", "x"},
		{"prune", "--keep-storage", "much"},
		{"save", "--format", "zip", "x"},
		{"login", "-p", "x", "--password-stdin", "r"},
	} {
		cmd := exec.Command(skifftest.Binary(t), line...)
		cmd.Env = os.Environ()
		for k, v := range testEnv(state) {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		err := cmd.Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != exitUsage {
			t.Errorf("skiff %s: %v, want exit code %d\n%s", strings.Join(line, " "), err, exitUsage, said.String())
		}
		first, _, _ := strings.Cut(said.String(), "\n")
		if !strings.HasPrefix(first, "skiff: ") || out.Len() > 0 {
			t.Errorf("skiff %s: standard output %q, errors %q", strings.Join(line, " "), out.String(), said.String())
		}
	}
}

// TestRegistryErrorLines: what the network said is one line, what to do the next.
func TestRegistryErrorLines(t *testing.T) {
	err := error(&skiff.RegistryError{Step: "resolve", Name: "registry.example/x:1", Hint: "try again", Err: errors.New("Get \"https://…\":\n\tEOF")})
	err = errors.Join(errors.New("registry.example/x:1: failed to resolve source metadata for registry.example/x:1"), err)
	var out bytes.Buffer
	if code := report(&out, withHint(err, "see the list")); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	want := "skiff: resolve registry.example/x:1: Get \"https://…\": EOF\n  try again\n  see the list\n"
	if out.String() != want {
		t.Errorf("%q\nwant %q", out.String(), want)
	}
}
