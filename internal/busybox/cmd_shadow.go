package busybox

import (
	"fmt"
	"strconv"
	"strings"
)

// useradd and groupadd are those of Debian's passwd package, with its /etc/login.defs and /etc/default/useradd.

func useradd(c *call) int {
	return c.edit(func(a *accounts) error {
		if len(c.opt.args) != 1 {
			return fmt.Errorf("a name is missing")
		}
		name, system := c.opt.args[0], c.opt.has("r")
		if err := checkName(name); err != nil {
			return err
		}
		if _, ok := field(a.passwd, name, 0); ok {
			return coded{9, fmt.Errorf("user '%s' already exists", name)}
		}
		u := account{name: name, gecos: c.opt.value("c"), home: "/home/" + name, shell: "/bin/sh"}
		if c.opt.has("d") {
			u.home = c.opt.value("d")
		}
		if c.opt.has("s") {
			u.shell = c.opt.value("s")
		}
		if err := a.useraddIDs(&u, system); err != nil {
			return err
		}
		for _, g := range strings.FieldsFunc(c.opt.value("G"), func(r rune) bool { return r == ',' }) {
			if err := a.join(name, g); err != nil {
				return err
			}
		}
		password, ages := "!", "0:99999:7:::"
		if system {
			ages = ":::::"
		}
		if p := c.opt.value("p"); p != "" {
			password = p
		}
		a.addUser(u, password, ages)
		if first, last := 1000, 60000; c.opt.has("u") {
			if system {
				first, last = 0, 999
			}
			if u.uid < first || u.uid > last {
				fmt.Fprintf(c.stderr, "useradd warning: %s's uid %d is outside of the range %d to %d\n", name, u.uid, first, last)
			}
		}
		return nil
	})
}

// useraddIDs picks the user's and the group's number; a group of the user's own is made unless one is named.
func (a *accounts) useraddIDs(u *account, system bool) (err error) {
	o := a.c.opt
	switch {
	case o.value("u") != "" || !system:
		if u.uid, err = a.pickUID(o.value("u"), 1000, 60000, a.passwd); err != nil {
			err = coded{4, err}
		}
	default:
		u.uid, err = freeDown(100, 999, a.passwd)
	}
	if err != nil {
		return err
	}
	group := o.value("g")
	switch {
	case group != "":
		text, ok := field(a.group, group, 2)
		if !ok {
			text = group
		}
		if u.gid, err = strconv.Atoi(text); err != nil || !taken(a.group, u.gid) {
			return coded{6, fmt.Errorf("group '%s' does not exist", group)}
		}
	case o.has("N"):
		u.gid = 100
	default:
		if _, ok := field(a.group, u.name, 0); ok {
			return coded{9, fmt.Errorf("group %s exists - if you want to add this user to that group, use -g", u.name)}
		}
		u.gid = u.uid
		// The number of the user is taken where it is one for a group of this kind.
		fits := system && u.gid >= 100 && u.gid <= 999 || !system && u.gid >= 1000 && u.gid <= 60000
		switch {
		case fits && !taken(a.group, u.gid):
		case system:
			u.gid, err = freeDown(100, 999, a.group)
		default:
			u.gid, err = freeID(1000, 60000, a.group)
		}
		a.addGroup(u.name, u.gid)
	}
	return err
}

// coded is an error with the exit code that the real command has for it.
type coded struct {
	code int
	error
}

func groupadd(c *call) int {
	return c.edit(func(a *accounts) error {
		if len(c.opt.args) != 1 {
			return fmt.Errorf("a name is missing")
		}
		name := c.opt.args[0]
		if _, ok := field(a.group, name, 0); ok && c.opt.has("f") {
			return nil
		}
		if _, ok := field(a.group, name, 0); ok {
			return coded{9, fmt.Errorf("group '%s' already exists", name)}
		}
		if err := a.newGroup(name, c.opt.value("g"), c.opt.has("r"), freeDown); err != nil {
			return coded{4, err}
		}
		return nil
	})
}
