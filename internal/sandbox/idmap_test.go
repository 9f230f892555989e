//go:build linux

package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadSubIDs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subuid")
	write(t, path, `# a comment
ann:100000:65536
1001:200000:1000
bob:300000:65536
ann:400000:10
ann:x:10
ann:1:0
ann:4294967295:5
ann:5
`, 0o644)
	for _, tt := range []struct{ name, uid, want string }{
		{"ann", "1000", "[{100000 65536} {400000 10}]"},
		{"carl", "1001", "[{200000 1000}]"},
		{"", "1001", "[{200000 1000}]"},
		{"bob", "1001", "[{200000 1000} {300000 65536}]"},
		{"nobody", "65534", "[]"},
		{"", "7", "[]"},
	} {
		got, err := readSubIDs(path, tt.name, tt.uid)
		if err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("%s/%s: %v, %v; want %s", tt.name, tt.uid, got, err, tt.want)
		}
	}
}

func TestFindHelper(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	write(t, filepath.Join(dir, "newmap-of-a-test"), "", 0o755)
	if _, err := findHelper("newmap-of-a-test"); err == nil || !strings.Contains(err.Error(), "neither setuid root nor has file capabilities") {
		t.Errorf("a helper without its bit: %v", err)
	}
	if _, err := findHelper("no-such-helper"); err == nil || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("a helper that is not there: %v", err)
	}
	if err := os.Chmod(filepath.Join(dir, "newmap-of-a-test"), 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if _, err := findHelper("newmap-of-a-test"); err != nil && !strings.Contains(err.Error(), "nosuid") && !strings.Contains(err.Error(), "no_new_privs") {
		t.Errorf("a good helper: %v", err)
	}
}

func TestModeThatCannotBeHad(t *testing.T) {
	if _, err := Enter(t.Context(), Options{Mode: "nonsense"}); err == nil || !strings.Contains(err.Error(), "unknown mode") {
		t.Error(err)
	}
}

func TestProbeAgreesWithEnter(t *testing.T) {
	m, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	c := enter(t)
	if c.Mode() != m {
		t.Errorf("probe says %s, entered %s (%s)", m, c.Mode(), c.Note())
	}
	if m == ModeOneID && (c.Note() == "" || ProbeNote() == "") {
		t.Error("nothing says why it is the least mode")
	}
}
