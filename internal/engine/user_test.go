package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/skiff-build/skiff/internal/inode"
)

func TestFindUser(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"passwd": "root:x:0:0::/root:/bin/sh\nweb:x:33:44::/:\n",
		"group":  "web:x:44:\nextra:x:55:web,root\nmore:x:66:other,web\n",
	} {
		if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	full, done, err := inode.Dir(root)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	bare, doneBare, err := inode.Dir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer doneBare()
	for _, c := range []struct {
		name string
		tree inode.Tree
		want string
	}{
		{"", full, "0:0 [0 55]"},
		{"", bare, "0:0 [0]"},
		{"web", full, "33:44 [44 55 66]"},
		{"33", full, "33:44 [44 55 66]"},
		{"web:extra", full, "33:55 [55]"},
		{"web:7", full, "33:7 [7]"},
		{"5:6", bare, "5:6 [6]"},
		{"root:root", bare, "0:0 [0]"},
		{"7", bare, "7:0 [0]"},
		{"nobody", full, "user nobody: unable to find user nobody: no matching entries in passwd file"},
		{"web:none", full, "user web:none: unable to find group none: no matching entries in group file"},
		{"4294967296", full, "user 4294967296: uids and gids must be in range 0-2147483647"}, // CVE-2024-40635
		{"4294967295:0", full, "user 4294967295:0: uids and gids must be in range 0-2147483647"},
	} {
		u, err := findUser(c.tree, c.name)
		got := fmt.Sprintf("%d:%d %v", u.UID, u.GID, u.AdditionalGids)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q: got %s, want %s", c.name, got, c.want)
		}
	}
}
