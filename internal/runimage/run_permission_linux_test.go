package runimage

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/sandbox"
)

// TestMayExecute holds that with one id the image's own owners and modes say who may execute what: the kernel does not know them.
func TestMayExecute(t *testing.T) {
	root := t.TempDir()
	add := func(name string, kind, perm uint32, uid, gid int, link string) {
		t.Helper()
		file, info := filepath.Join(root, name), inode.Info{Mode: kind | perm, UID: uid, GID: gid, Link: link}
		var err error
		if kind == inode.TypeFile {
			if err = os.WriteFile(file, nil, 0o600); err == nil {
				err = inode.Set(file, info)
			}
		} else {
			err = inode.Create(file, info)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := inode.Set(root, inode.Info{Mode: inode.TypeDir | 0o755}); err != nil {
		t.Fatal(err)
	}
	add("bin", inode.TypeDir, 0o755, 0, 0, "")
	add("bin/all", inode.TypeFile, 0o755, 0, 0, "")
	add("bin/root", inode.TypeFile, 0o700, 0, 0, "")
	add("bin/mine", inode.TypeFile, 0o700, 1000, 0, "")
	add("bin/group", inode.TypeFile, 0o750, 0, 50, "")
	add("bin/notowner", inode.TypeFile, 0o655, 1000, 0, "")
	add("bin/plain", inode.TypeFile, 0o644, 0, 0, "")
	add("closed", inode.TypeDir, 0o700, 0, 0, "")
	add("closed/app", inode.TypeFile, 0o755, 0, 0, "")
	add("bin/link", inode.TypeLink, 0o777, 0, 0, "../closed/app")
	user := specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{50}}
	for _, c := range []struct {
		name string
		user specs.User
		ok   bool
	}{
		{"/bin/all", user, true}, {"all", user, true}, {"./all", user, true}, {"nosuch", user, true}, {"/nosuch", user, true},
		{"/bin/root", user, false}, {"root", user, false}, {"/bin/root", specs.User{}, true},
		{"/bin/mine", user, true}, {"/bin/mine", specs.User{UID: 1001}, false},
		{"/bin/group", user, true}, {"/bin/group", specs.User{UID: 1000, GID: 1000}, false},
		{"/bin/notowner", user, false}, {"/bin/plain", user, false},
		{"/closed/app", user, false}, {"/bin/link", user, false}, {"../closed/app", user, false}, {"/vol/app", user, true},
	} {
		p := &specs.Process{User: c.user, Cwd: "/bin", Env: []string{"PATH=/usr/bin:/bin"}}
		err := mayExecute(p, []string{c.name}, root, []runMount{{Target: "/vol"}})
		var exit *sandbox.ExitError
		switch {
		case c.ok && err != nil:
			t.Errorf("%s by %d: %v", c.name, c.user.UID, err)
		case !c.ok && (!errors.As(err, &exit) || exit.Code != 126):
			t.Errorf("%s by %d: %v, want exit code 126", c.name, c.user.UID, err)
		}
	}
	mounted := &specs.Process{User: user, Cwd: "/"}
	if err := mayExecute(mounted, []string{"/closed/app"}, root, []runMount{{Target: "/closed"}}); err != nil {
		t.Errorf("in a folder that is mounted: %v", err)
	}
}
