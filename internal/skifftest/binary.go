package skifftest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// built holds the directory of the binary, for Main to remove.
var built struct {
	once      sync.Once
	dir, file string
	err       error
}

// Main runs the tests of a package that uses [Binary], and cleans up after them: os.Exit(skifftest.Main(m)). Where the
// binary was built, each of after is called with its path before that goes; an error is a failure.
func Main(m *testing.M, after ...func(binary string) error) int {
	code := m.Run()
	if built.dir == "" {
		return code
	}
	defer os.RemoveAll(built.dir)
	for _, f := range after {
		if err := f(built.file); err != nil {
			fmt.Fprintln(os.Stderr, "after the tests:", err)
			code = max(code, 1)
		}
	}
	return code
}

// Binary builds cmd/skiff, static as it is released, once for the tests of a package, and returns its path. The
// package's TestMain calls [Main].
func Binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() { built.dir, built.file, built.err = buildBinary() })
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.file
}

func buildBinary() (dir, file string, err error) {
	if dir, err = os.MkdirTemp("", "skifftest"); err != nil {
		return "", "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // other users than the one who runs the test may start it
		return dir, "", err
	}
	file = filepath.Join(dir, "skiff")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", file, "github.com/skiff-build/skiff/cmd/skiff")
	_, here, _, _ := runtime.Caller(0)
	if root := filepath.Dir(filepath.Dir(filepath.Dir(here))); filepath.IsAbs(root) {
		cmd.Dir = root
	}
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, "", fmt.Errorf("build skiff: %w\n%s", err, out)
	}
	return dir, file, nil
}
