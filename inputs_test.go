package skiff_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// TestInputs belongs to the corpus of rewrites: after a change of a file that its steps do not read, the go command does not run; after one of any file that counts, or of
// one that was not there, it does; and whether or not, what ships is what a build with no results of earlier ones ships. The final stage
// takes files of the context out of the stage, too.
func TestInputs(t *testing.T) {
	if os.Getenv("SKIFF_CORPUS") == "" {
		t.Skip("SKIFF_CORPUS is not set: these are forty builds, which take minutes")
	}
	version := strings.TrimPrefix(skifftest.GoVersion(t), "go")
	c := newCLI(t)
	dir := skifftest.Files(t, "Dockerfile", "FROM golang:"+version+"-alpine AS b\nENV CGO_ENABLED=0\nWORKDIR /src/mono\nCOPY . .\n"+
		"RUN go vet ./a && go build -o /out/lib.a ./a\nFROM scratch\nCOPY --from=b /out /src/mono/README.md /\nCOPY --from=b /src/mono /all\n",
		"go.work", "go 1.21\n\nuse (\n\t./a\n\t./lib\n\t./other\n)\n",
		"a/go.mod", "module example.com/a\n\ngo 1.21\n", "other/go.mod", "module example.com/other\n\ngo 1.21\n", "lib/go.mod", "module example.com/lib\n\ngo 1.21\n",
		"a/a.go", "package a\n\nimport (\n\t_ \"embed\"\n\n\t\"example.com/lib\"\n)\n\n//go:embed text/*.txt\nvar text string\n\nvar N = lib.N + text\n",
		"a/text/one.txt", "one", "a/text/one.md", "not embedded", "a/a_test.go", "package a\n", "a/README.md", "beside the package",
		"lib/lib.go", "package lib\n\nconst N = \"lib\"\n", "other/other.go", "package other\n\nconst N = \"other\"\n", "README.md", "read me")
	write := func(name, text string) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	id := func(flags ...string) (digest, out string) {
		t.Helper()
		out = c.run(append([]string{"build", "--progress=plain"}, append(flags, dir)...)...)
		_, digest, _ = strings.Cut(out, "writing image ")
		digest, _, _ = strings.Cut(digest, " ")
		if digest == "" {
			t.Fatalf("no image:\n%s", out)
		}
		return digest, out
	}
	id()
	for _, k := range []struct {
		name, text string
		found      bool
	}{
		{"README.md", "edited", true},
		{"a/README.md", "edited", true},
		{"a/text/one.md", "edited", true},
		{"other/other.go", "package other\n\nvar X int\n", true},
		{"other/new.go", "package other\n", true},
		{"new/folder.txt", "", true},
		{"lib/lib.go", "package lib\n\nconst N = \"edited\"\n", false}, // the same files are named: it is not traced
		{"README.md", "again", true},
		{"lib/lib.go", "package lib\n\nconst N = \"twice\"\n", false},
		{"a/text/one.txt", "1", false},
		{"other/other.go", "package other\n", true},
		{"lib/lib.go", "package lib\n\nimport \"example.com/other\"\n\nconst N = \"imports\" + other.N\n", false},
		{"other/other.go", "package other\n\nconst N = \"now read\"\n", false},
		{"lib/more.go", "package lib\n", false},
		{"lib/lib_arm.s", "", false},
		{"a/go.mod", "module example.com/a\n\ngo 1.21\n\n// edited\n", false},
		{"a/vendor/modules.txt", "", false},
		{"README.md", "last", true},
		{"go.work", "go 1.21\n\nuse (\n\t./a\n\t./lib\n\t./other\n) // edited\n", false},
	} {
		if k.name == "other/other.go" && k.found {
			k.text += "\nconst N = \"other\"\n"
		}
		write(k.name, k.text)
		got, out := id()
		if found := strings.Contains(out, "inputs: "); found != k.found {
			t.Errorf("%s %q: found by what it reads: %v, want %v\n%s", k.name, k.text, found, k.found, out)
		}
		if want, plain := id("--faithful=inputs", "--no-cache"); got != want {
			t.Fatalf("%s %q: image %s, and without what was there %s\n%s\n%s", k.name, k.text, got, want, out, plain)
		}
	}
}
