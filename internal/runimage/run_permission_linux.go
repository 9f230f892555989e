package runimage

import (
	"fmt"
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-build/skiff/internal/inode"
	"github.com/skiff-build/skiff/internal/sandbox"
)

// mayExecute looks whether the user of p may start the program args[0] by the owners and modes that the image has. It is for machines with
// one id: there the kernel knows no other user, and would start what Docker does not. What cannot be found here is for the sandbox to
// report, and so is a program in a folder that is mounted over the image's.
func mayExecute(p *specs.Process, args []string, root string, mounts []runMount) error {
	if p.User.UID == 0 || len(args) == 0 {
		return nil
	}
	tree, done, err := inode.Dir(root)
	if err != nil {
		return err
	}
	defer done()
	for _, name := range candidates(p, args[0]) {
		at, err := inode.Resolve(tree, name, true)
		if err != nil {
			continue
		}
		for _, m := range mounts {
			if below(at, m.Target) {
				return nil
			}
		}
		denied, err := firstDenied(tree, at, p.User)
		if err != nil {
			return err
		}
		if denied != "" {
			return &sandbox.ExitError{Code: 126, Message: fmt.Sprintf("exec %s: permission denied (user %d may not enter or execute /%s)",
				args[0], p.User.UID, denied)}
		}
		return nil
	}
	return nil
}

// candidates are the names in the image that a program called name may have: the first that exists counts.
func candidates(p *specs.Process, name string) []string {
	if strings.Contains(name, "/") {
		if !path.IsAbs(name) {
			name = p.Cwd + "/" + name
		}
		return []string{name}
	}
	var all []string
	for _, kv := range p.Env {
		if dirs, ok := strings.CutPrefix(kv, "PATH="); ok {
			all = nil // the last one counts
			for dir := range strings.SplitSeq(dirs, ":") {
				if !path.IsAbs(dir) {
					dir = p.Cwd + "/" + dir
				}
				all = append(all, dir+"/"+name)
			}
		}
	}
	return all
}

// below reports whether a clean name without a leading slash is dir, or lies in it.
func below(name, dir string) bool {
	dir = strings.Trim(path.Clean("/"+dir), "/")
	return dir == "" || name == dir || strings.HasPrefix(name, dir+"/")
}

// firstDenied is the first part of a resolved name that a user has no right to enter or to execute; "" where there is none.
func firstDenied(tree inode.Tree, at string, u specs.User) (string, error) {
	parts := strings.Split(strings.Trim(path.Clean("/"+at), "/"), "/")
	for i := range len(parts) + 1 {
		name := path.Clean(path.Join(parts[:i]...)) // "." is the root
		info, err := tree.Lstat(name)
		if err != nil {
			return "", err
		}
		if info.Perm()>>classOf(info, u)&1 == 0 {
			return name, nil
		}
	}
	return "", nil
}

// classOf is the place in a mode of the bits that count for a user: those of the owner, of the group, or of others.
func classOf(info inode.Info, u specs.User) int {
	if info.UID == int(u.UID) {
		return 6
	}
	for _, gid := range append([]uint32{u.GID}, u.AdditionalGids...) {
		if info.GID == int(gid) {
			return 3
		}
	}
	return 0
}
