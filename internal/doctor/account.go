package doctor

import (
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/skiff-build/skiff/internal/rootfiles"
)

// account is the user that an image's program runs as.
type account struct {
	uid, gid int    // -1: a name that the root's passwd does not have
	home     string // as passwd says; where it says nothing, the one that is to be made
	known    bool   // passwd has a line for it
}

// superuser says that the kernel lets it write everywhere.
func (a account) superuser() bool { return a.uid == 0 }

// accountOf reads the User of an image's config as runc does: name or number, with or without a group.
func accountOf(root Existing, user string) account {
	name, group, _ := strings.Cut(user, ":")
	if name == "" || name == "root" {
		name = "0"
	}
	passwd, _ := root.ReadFile(rootfiles.PasswdPath)
	groups, _ := root.ReadFile(rootfiles.GroupPath)
	a := account{uid: -1, gid: -1}
	line := field(string(passwd), 0, name)
	if uid, err := strconv.Atoi(name); err == nil {
		a.uid, a.gid = uid, 0 // the group of an unknown number is the superuser's
		line = field(string(passwd), 2, name)
	}
	if len(line) > 5 {
		a.known, a.home = true, line[5]
		a.uid, a.gid = number(line[2], a.uid), number(line[3], a.gid)
	}
	if g, err := strconv.Atoi(group); err == nil {
		a.gid = g
	} else if line := field(string(groups), 0, group); group != "" && len(line) > 2 {
		a.gid = number(line[2], a.gid)
	}
	if a.home == "" {
		a.home = homeFor(name, a)
	}
	return a
}

// homeFor is the home to make for a user who has none.
func homeFor(name string, a account) string {
	if line := field(rootfiles.Passwd, 2, strconv.Itoa(a.uid)); line != nil && a.uid != 65534 {
		return line[5]
	}
	if !fs.ValidPath(name) || strings.Contains(name, "/") {
		name = "user"
	}
	return "/home/" + name
}

func number(text string, or int) int {
	if n, err := strconv.Atoi(text); err == nil {
		return n
	}
	return or
}

// field returns the parts of the first line of a passwd or group file whose part i is value; nil where none is.
func field(text string, i int, value string) []string {
	for line := range strings.Lines(text) {
		if parts := strings.Split(strings.TrimSuffix(line, "\n"), ":"); len(parts) > i && parts[i] == value {
			return parts
		}
	}
	return nil
}

// writable says that the user may make files in a folder.
func writable(root Existing, dir string, a account) bool {
	f, err := root.Stat(dir)
	switch {
	case err != nil || !f.Dir:
		return false
	case a.superuser():
		return true
	case f.UID == a.uid:
		return f.Mode&0o300 == 0o300
	case f.GID == a.gid:
		return f.Mode&0o030 == 0o030
	}
	return f.Mode&0o003 == 0o003
}

// needsHome says that a program which asks for its home would get none that it can write to. Where the config sets no
// HOME, container runtimes set the one of passwd, else "/" (opencontainers/runc libcontainer/init_linux.go).
func needsHome(root Existing, env []string, a account) bool {
	home := lookup(env, "HOME")
	if home == "" {
		home = "/"
		if a.known {
			home = path.Clean("/" + a.home)
		}
	}
	if a.superuser() {
		return false // makes what is missing
	}
	return !writable(root, home, a)
}

// lookup is the value of a variable of a config, "" where it is not set.
func lookup(env []string, name string) string {
	value := ""
	for _, e := range env {
		if n, v, _ := strings.Cut(e, "="); n == name {
			value = v
		}
	}
	return value
}
