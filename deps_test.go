package skiff_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/skiff-build/skiff"

// rows are the packages from top to bottom, without the module's path ("" is the library itself). A package may import
// those of lower rows; docs/architecture.md says what each is for. A room that is not built yet has its place already.
var rows = [][]string{
	{"cmd/skiff", "bench", "release"},
	{""},
	{"internal/secrets", "internal/runimage"},
	{"internal/dockerfile", "internal/progress", "internal/gobuild", "internal/goaware", "internal/engine", "internal/remote",
		"internal/doctor", "internal/size", "internal/image", "internal/scaffold"},
	{"internal/gobase", "internal/localdir", "internal/snapshot", "internal/sandbox", "internal/fileop", "internal/source", "internal/gobin"},
	{"internal/layer", "internal/graph", "internal/gocache", "internal/rootfs", "internal/usernet", "internal/gotoolchain", "internal/busybox"},
	{"internal/whiteout"},
	{"internal/store", "internal/inode", "internal/rootfiles", "internal/bounds", "internal/atomicfile", "internal/printable", "internal/shell", "internal/gnumake", "internal/envlist"},
}

// forTests are packages that only tests import.
var forTests = []string{"internal/skifftest", "internal/inode/inodetest", "internal/gotoolchain/gotoolchaintest", "internal/doctor/probes", "internal/torture"}

// withoutBuildKit see nothing of BuildKit, not even through others: they work on what came out of a build, wherever it
// was built, or below what builds.
var withoutBuildKit = []string{
	"internal/doctor", "internal/size", "internal/gobuild", "internal/image", "internal/layer", "internal/gobin", "internal/store",
	"internal/inode", "internal/snapshot", "internal/whiteout", "internal/rootfiles", "internal/bounds", "internal/atomicfile", "internal/printable",
	"internal/rootfs", "internal/gocache", "internal/usernet", "internal/skifftest", "internal/shell", "internal/gnumake", "internal/gotoolchain", "internal/busybox", "internal/scaffold", "internal/envlist",
}

// listed is a package as `go list` prints it.
type listed struct {
	ImportPath string
	Imports    []string // direct
	Deps       []string // all
	Standard   bool
	Error      *struct{ Err string }
}

func list(t *testing.T, goos string) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports,Deps,Standard,Error", "./...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all []listed
	for dec := json.NewDecoder(out); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Error != nil {
			t.Errorf("%s: %s", p.ImportPath, p.Error.Err)
		}
		all = append(all, p)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("go list: %v", err)
	}
	return all
}

// own is the path within the module of a package that is ours.
func own(importPath string) (name string, ok bool) {
	if importPath == module {
		return "", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

func row(name string) int {
	return slices.IndexFunc(rows, func(row []string) bool { return slices.Contains(row, name) })
}

func TestImportsRunDownwards(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		packages := list(t, goos)
		ours := 0
		for _, p := range packages {
			name, ok := own(p.ImportPath)
			if !ok || slices.Contains(forTests, name) {
				continue
			}
			ours++
			if row(name) < 0 {
				t.Errorf("%s: package %q has no place in the rows of this test", goos, name)
				continue
			}
			for _, i := range p.Imports {
				if below, ok := own(i); ok && row(below) <= row(name) {
					t.Errorf("%s: %q imports %q, which is not below it", goos, name, below)
				}
			}
		}
		if ours < 10 {
			t.Errorf("%s: %d packages of the module seen: the test looks at nothing", goos, ours)
		}
	}
}

func TestHeavyDependenciesEnterByOneDoor(t *testing.T) {
	const frontend = "github.com/moby/buildkit/frontend/dockerfile/"
	seen := false
	for _, p := range list(t, "linux") {
		name, ok := own(p.ImportPath)
		if !ok {
			continue
		}
		for _, i := range p.Imports {
			ours, isOurs := own(i)
			switch {
			case strings.HasPrefix(i, frontend) && name != "internal/dockerfile":
				t.Errorf("%q imports %s: only internal/dockerfile speaks to the frontend", name, i)
			case name == "cmd/skiff" && isOurs && ours != "":
				t.Errorf("cmd/skiff imports %s: what the library does not offer is missing from the library", i)
			}
			seen = seen || strings.HasPrefix(i, frontend)
		}
		if !slices.Contains(withoutBuildKit, name) {
			continue
		}
		for _, d := range p.Deps {
			if strings.HasPrefix(d, "github.com/moby/buildkit") || strings.HasPrefix(d, "github.com/tonistiigi/fsutil") {
				t.Errorf("%q sees %s", name, d)
			}
		}
	}
	if !seen {
		t.Error("nothing imports the frontend: the test looks for the wrong path")
	}
}
