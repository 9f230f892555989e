package busybox

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// fileCommands make, move and remove files.
func fileCommands() map[string]command {
	return map[string]command{
		"mkdir": {run: mkdir, flags: "pm:", long: map[string]string{"parents": "p", "mode": "m:"}},
		"rmdir": {run: rmdir},
		"rm":    {run: rm, flags: "rRf", long: map[string]string{"recursive": "r", "force": "f"}},
		"mv":    {run: mv, flags: "fnT", long: map[string]string{"force": "f", "no-clobber": "n"}},
		"cp":    {run: cp, flags: "rRapfdLPTnu", long: map[string]string{"recursive": "r", "archive": "a", "force": "f", "no-clobber": "n", "update": "u"}},
		"ln":    {run: ln, flags: "sfnT", long: map[string]string{"symbolic": "s", "force": "f", "no-dereference": "n"}},
		"touch": {run: touch, flags: "cr:d:", long: map[string]string{"no-create": "c", "date": "d:", "reference": "r:"}},
		"chmod": {run: chmod, raw: true, check: checkChmod},
		"chown": {run: chown, flags: "Rh", long: map[string]string{"recursive": "R", "no-dereference": "h"}},
		"chgrp": {run: chown, flags: "Rh", long: map[string]string{"recursive": "R", "no-dereference": "h"}},
		"install": {run: install, flags: "dDm:o:g:pt:", long: map[string]string{
			"directory": "d", "mode": "m:", "owner": "o:", "group": "g:"}},
		"mktemp": {run: mktemp, flags: "dup:", long: map[string]string{"directory": "d"}},
	}
}

// each runs fn for all operands; the exit code is 1 when one failed.
func (c *call) each(verb string, fn func(name string) error) int {
	code := 0
	if len(c.opt.args) == 0 {
		return c.fail(1, "missing operand")
	}
	for _, name := range c.opt.args {
		if err := fn(name); err != nil {
			code = c.fail(1, "%s '%s': %s", verb, name, why(err))
		}
	}
	return code
}

func mkdir(c *call) int {
	mode, plain := fs.FileMode(0o777), true
	if m := c.opt.value("m"); m != "" {
		change, err := parseMode(m)
		if err != nil {
			return c.fail(1, "%v", err)
		}
		mode, plain = change(0o777, true), false
	}
	return c.each("can't create directory", func(name string) error {
		path := c.abs(name)
		if c.opt.has("p") {
			if err := os.MkdirAll(path, 0o777); err != nil {
				return err
			}
		} else if err := os.Mkdir(path, 0o777); err != nil {
			return err
		}
		if plain {
			return nil
		}
		return os.Chmod(path, mode)
	})
}

func rmdir(c *call) int {
	return c.each("can't remove", func(name string) error {
		path := c.abs(name)
		if info, err := os.Lstat(path); err == nil && !info.IsDir() {
			return errors.New("Not a directory")
		}
		return os.Remove(path)
	})
}

func rm(c *call) int {
	recursive, force := c.opt.has("r") || c.opt.has("R"), c.opt.has("f")
	if len(c.opt.args) == 0 && force {
		return 0
	}
	return c.each("can't remove", func(name string) error {
		if base := filepath.Base(name); base == "." || base == ".." || name == "/" {
			return errors.New("refused")
		}
		path := filepath.Clean(c.abs(name))
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) && force {
			return nil
		}
		if err != nil {
			return err
		}
		if info.IsDir() && !recursive {
			if c.opt.has("d") {
				return os.Remove(path)
			}
			return errors.New("Is a directory")
		}
		return removeAll(path)
	})
}

// removeAll removes a tree, also where its folders have no write permission (a module cache has none, and as
// root that does not matter; as another user it does in the image too, so nothing is changed to force it).
func removeAll(path string) error { return os.RemoveAll(path) }

// target returns where an operand goes when the last operand is a folder.
func (c *call) target(last, name string, many bool) (string, error) {
	path := c.abs(last)
	info, err := os.Stat(path)
	if err == nil && info.IsDir() && !c.opt.has("T") {
		return filepath.Join(path, filepath.Base(c.abs(name))), nil
	}
	if many || strings.HasSuffix(last, "/") && err != nil && !c.opt.has("r") && !c.opt.has("R") && !c.opt.has("a") {
		return "", fmt.Errorf("target '%s' is not a directory", last)
	}
	return filepath.Clean(path), nil
}

// pairwise runs fn for all operands but the last, each with the path that it goes to.
func (c *call) pairwise(verb string, fn func(from, to string) error) int {
	n := len(c.opt.args) - 1
	if n < 1 {
		return c.fail(1, "missing operand")
	}
	last, code := c.opt.args[n], 0
	for _, name := range c.opt.args[:n] {
		to, err := c.target(last, name, n > 1)
		if err == nil {
			err = fn(c.abs(name), to)
		}
		if err != nil {
			code = c.fail(1, "%s '%s': %s", verb, name, why(err))
		}
	}
	return code
}

func mv(c *call) int {
	return c.pairwise("can't rename", func(from, to string) error {
		from = filepath.Clean(from)
		if c.opt.has("n") {
			if _, err := os.Lstat(to); err == nil {
				return nil
			}
		}
		err := os.Rename(from, to)
		if err == nil || !crossDevice(err) {
			return err
		}
		// Over the border of a mount (a cache mount, a bind mount) and for folders of a lower overlay layer.
		if err := copyTree(from, to, copyHow{recursive: true, keep: true}); err != nil {
			return err
		}
		return os.RemoveAll(from)
	})
}

func cp(c *call) int {
	how := copyHow{
		recursive: c.opt.has("r") || c.opt.has("R") || c.opt.has("a"),
		keep:      c.opt.has("p") || c.opt.has("a"),
		force:     c.opt.has("f"),
	}
	// Without -r links on the command line are followed; with it they are copied, but under -L.
	how.follow = c.opt.has("L") || !how.recursive && !c.opt.has("P") && !c.opt.has("d")
	how.noClobber, how.update = c.opt.has("n"), c.opt.has("u")
	return c.pairwise("can't copy", func(from, to string) error {
		if strings.HasSuffix(from, "/.") && how.recursive { // cp -r dir/. dest: the content
			return copyTree(filepath.Clean(from), filepath.Dir(to+"/x"), how)
		}
		return copyTree(from, to, how)
	})
}

func ln(c *call) int {
	if len(c.opt.args) == 1 {
		c.opt.args = append(c.opt.args, ".")
	}
	n := len(c.opt.args) - 1
	if n < 1 {
		return c.fail(1, "missing operand")
	}
	last := c.opt.args[n]
	for _, name := range c.opt.args[:n] {
		to := filepath.Clean(c.abs(last))
		info, err := os.Stat(to)
		if c.opt.has("n") || c.opt.has("T") {
			info, err = os.Lstat(to)
		}
		if err == nil && info.IsDir() && !c.opt.has("T") {
			to = filepath.Join(to, filepath.Base(name))
		}
		if c.opt.has("f") {
			os.Remove(to) // what stays in the way is the error of the next call
		}
		if c.opt.has("s") {
			err = os.Symlink(name, to)
		} else {
			err = os.Link(c.abs(name), to)
		}
		if err != nil {
			return c.fail(1, "%s: %s", last, why(err))
		}
	}
	return 0
}

func touch(c *call) int {
	at, isNow := time.Now(), true
	switch {
	case c.opt.has("r"):
		info, err := os.Stat(c.abs(c.opt.value("r")))
		if err != nil {
			return c.fail(1, "%s: %s", c.opt.value("r"), why(err))
		}
		at, isNow = info.ModTime(), false
	case c.opt.has("d"):
		t, err := parseDate(c.opt.value("d"), at.In(c.zone()))
		if err != nil {
			return c.unserved("%v", err)
		}
		at, isNow = t, false
	}
	return c.each("can't touch", func(name string) error {
		path := c.abs(name)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			if c.opt.has("c") {
				return nil
			}
			f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o666)
			if err != nil {
				return err
			}
			f.Close()
			if isNow {
				return nil
			}
		}
		return os.Chtimes(path, at, at)
	})
}

func install(c *call) int {
	mode := fs.FileMode(0o755)
	if m := c.opt.value("m"); m != "" {
		change, err := parseMode(m)
		if err != nil {
			return c.fail(1, "%v", err)
		}
		mode = change(0, false)
	}
	owner := c.opt.value("o")
	if g := c.opt.value("g"); g != "" {
		owner += ":" + g
	}
	finish := func(path string) error {
		if owner != "" {
			if err := c.chownOne(path, owner, false); err != nil {
				return err
			}
		}
		return os.Chmod(path, mode)
	}
	if c.opt.has("d") {
		return c.each("can't create directory", func(name string) error {
			if err := os.MkdirAll(c.abs(name), 0o755); err != nil {
				return err
			}
			return finish(c.abs(name))
		})
	}
	if t := c.opt.value("t"); t != "" {
		c.opt.args = append(c.opt.args, t+"/")
	}
	if c.opt.has("D") && len(c.opt.args) > 1 {
		last := c.opt.args[len(c.opt.args)-1]
		dir := filepath.Dir(c.abs(last))
		if strings.HasSuffix(last, "/") {
			dir = c.abs(last)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return c.fail(1, "%v", err)
		}
	}
	return c.pairwise("can't install", func(from, to string) error {
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := copyTree(from, to, copyHow{follow: true, keep: c.opt.has("p")}); err != nil {
			return err
		}
		return finish(to)
	})
}

func randomLetters(n int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[rand.IntN(len(letters))]
	}
	return string(b)
}

func mktemp(c *call) int {
	dir, pattern := c.getenv("TMPDIR"), "tmp.XXXXXXXXXX"
	if c.variant() == Alpine {
		pattern = "tmp.XXXXXX"
	}
	if dir == "" {
		dir = "/tmp"
	}
	if p := c.opt.value("p"); p != "" {
		dir = p
	}
	if len(c.opt.args) > 0 {
		pattern = c.opt.args[0]
		if !c.opt.has("p") && !c.opt.has("t") {
			dir = filepath.Dir(pattern)
		}
		pattern = filepath.Base(pattern)
	}
	stem := strings.TrimRight(pattern, "X")
	if len(pattern)-len(stem) < 3 {
		return c.fail(1, "too few X's in template '%s'", pattern)
	}
	var path string
	var err error
	for range 100 {
		path = filepath.Join(c.abs(dir), stem+randomLetters(len(pattern)-len(stem)))
		if c.opt.has("d") {
			err = os.Mkdir(path, 0o700)
		} else {
			var f *os.File
			if f, err = os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err == nil {
				err = f.Close()
			}
		}
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return c.fail(1, "%v", err)
	}
	if c.opt.has("u") {
		os.Remove(path)
	}
	if shown := filepath.Base(path); len(c.opt.args) > 0 && !strings.Contains(c.opt.args[0], "/") && dir == "." {
		fmt.Fprintln(c.stdout, shown)
	} else {
		fmt.Fprintln(c.stdout, strings.TrimSuffix(dir, "/")+"/"+shown)
	}
	return 0
}
