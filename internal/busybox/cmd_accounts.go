package busybox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// accountCommands keep /etc/passwd, /etc/group and /etc/shadow as BusyBox 1.36 (Alpine) and Debian's adduser
// 3.134 and shadow 4.13 do. Which of the two a root has, the file /etc/os-release says.
func accountCommands() map[string]command {
	return map[string]command{
		"adduser": {run: adduser, flags: "h:g:s:G:SDHu:q", long: map[string]string{
			"home": "h:", "gecos": "g:", "comment": "comment:", "shell": "s:", "ingroup": "G:", "system": "S", "disabled-password": "D",
			"disabled-login": "disabled-login", "no-create-home": "H", "uid": "u:", "gid": "gid:", "group": "group", "quiet": "q"}, check: checkAdduser},
		"addgroup": {run: addgroup, flags: "g:S", long: map[string]string{"gid": "g:", "system": "S", "quiet": "q"}, check: checkAddgroup},
		"deluser":  {run: deluser, check: onlyAlpine},
		"delgroup": {run: delgroup, check: onlyAlpine},
		"useradd": {run: useradd, flags: "rMUNu:g:G:d:s:c:l", long: map[string]string{
			"system": "r", "no-create-home": "M", "user-group": "U", "no-user-group": "N", "uid": "u:",
			"gid": "g:", "groups": "G:", "home-dir": "d:", "home": "d:", "shell": "s:", "comment": "c:", "no-log-init": "l"}},
		"groupadd": {run: groupadd, flags: "rg:f", long: map[string]string{"system": "r", "gid": "g:", "force": "f"}},
	}
}

// accounts are the account files of a root, as lines.
type accounts struct {
	c                     *call
	debian                bool
	passwd, group, shadow []string
	gshadow               []string // Debian only
}

// account is one new user.
type account struct {
	name, gecos, home, shell string
	uid, gid                 int
}

func (c *call) accounts() (*accounts, error) {
	a := &accounts{c: c}
	for _, f := range []struct {
		name string
		to   *[]string
	}{{"passwd", &a.passwd}, {"group", &a.group}, {"shadow", &a.shadow}, {"gshadow", &a.gshadow}} {
		data, err := os.ReadFile(c.system("/etc/" + f.name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			*f.to = append(*f.to, strings.TrimSuffix(line, "\n"))
		}
	}
	release, _ := os.ReadFile(c.system("/etc/os-release"))
	a.debian = strings.Contains(string(release), "ID=debian")
	return a, nil
}

// save writes the files that changed; what was there before is kept as NAME-, as the originals do.
func (a *accounts) save() error {
	for name, now := range map[string][]string{"passwd": a.passwd, "group": a.group, "shadow": a.shadow, "gshadow": a.gshadow} {
		path := a.c.system("/etc/" + name)
		old, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		text := strings.Join(now, "\n") + "\n"
		if len(now) == 0 || text == string(old) {
			continue
		}
		mode := fs.FileMode(0o644)
		if info, err := os.Stat(path); err == nil {
			mode = info.Mode().Perm()
		}
		if err := os.WriteFile(path+"-", old, mode); err != nil {
			return err
		}
		// In place: owner and mode stay.
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			return err
		}
	}
	return nil
}

// field returns one field of the line that begins with name.
func field(lines []string, name string, n int) (string, bool) {
	for _, line := range lines {
		if f := strings.Split(line, ":"); f[0] == name && len(f) > n {
			return f[n], true
		}
	}
	return "", false
}

// taken reports whether an id is in the third field of a line.
func taken(lines []string, id int) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		f := strings.Split(line, ":")
		return len(f) > 2 && f[2] == strconv.Itoa(id)
	})
}

// freeID is the first id in a range for which none of the lists has an entry.
func freeID(first, last int, lists ...[]string) (int, error) {
	for id := first; id <= last; id++ {
		if !slices.ContainsFunc(lists, func(l []string) bool { return taken(l, id) }) {
			return id, nil
		}
	}
	return 0, fmt.Errorf("no free id from %d to %d", first, last)
}

// freeDown is freeID from the end: how useradd and Debian's groupadd number system accounts.
func freeDown(first, last int, lists ...[]string) (int, error) {
	for id := last; id >= first; id-- {
		if !slices.ContainsFunc(lists, func(l []string) bool { return taken(l, id) }) {
			return id, nil
		}
	}
	return 0, fmt.Errorf("no free id from %d to %d", first, last)
}

func checkName(name string) error {
	for i, r := range name {
		ok := r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' ||
			r == '-' && i > 0 || r == '$' && i == len(name)-1
		if !ok {
			return fmt.Errorf("illegal character with code %d at position %d", r, i)
		}
	}
	if name == "" {
		return fmt.Errorf("a name is missing")
	}
	return nil
}

func (a *accounts) addGroup(name string, gid int) {
	a.group = append(a.group, fmt.Sprintf("%s:x:%d:", name, gid))
	if a.debian && a.gshadow != nil {
		a.gshadow = append(a.gshadow, name+":!::")
	}
}

// join adds a user to a group's list of members.
func (a *accounts) join(user, group string) error {
	for i, line := range a.group {
		f := strings.Split(line, ":")
		if f[0] != group || len(f) < 4 {
			continue
		}
		members := strings.FieldsFunc(f[3], func(r rune) bool { return r == ',' })
		if !slices.Contains(members, user) {
			members = append(members, user)
		}
		f[3] = strings.Join(members, ",")
		a.group[i] = strings.Join(f, ":")
		for k, line := range a.gshadow {
			if g := strings.Split(line, ":"); g[0] == group && len(g) > 3 {
				if g[3] != "" {
					g[3] += ","
				}
				g[3] += user
				a.gshadow[k] = strings.Join(g, ":")
			}
		}
		return nil
	}
	return fmt.Errorf("unknown group %s", group)
}

func (a *accounts) addUser(u account, password, ages string) {
	a.passwd = append(a.passwd, fmt.Sprintf("%s:x:%d:%d:%s:%s:%s", u.name, u.uid, u.gid, u.gecos, u.home, u.shell))
	if a.shadow != nil {
		today := time.Now().Unix() / 86400
		a.shadow = append(a.shadow, fmt.Sprintf("%s:%s:%d:%s", u.name, password, today, ages))
	}
}

// makeHome makes the home directory; one that is there stays as it is.
func (a *accounts) makeHome(u account, mode fs.FileMode) error {
	path := a.c.system(u.home)
	if err := os.Mkdir(path, 0o755); err != nil {
		if os.IsExist(err) {
			return nil
		}
		return err
	}
	if err := os.Chown(path, u.uid, u.gid); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// edit reads the files, lets fn change them, and writes them.
func (c *call) edit(fn func(*accounts) error) int {
	a, err := c.accounts()
	if err == nil {
		err = fn(a)
	}
	if err == nil {
		err = a.save()
	}
	var special coded
	if errors.As(err, &special) {
		return c.fail(special.code, "%v", err)
	}
	if err != nil {
		return c.fail(1, "%v", err)
	}
	return 0
}

// onlyAlpine refuses what Debian's command of the name does in another way.
func onlyAlpine(v Variant, args []Value) string {
	if v == Debian {
		return "Debian's is not served"
	}
	if len(args) != 1 || strings.HasPrefix(args[0].Text, "-") {
		return "the arguments are not served"
	}
	return ""
}

// accountOptions parses the arguments of adduser or addgroup as far as they are known.
func accountOptions(name string, args []Value) (options, bool) {
	texts, all := known(args)
	o, err := parseOptions(commands()[name], texts)
	return o, all && err == nil
}

// checkAdduser serves what was compared with the real ones: BusyBox's options, and Debian's long ones.
func checkAdduser(v Variant, args []Value) string {
	o, ok := accountOptions("adduser", args)
	if !ok {
		return ""
	}
	return adduserUnserved(v, args, o)
}

func adduserUnserved(v Variant, args []Value, o options) string {
	for _, a := range args {
		long := strings.HasPrefix(a.Text, "--")
		name, _, _ := strings.Cut(a.Text, "=")
		switch {
		case v == Debian && !long && len(a.Text) > 1 && a.Text[0] == '-':
			return "Debian's has no short options"
		case v == Alpine && slices.Contains([]string{"--disabled-login", "--comment", "--gid", "--group", "--quiet", "-q"}, name):
			return "BusyBox's has no " + name
		}
	}
	switch {
	case len(o.args) == 2 && len(o.set) > 0:
		return "two names with options are not served"
	case v == Debian && (o.has("gid") || o.has("comment")):
		return "the option is not served"
	case v == Debian && !o.has("S") && len(o.args) == 1 && !o.has("D") && !o.has("disabled-login"):
		return "it asks for a password"
	case v == Debian && !o.has("S") && len(o.args) == 1 && !o.has("g"):
		return "without --gecos it asks for a name"
	case v == Debian && !o.has("S") && !o.has("H") && len(o.args) == 1:
		return "a home directory gets the files of the image's /etc/skel"
	case v == Alpine && !o.has("S") && len(o.args) == 1 && !o.has("D"):
		return "it asks for a password"
	}
	return ""
}

func checkAddgroup(v Variant, args []Value) string {
	for _, a := range args {
		if v == Debian && len(a.Text) > 1 && a.Text[0] == '-' && !strings.HasPrefix(a.Text, "--") {
			return "Debian's has no short options"
		}
		if v == Alpine && a.Text == "--quiet" {
			return "BusyBox's has no --quiet"
		}
	}
	return ""
}

// say prints what Debian's commands tell of what they do.
func (c *call) say(a *accounts, format string, args ...any) {
	if a.debian && !c.opt.has("q") {
		fmt.Fprintf(c.stdout, format+"\n", args...)
	}
}

func addgroup(c *call) int {
	return c.edit(func(a *accounts) error {
		if len(c.opt.args) == 2 { // addgroup USER GROUP
			if a.debian {
				c.unserved("of a user and a group is not served")
			}
			if _, ok := field(a.passwd, c.opt.args[0], 0); !ok {
				return fmt.Errorf("unknown user %s", c.opt.args[0])
			}
			return a.join(c.opt.args[0], c.opt.args[1])
		}
		if len(c.opt.args) != 1 {
			return fmt.Errorf("a name is missing")
		}
		if err := a.newGroup(c.opt.args[0], c.opt.value("g"), c.opt.has("S"), freeID); err != nil {
			if a.debian {
				c.unserved("%v", err)
			}
			return err
		}
		gid, _ := field(a.group, c.opt.args[0], 2)
		c.say(a, "Adding group `%s' (GID %s) ...", c.opt.args[0], gid)
		c.say(a, "Done.")
		return nil
	})
}

// newGroup adds a group; pick finds a number where none is asked for.
func (a *accounts) newGroup(name, asked string, system bool, pick func(int, int, ...[]string) (int, error)) error {
	if err := checkName(name); err != nil {
		return err
	}
	if _, ok := field(a.group, name, 0); ok {
		return fmt.Errorf("group '%s' in use", name)
	}
	first, last := 1000, 59999
	if system {
		first, last = 100, 999
	} else {
		pick = freeID
	}
	gid, err := strconv.Atoi(asked)
	switch {
	case asked == "":
		gid, err = pick(first, last, a.group)
	case err == nil && taken(a.group, gid):
		err = fmt.Errorf("gid '%d' in use", gid)
	}
	if err != nil {
		return err
	}
	a.addGroup(name, gid)
	return nil
}

// drop removes the line of a name.
func drop(lines []string, name string) []string {
	return slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, name+":") })
}

func deluser(c *call) int {
	return c.edit(func(a *accounts) error {
		if len(c.opt.args) != 1 {
			return fmt.Errorf("a name is missing")
		}
		name := c.opt.args[0]
		_, ok := field(a.passwd, name, 5)
		if !ok {
			return fmt.Errorf("unknown user %s", name)
		}
		a.passwd, a.shadow = drop(a.passwd, name), drop(a.shadow, name)
		a.group = drop(a.group, name)
		for i, line := range a.group {
			if f := strings.Split(line, ":"); len(f) > 3 {
				members := slices.DeleteFunc(strings.Split(f[3], ","), func(m string) bool { return m == name })
				f[3] = strings.Join(members, ",")
				a.group[i] = strings.Join(f, ":")
			}
		}
		return nil
	})
}

func delgroup(c *call) int {
	return c.edit(func(a *accounts) error {
		if len(c.opt.args) != 1 {
			return fmt.Errorf("a name is missing")
		}
		name := c.opt.args[0]
		if _, ok := field(a.group, name, 0); !ok {
			return fmt.Errorf("unknown group %s", name)
		}
		a.group, a.gshadow = drop(a.group, name), drop(a.gshadow, name)
		return nil
	})
}
