package busybox

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func readlink(c *call) int {
	code := 0
	if len(c.opt.args) != 1 {
		return c.unserved("other than one file is not served")
	}
	for _, name := range c.opt.args {
		var to string
		var err error
		if c.opt.has("f") {
			to, err = c.canonical(name, true)
		} else {
			to, err = os.Readlink(filepath.Clean(c.abs(name)))
		}
		if err != nil {
			code = 1 // silent, as readlink is
			continue
		}
		fmt.Fprint(c.stdout, to)
		if !c.opt.has("n") {
			fmt.Fprintln(c.stdout)
		}
	}
	return code
}

func realpath(c *call) int {
	return c.each("can't resolve", func(name string) error {
		to, err := c.canonical(name, c.variant() == Debian)
		if err == nil {
			fmt.Fprintln(c.stdout, to)
		}
		return err
	})
}

// canonical resolves links; the last component may be missing.
func (c *call) canonical(name string, missing bool) (string, error) {
	full := filepath.Clean(c.abs(name))
	to, err := filepath.EvalSymlinks(full)
	if err != nil && missing {
		if to, err = filepath.EvalSymlinks(filepath.Dir(full)); err == nil {
			to = filepath.Join(to, filepath.Base(full))
		}
	}
	return cmp.Or(strings.TrimPrefix(to, c.root), "/"), err
}

func basename(c *call) int {
	args, suffix := c.opt.args, c.opt.value("s")
	if len(args) == 0 {
		return c.fail(1, "missing operand")
	}
	if !c.opt.has("a") && !c.opt.has("s") {
		if len(args) > 1 {
			suffix = args[1]
		}
		args = args[:1]
	}
	for _, name := range args {
		base := path.Base(name)
		if base != suffix {
			base = strings.TrimSuffix(base, suffix)
		}
		fmt.Fprintln(c.stdout, base)
	}
	return 0
}

func dirname(c *call) int {
	if len(c.opt.args) == 0 {
		return c.fail(1, "missing operand")
	}
	for _, name := range c.opt.args {
		if trimmed := strings.TrimRight(name, "/"); trimmed != "" {
			name = trimmed
		}
		fmt.Fprintln(c.stdout, path.Dir(name))
	}
	return 0
}

func du(c *call) int {
	if !c.opt.has("b") && !c.logOnly() {
		return c.unserved("it is served for the log of a step alone")
	}
	if len(c.opt.args) == 0 {
		c.opt.args = []string{"."}
	}
	return c.each("can't read", func(name string) error {
		var total int64
		err := walkAll(c.abs(name), func(_ string, info fs.FileInfo) error {
			if c.opt.has("b") {
				total += info.Size()
			} else {
				total += (info.Size() + 4095) / 4096 * 4096
			}
			return nil
		})
		shown := strconv.FormatInt((total+1023)/1024, 10)
		switch {
		case c.opt.has("h"):
			shown = human(total)
		case c.opt.has("b"):
			shown = strconv.FormatInt(total, 10)
		case c.opt.has("m"):
			shown = strconv.FormatInt((total+1<<20-1)>>20, 10)
		}
		fmt.Fprintf(c.stdout, "%s\t%s\n", shown, name)
		return err
	})
}

// statFormat are the conversions of stat -c that both images' know.
var statFormat = regexp.MustCompile(`^([^%\\]|%[nsaAugUGYhF%])*$`)

func checkStat(_ Variant, args []Value) string {
	texts, all := known(args)
	if !all {
		return ""
	}
	o, err := parseOptions(commands()["stat"], texts)
	if err == nil && !statFormat.MatchString(o.value("c")) || !o.has("c") {
		return "the format is not served"
	}
	return ""
}

func stat(c *call) int {
	format := c.opt.value("c")
	if !c.opt.has("c") || !statFormat.MatchString(format) {
		return c.unserved("the format is not served")
	}
	return c.each("can't stat", func(name string) error {
		info, err := os.Lstat(c.abs(name))
		if c.opt.has("L") {
			info, err = os.Stat(c.abs(name))
		}
		if err != nil {
			return err
		}
		uid, gid, _ := ownerOf(info)
		fmt.Fprintln(c.stdout, strings.NewReplacer(
			"%%", "%", "%n", name, "%s", strconv.FormatInt(info.Size(), 10), "%a", octal(info.Mode()),
			"%A", lsMode(info.Mode()), "%u", strconv.Itoa(uid), "%g", strconv.Itoa(gid),
			"%U", c.nameOf("passwd", uid), "%G", c.nameOf("group", gid),
			"%Y", strconv.FormatInt(info.ModTime().Unix(), 10), "%y", info.ModTime().UTC().Format(time.DateTime),
			"%h", strconv.FormatUint(linksOf(info), 10), "%F", kindOf(info)).Replace(format))
		return nil
	})
}

func octal(m fs.FileMode) string {
	n := uint64(m.Perm())
	for _, s := range special {
		if m&s.mode != 0 {
			n |= s.octal
		}
	}
	return strconv.FormatUint(n, 8)
}

func kindOf(info fs.FileInfo) string {
	m := info.Mode()
	switch {
	case m.IsRegular() && info.Size() == 0:
		return "regular empty file"
	case m.IsDir():
		return "directory"
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	case m.IsRegular():
		return "regular file"
	}
	return "special file"
}
