package busybox

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

func adduser(c *call) int {
	words := make([]Value, len(c.args)-1)
	for i, a := range c.args[1:] {
		words[i] = Value{a, true}
	}
	if why := adduserUnserved(c.variant(), words, c.opt); why != "" {
		return c.unserved("%s", why)
	}
	return c.edit(func(a *accounts) error {
		switch len(c.opt.args) {
		case 1:
		case 2: // adduser USER GROUP
			if a.debian {
				c.unserved("of a user and a group is not served")
			}
			if _, ok := field(a.passwd, c.opt.args[0], 0); !ok {
				return fmt.Errorf("unknown user %s", c.opt.args[0])
			}
			return a.join(c.opt.args[0], c.opt.args[1])
		default:
			return fmt.Errorf("a name is missing")
		}
		name := c.opt.args[0]
		if err := checkName(name); err != nil {
			return err
		}
		if _, ok := field(a.passwd, name, 0); ok {
			if a.debian {
				c.unserved("the user is there already")
			}
			return fmt.Errorf("user '%s' in use", name)
		}
		if a.debian {
			return a.adduserDebian(name)
		}
		return a.adduserBusyBox(name)
	})
}

// userID is the id asked for by -u, else the first free one in the range.
func (a *accounts) pickUID(asked string, first, last int, lists ...[]string) (int, error) {
	if asked == "" {
		return freeID(first, last, lists...)
	}
	uid, err := strconv.Atoi(asked)
	if err != nil || uid < 0 {
		return 0, fmt.Errorf("invalid number '%s'", asked)
	}
	if taken(a.passwd, uid) {
		return 0, fmt.Errorf("uid '%d' in use", uid)
	}
	return uid, nil
}

func (a *accounts) adduserBusyBox(name string) error {
	o, system := a.c.opt, a.c.opt.has("S")
	u := account{name: name, gecos: "Linux User,,,", home: "/home/" + name, shell: a.c.getenv("SHELL")}
	if u.shell == "" {
		u.shell = "/bin/sh"
	}
	group, first, last := o.value("G"), 1000, 59999
	if system {
		u.shell, first, last = "/sbin/nologin", 100, 999
		if group == "" {
			group = "nogroup"
		}
	}
	a.override(&u)
	lists := [][]string{a.passwd}
	if group == "" { // the user gets a group of the same name and number
		lists = append(lists, a.group)
	}
	var err error
	if u.uid, err = a.pickUID(o.value("u"), first, last, lists...); err != nil {
		return err
	}
	if group == "" {
		u.gid = u.uid
		if _, ok := field(a.group, name, 0); ok {
			return fmt.Errorf("group name '%s' is in use", name)
		}
		if taken(a.group, u.gid) {
			return fmt.Errorf("gid '%d' in use", u.gid)
		}
		a.addGroup(name, u.gid)
	} else {
		text, ok := field(a.group, group, 2)
		if !ok {
			return fmt.Errorf("unknown group %s", group)
		}
		if u.gid, err = strconv.Atoi(text); err != nil {
			return fmt.Errorf("group %s: %w", group, err)
		}
		if err := a.join(name, group); err != nil {
			return err
		}
	}
	a.addUser(u, "!", "0:99999:7:::")
	if o.has("H") {
		return nil
	}
	return a.makeHome(u, 0o755|fs.ModeSetgid)
}

// override takes what -g, -h and -s give.
func (a *accounts) override(u *account) {
	for flag, to := range map[string]*string{"g": &u.gecos, "h": &u.home, "s": &u.shell} {
		if a.c.opt.has(flag) {
			*to = a.c.opt.value(flag)
		}
	}
}

func (a *accounts) adduserDebian(name string) error {
	o, system := a.c.opt, a.c.opt.has("S")
	u := account{name: name, home: "/home/" + name, shell: "/bin/bash"}
	first, last := 1000, 59999
	if system {
		u.home, u.shell, first, last = "/nonexistent", "/usr/sbin/nologin", 100, 999
	}
	if o.has("disabled-login") {
		u.shell = "/usr/sbin/nologin"
	}
	a.override(&u)
	if !system {
		if strings.Contains(u.gecos, ",") {
			return fmt.Errorf("--gecos with commas is not served")
		}
		u.gecos += ",,," // adduser hands the five parts to chfn, also when all are empty
	}
	var err error
	lists := [][]string{a.passwd, a.group}
	if system { // the group's number is found on its own
		lists = lists[:1]
	}
	if u.uid, err = a.pickUID(o.value("u"), first, last, lists...); err != nil {
		return err
	}
	group := o.value("G")
	switch {
	case group != "":
		text, ok := field(a.group, group, 2)
		if !ok {
			return fmt.Errorf("the group `%s' does not exist", group)
		}
		u.gid, err = strconv.Atoi(text)
	case o.value("gid") != "":
		u.gid, err = strconv.Atoi(o.value("gid"))
	case system && !o.has("group"):
		u.gid = 65534
	case system:
		if u.gid, err = freeID(first, last, a.group); err == nil {
			a.addGroup(name, u.gid)
		}
	default:
		u.gid = u.uid
		a.addGroup(name, u.gid)
	}
	if err != nil {
		return fmt.Errorf("gid: %w", err)
	}
	a.tellDebian(u, system, group == "" && !system || system && o.has("group"))
	if _, ok := field(a.group, "users", 0); ok && !system {
		if err := a.join(name, "users"); err != nil {
			return err
		}
	}
	a.addUser(u, "!", map[bool]string{true: ":::::", false: "0:99999:7:::"}[system])
	if o.has("H") || system && u.home == "/nonexistent" {
		return nil
	}
	if _, err := os.Stat(a.c.system(u.home)); err == nil {
		a.c.unserved("the home directory is there already")
	}
	mode := fs.FileMode(0o700)
	if system {
		mode = 0o755
	}
	return a.makeHome(u, mode)
}

// tellDebian prints what adduser 3.134 prints of a new user; ownGroup is a group of the same name that was made.
func (a *accounts) tellDebian(u account, system, ownGroup bool) {
	c := a.c
	group := ""
	for _, line := range a.group {
		if f := strings.Split(line, ":"); len(f) > 2 && f[2] == strconv.Itoa(u.gid) {
			group = f[0]
		}
	}
	noHome := c.opt.has("H") || u.home == "/nonexistent"
	if system {
		c.say(a, "Adding system user `%s' (UID %d) ...", u.name, u.uid)
		if ownGroup {
			c.say(a, "Adding new group `%s' (GID %d) ...", u.name, u.gid)
		}
		c.say(a, "Adding new user `%s' (UID %d) with group `%s' ...", u.name, u.uid, group)
		switch {
		case u.home == "/nonexistent":
			c.say(a, "Not creating `%s'.", u.home)
		case noHome:
			c.say(a, "Not creating home directory `%s'.", u.home)
		default:
			c.say(a, "Creating home directory `%s' ...", u.home)
		}
		return
	}
	c.say(a, "Adding user `%s' ...", u.name)
	if ownGroup {
		c.say(a, "Adding new group `%s' (%d) ...", u.name, u.gid)
	}
	c.say(a, "Adding new user `%s' (%d) with group `%s (%d)' ...", u.name, u.uid, group, u.gid)
	if u.home == "/nonexistent" {
		c.say(a, "Not creating `%s'.", u.home)
		fmt.Fprintf(c.stderr, "adduser: Warning: The home dir %s you specified can't be accessed: No such file or directory\n", u.home)
	} else {
		c.say(a, "Not creating home directory `%s'.", u.home)
	}
	c.say(a, "Adding new user `%s' to supplemental / extra groups `users' ...", u.name)
	c.say(a, "Adding user `%s' to group `users' ...", u.name)
}
