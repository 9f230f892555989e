package doctor

import (
	"bytes"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"

	"github.com/skiff-build/skiff/internal/rootfiles"
)

// account is the user that an image's program runs as.
type account struct {
	uid, gid int // -1: a name that the root's files do not have
	groups   []int
	home     string // as passwd says; where it says nothing, the one that is to be made
	known    bool   // passwd has a line for it
	// unknown says which name keeps the image from starting: "user", "group", "" for neither. What is no number is looked up.
	unknown string
}

// superuser says that the kernel lets it read and write everywhere (CAP_DAC_OVERRIDE, which container runtimes give it).
func (a account) superuser() bool { return a.uid == 0 }

// accountOf reads the User of an image's config by the library by which runc and Docker do.
func accountOf(root Existing, who string) account {
	passwd, _ := root.ReadFile(rootfiles.PasswdPath) // a file that is not there has no lines
	group, _ := root.ReadFile(rootfiles.GroupPath)
	get := func(who string) (*user.ExecUser, error) {
		return user.GetExecUser(who, &user.ExecUser{Home: "/"}, bytes.NewReader(passwd), bytes.NewReader(group))
	}
	a := account{uid: -1, gid: -1}
	name, _, _ := strings.Cut(who, ":")
	u, err := get(who)
	if err != nil {
		a.unknown = "user"
		if alone, err := get(name); err == nil && name != "" { // then it is the group
			a.unknown, u = "group", alone
		}
	}
	if u != nil {
		a.uid, a.gid, a.groups = u.Uid, u.Gid, u.Sgids
	}
	if line := field(string(passwd), 2, strconv.Itoa(a.uid)); len(line) > 5 {
		a.known, a.home = true, line[5]
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
		if parts := strings.Split(strings.TrimSpace(line), ":"); len(parts) > i && parts[i] == value {
			return parts
		}
	}
	return nil
}

// may says that the kernel lets the user do with a file what is asked: 4 read it, 2 write to it, 1 execute it or enter the folder; sums
// of them (inode(7), "The file type and mode"). Access control lists are not looked at.
func (a account) may(f File, what int64) bool {
	switch {
	case a.superuser():
		return what&1 == 0 || f.Dir || f.Mode&0o111 != 0
	case f.UID == a.uid:
		return f.Mode>>6&what == what
	case f.GID == a.gid || slices.Contains(a.groups, f.GID):
		return f.Mode>>3&what == what
	}
	return f.Mode&what == what
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
