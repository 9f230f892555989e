package skiff

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityPage: each test that docs/security.md names is there, in the package that it names, and each published escape has one.
func TestSecurityPage(t *testing.T) {
	page, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	packages := testsOf(t)
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*|[\\w-]+\\.txtar)`(?: of `([\\w/]+)`)?")
	found := 0
	for i, line := range strings.Split(string(page), "\n") {
		tests := named.FindAllStringSubmatch(line, -1)
		for _, m := range tests {
			found++
			if len(packages[m[1]]) == 0 {
				t.Errorf("docs/security.md:%d: there is no %s", i+1, m[1])
			} else if m[2] != "" && !packages[m[1]][m[2]] {
				t.Errorf("docs/security.md:%d: %s has no %s", i+1, m[2], m[1])
			}
		}
		if cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | "); strings.HasPrefix(cell, "CVE-") || strings.HasPrefix(cell, "GHSA-") {
			if len(tests) == 0 {
				t.Errorf("docs/security.md:%d: no test stands for %s", i+1, cell)
			}
		}
	}
	if found < 50 {
		t.Errorf("docs/security.md names %d tests: is it another page by now?", found)
	}
}

// testsOf finds the folders that have a test, or a script, of a name.
func testsOf(t *testing.T) map[string]map[string]bool {
	t.Helper()
	found := map[string]map[string]bool{}
	add := func(name, dir string) {
		if found[name] == nil {
			found[name] = map[string]bool{}
		}
		found[name][filepath.ToSlash(dir)] = true
	}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w*)\(\w+ \*testing\.[TF]\)`)
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case strings.HasSuffix(name, ".txtar"):
			add(d.Name(), filepath.Dir(name))
		case strings.HasSuffix(name, "_test.go"):
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			for _, m := range declared.FindAllSubmatch(text, -1) {
				add(string(m[1]), filepath.Dir(name))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
