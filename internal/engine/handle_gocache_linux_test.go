package engine

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/sandbox"
)

// TestCanConfine: a step is confined only where nothing that it would find, or that go would look for, is another than in the
// base, so that being confined changes nothing for it.
func TestCanConfine(t *testing.T) {
	type files map[string]string // name → content, or "→" and the target of a link
	base := files{"usr/local/go/bin/go": "go", "usr/local/go/src/x.go": ""}
	system := files{"bin/sh": "→" + sandbox.SelfPath, "bin/date": "→" + sandbox.SelfPath, "bin/git": "→" + sandbox.SelfPath, "usr/libexec/x": "", "root/x": ""}
	for _, c := range []struct {
		name   string
		above  files
		change func(*confineReq)
		want   string // part of why not; "": it is confined
	}{
		{"a context", files{"src/main.go": "", "src/usr/local/go/bin/go": "", "src/lnk": "→/root/.cache/go-build"}, nil, ""},
		{"a patched library", files{"usr/local/go/src/x.go": "evil"}, nil, "changed in /usr/local/go"},
		{"another toolchain", files{"usr/local/go": "→/src/go"}, nil, "toolchain"},
		{"a link on the way", files{"usr/local": "→/src/local"}, nil, "toolchain"},
		{"settings", files{"root/.config/go/env": "GOFLAGS=-toolexec=x"}, nil, "settings"},
		{"settings behind a link", files{"root/.config": "→/src/cfg", "src/cfg/go/env": ""}, nil, "settings"},
		{"settings nowhere yet", files{"root/.config": "→/src/cfg"}, nil, ""},
		{"another go in PATH", files{"go/bin/go": "x"}, nil, "/go/bin/go"},
		{"another date", files{"usr/local/bin/date": "x"}, nil, "/usr/local/bin/date"},
		{"a git", files{"usr/bin/git": "x"}, nil, "/usr/bin/git"},
		{"the base's git by another name", files{"usr/bin/git": "→../../bin/git"}, nil, ""},
		{"a C compiler", files{"usr/bin/gcc": "→/src/gcc"}, nil, "/usr/bin/gcc"},
		{"another shell", files{"bin/sh": "x"}, nil, "/bin/sh"},
		{"a mount behind a link", files{"src/lnk": "→/root/.config/go"}, func(r *confineReq) { r.Targets = []string{"/src/lnk"} }, "symbolic link"},
		{"a mount below a link", files{"src/lnk": "→/root"}, func(r *confineReq) { r.Targets = []string{"/src/lnk/.config/go"} }, "symbolic link"},
		{"a mount", nil, func(r *confineReq) { r.Targets = []string{"/src/sub"} }, ""},
		{"a mount over the toolchain", nil, func(r *confineReq) { r.Targets = []string{"/usr/local"} }, "mounted at"},
		{"a mount in the toolchain", nil, func(r *confineReq) { r.Targets = []string{"/usr/local/go/pkg"} }, "mounted at"},
		{"a mount in /proc", nil, func(r *confineReq) { r.Targets = []string{"/proc/self"} }, "mounted at"},
		{"a shell by another path", nil, func(r *confineReq) { r.Args[0] = "/src/sh" }, "/src/sh"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lay := func(layers ...files) inode.Tree {
				dir := t.TempDir()
				for _, l := range layers {
					for name, content := range l {
						p := filepath.Join(dir, name)
						if err := os.RemoveAll(p); err != nil {
							t.Fatal(err)
						}
						if err := os.MkdirAll(path.Dir(p), 0o755); err != nil {
							t.Fatal(err)
						}
						target, link := strings.CutPrefix(content, "→")
						err := error(nil)
						if link {
							err = os.Symlink(target, p)
						} else {
							err = os.WriteFile(p, []byte(content), 0o755)
						}
						if err != nil {
							t.Fatal(err)
						}
					}
				}
				tree, done, err := inode.Dir(dir)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { done() })
				return tree
			}
			checked := confiner{base: lay(base), above: lay(system, c.above), all: lay(base, system, c.above)}
			req := confineReq{Args: []string{"/bin/sh", "-c", "go build"}, Commands: []string{"go", "date"},
				Env: []string{"PATH=/go/bin:/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin"}}
			if c.change != nil {
				c.change(&req)
			}
			why := ""
			for _, check := range []func(confineReq) (string, error){checked.toolchain, checked.settings, checked.commands, checked.targets} {
				var err error
				if why, err = check(req); err != nil {
					t.Fatal(err)
				}
				if why != "" {
					break
				}
			}
			if (why == "") != (c.want == "") || !strings.Contains(why, c.want) {
				t.Errorf("why not: %q, want %q", why, c.want)
			}
		})
	}
}
