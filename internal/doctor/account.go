package doctor

import (
	"bytes"
	"cmp"
	"errors"
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
	// broken says why its files, or its numbers, keep the image from starting, whatever they say of the user; "" where they do not.
	broken string
	// unread says that one of the files is too large to be read here: what it holds is not known.
	unread string
}

// superuser says that the kernel lets it read and write everywhere (CAP_DAC_OVERRIDE, which container runtimes give it).
func (a account) superuser() bool { return a.uid == 0 }

// accountOf reads the User of an image's config by the library by which runc and Docker do.
func accountOf(root Existing, who string) account {
	a := account{uid: -1, gid: -1}
	passwd, group := a.table(root, rootfiles.PasswdPath), a.table(root, rootfiles.GroupPath)
	get := func(who string, passwd, group []byte) (*user.ExecUser, error) {
		return user.GetExecUser(who, &user.ExecUser{Home: "/"}, bytes.NewReader(passwd), bytes.NewReader(group))
	}
	name, _, _ := strings.Cut(who, ":")
	u, err := get(who, passwd, group)
	switch alone, aloneErr := get(name, passwd, group); {
	case err == nil:
	case a.unread != "": // numbers need no file
		u, _ = get(who, nil, nil)
	case a.broken != "":
	case !errors.Is(err, user.ErrNoPasswdEntries) && !errors.Is(err, user.ErrNoGroupEntries):
		a.broken = err.Error()
	case aloneErr == nil && name != "":
		a.unknown, u = "group", alone
	default:
		a.unknown = "user"
	}
	if u != nil {
		a.uid, a.gid, a.groups = u.Uid, u.Gid, u.Sgids
	}
	if home, ok := homeOf(string(passwd), a.uid); ok {
		a.known, a.home = true, home
	}
	if a.home == "" {
		a.home = homeFor(name, a)
	}
	return a
}

// table is the text of one of the files. One that is not there has no lines; a folder in its place, which runtimes open and cannot read,
// keeps them from starting the image (moby/sys/user, GetExecUserPath).
func (a *account) table(root Existing, name string) []byte {
	text, err := root.ReadFile(name)
	if err == nil {
		return text
	}
	switch f, err := root.Stat(name, nil); {
	case err != nil:
	case f.Dir:
		a.broken = cmp.Or(a.broken, name+" is a folder")
	case f.Size > maxRead:
		a.unread = cmp.Or(a.unread, name)
	}
	return nil
}

// homeOf is the home of a user, where passwd has a line for it that Go's os/user takes (lookup_unix.go, matchUserIndexValue).
func homeOf(passwd string, uid int) (home string, ok bool) {
	for line := range strings.Lines(passwd) {
		parts := strings.Split(strings.TrimSpace(line), ":")
		if len(parts) < 7 || parts[2] != strconv.Itoa(uid) || parts[0] == "" || strings.ContainsRune("#+-", rune(parts[0][0])) {
			continue
		}
		if _, err := strconv.Atoi(parts[3]); err == nil {
			return parts[5], true
		}
	}
	return "", false
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
