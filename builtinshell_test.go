package skiff_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// TestBuiltinShell builds stages in which the shells of the images differ (issue 13 A), and one that asks for more only while it runs.
func TestBuiltinShell(t *testing.T) {
	version := strings.TrimPrefix(skifftest.GoVersion(t), "go")
	c := newCLI(t)
	stage := func(variant, run string) string {
		return skifftest.Files(t, "Dockerfile", fmt.Sprintf("FROM golang:%s%s AS b\nWORKDIR /w\nRUN %s\nFROM scratch\nCOPY --from=b /w/out /\n", version, variant, run))
	}
	for _, tt := range []struct{ variant, run, want string }{
		{"-bookworm", `[ a == a ] 2>/dev/null && echo yes > out || echo "no\ttab" > out; echo -e x >> out; ls | while read f; do cd /; exit 0; done; pwd >> out`,
			"no\ttab\n-e x\n/w\n"},
		{"-alpine", `[ a == a ] && echo "yes\ttab" > out; echo -e 'x\ty' >> out; ls | while read f; do cd /; exit 0; done; pwd >> out`,
			"yes\\ttab\nx\ty\n/w\n"},
		{"-alpine", "tr -dc a-z </dev/urandom | head -c 4 | wc -c > out; umask 077; sed -i s/4/four/ out; stat -c %a out >> out", "four\n644\n"},
	} {
		dest := filepath.Join(t.TempDir(), "out")
		c.run("build", "--go-base=builtin", "-o", "type=local,dest="+dest, stage(tt.variant, tt.run))
		got, err := os.ReadFile(filepath.Join(dest, "out"))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != tt.want {
			t.Errorf("%s: %s\n gives %q, want %q", tt.variant, tt.run, got, tt.want)
		}
	}
	// What it asks for stands in a variable: the step is refused while it runs, whatever the script does with the exit code.
	out, code := c.try("build", "--go-base=builtin", stage("-alpine", `f='%q'; printf "$f" x || true; touch out`))
	if code == 0 || !strings.Contains(out, "Dockerfile:3") || !strings.Contains(out, "the conversion %q is not served") || !strings.Contains(out, "--go-base=image") {
		t.Errorf("a step that asks for more while it runs:\n%s", out)
	}
}
