package busybox

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// change gives the new permission bits of a file.
type change func(old fs.FileMode, dir bool) fs.FileMode

// special are the bits above 0777 as chmod writes them.
var special = []struct {
	octal uint64
	mode  fs.FileMode
}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}}

// parseMode reads chmod's MODE: octal digits, or [ugoa]*[-+=][rwxXst]* separated by commas.
func parseMode(text string) (change, error) {
	if n, err := strconv.ParseUint(text, 8, 12); err == nil {
		mode := fs.FileMode(n & 0o777)
		for _, s := range special {
			if n&s.octal != 0 {
				mode |= s.mode
			}
		}
		return func(fs.FileMode, bool) fs.FileMode { return mode }, nil
	}
	var steps []change
	for _, clause := range strings.Split(text, ",") {
		clauseSteps, err := parseClause(clause)
		if err != nil {
			return nil, fmt.Errorf("invalid mode '%s'", text)
		}
		steps = append(steps, clauseSteps...)
	}
	return func(mode fs.FileMode, dir bool) fs.FileMode {
		for _, step := range steps {
			mode = step(mode, dir)
		}
		return mode
	}, nil
}

// parseClause reads one clause, such as "u+rwx" or "go=".
func parseClause(text string) ([]change, error) {
	at := strings.IndexAny(text, "+-=")
	if at < 0 {
		return nil, fmt.Errorf("no operator")
	}
	who := text[:at]
	if strings.Trim(who, "ugoa") != "" {
		return nil, fmt.Errorf("unknown class")
	}
	masked := who == "" // without a class the umask counts
	if who == "" || strings.Contains(who, "a") {
		who = "ugo"
	}
	var steps []change
	for rest := text[at:]; rest != ""; {
		op := rest[0]
		end := strings.IndexAny(rest[1:], "+-=")
		if end < 0 {
			end = len(rest) - 1
		}
		letters := rest[1 : 1+end]
		rest = rest[1+end:]
		if strings.Trim(letters, "rwxXst") != "" {
			return nil, fmt.Errorf("unknown letter")
		}
		steps = append(steps, func(old fs.FileMode, dir bool) fs.FileMode {
			return applyClause(old, dir, who, op, letters, masked)
		})
	}
	return steps, nil
}

func applyClause(old fs.FileMode, dir bool, who string, op byte, letters string, masked bool) fs.FileMode {
	var bits, class fs.FileMode
	for _, l := range letters {
		switch {
		case l == 'r':
			bits |= 0o444
		case l == 'w':
			bits |= 0o222
		case l == 'x', l == 'X' && (dir || old&0o111 != 0):
			bits |= 0o111
		}
	}
	for _, w := range who {
		switch w {
		case 'u':
			class |= 0o700
		case 'g':
			class |= 0o070
		case 'o':
			class |= 0o007
		}
	}
	set := bits & class
	if masked && op != '-' {
		set &^= fs.FileMode(currentUmask())
	}
	if strings.Contains(letters, "s") && strings.Contains(who, "u") {
		set |= fs.ModeSetuid
	}
	if strings.Contains(letters, "s") && strings.Contains(who, "g") {
		set |= fs.ModeSetgid
	}
	if strings.Contains(letters, "t") {
		set |= fs.ModeSticky
	}
	switch op {
	case '+':
		return old | set
	case '-':
		return old &^ set
	}
	return old&^class | set
}

// chmod reads its arguments itself: "-x" is a mode, not an option.
func chmod(c *call) int {
	recursive, args, err := chmodArgs(c.args[1:])
	if err != nil {
		return c.unserved("%v", err)
	}
	change, err := parseMode(args[0])
	if err != nil {
		return c.fail(1, "%v", err)
	}
	one := func(path string, info fs.FileInfo) error {
		bits := fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
		return os.Chmod(path, change(info.Mode()&bits, info.IsDir()))
	}
	c.opt.args = args[1:]
	return c.each("can't change", func(name string) error {
		if !recursive {
			info, err := os.Stat(c.abs(name))
			if err != nil {
				return err
			}
			return one(c.abs(name), info)
		}
		return walkAll(c.abs(name), func(path string, info fs.FileInfo) error {
			if info.Mode()&fs.ModeSymlink != 0 {
				return nil
			}
			return one(path, info)
		})
	})
}

// chmodArgs are the options of chmod, and its operands with the mode first.
func chmodArgs(args []string) (recursive bool, rest []string, err error) {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-R", "--recursive":
			recursive = true
		default:
			return false, nil, fmt.Errorf("the option %s is not served", args[0])
		}
		args = args[1:]
	}
	if len(args) < 2 {
		return false, nil, fmt.Errorf("an operand is missing")
	}
	for _, a := range args[1:] {
		if strings.HasPrefix(a, "-") {
			return false, nil, fmt.Errorf("an option after the mode is not served")
		}
	}
	return recursive, args, nil
}

func checkChmod(_ Variant, args []Value) string {
	texts, all := known(args)
	if !all {
		return ""
	}
	if _, _, err := chmodArgs(texts); err != nil {
		return err.Error()
	}
	return ""
}

// walkAll calls fn for a tree, folders before their content; links are not followed.
func walkAll(root string, fn func(path string, info fs.FileInfo) error) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return fn(path, info)
	})
}

func chown(c *call) int {
	if len(c.opt.args) < 2 {
		return c.fail(1, "missing operand")
	}
	owner := c.opt.args[0]
	if c.args[0] == "chgrp" {
		owner = ":" + owner
	}
	c.opt.args = c.opt.args[1:]
	return c.each("can't change owner of", func(name string) error {
		if !c.opt.has("R") {
			return c.chownOne(c.abs(name), owner, c.opt.has("h"))
		}
		return walkAll(c.abs(name), func(path string, _ fs.FileInfo) error {
			return c.chownOne(path, owner, true)
		})
	})
}

// chownOne sets "user", "user:group", "user:" or ":group"; names are looked up in the base's own files.
func (c *call) chownOne(path, owner string, link bool) error {
	user, group, hasGroup := strings.Cut(owner, ":")
	if !hasGroup {
		if u, g, ok := strings.Cut(owner, "."); ok && c.account("passwd", owner) == nil {
			user, group, hasGroup = u, g, true
		}
	}
	uid, gid := -1, -1
	if user != "" {
		id, login, err := c.userID(user)
		if err != nil {
			return err
		}
		uid = id
		if hasGroup && group == "" {
			gid = login
		}
	}
	if group != "" {
		id, err := c.groupID(group)
		if err != nil {
			return err
		}
		gid = id
	}
	if link {
		return os.Lchown(path, uid, gid)
	}
	return os.Chown(path, uid, gid)
}

func (c *call) userID(name string) (uid, gid int, err error) {
	if line := c.account("passwd", name); len(line) > 3 {
		uid, _ = strconv.Atoi(line[2])
		gid, _ = strconv.Atoi(line[3])
		return uid, gid, nil
	}
	if uid, err := strconv.Atoi(name); err == nil {
		return uid, -1, nil
	}
	return 0, 0, fmt.Errorf("unknown user %s", name)
}

func (c *call) groupID(name string) (int, error) {
	if line := c.account("group", name); len(line) > 2 {
		return strconv.Atoi(line[2])
	}
	if gid, err := strconv.Atoi(name); err == nil {
		return gid, nil
	}
	return 0, fmt.Errorf("unknown group %s", name)
}

// account returns the fields of the line of /etc/passwd or /etc/group that begins with name; nil without.
func (c *call) account(file, name string) []string {
	data, err := os.ReadFile(c.system("/etc/" + file))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if fields[0] == name {
			return fields
		}
	}
	return nil
}
