package busybox

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// listCommands look at files.
func listCommands() map[string]command {
	return map[string]command{
		"ls":       {run: ls, flags: "1aAlhdRFrtSn", long: map[string]string{"all": "a", "almost-all": "A", "recursive": "R"}},
		"find":     {run: find, raw: true, check: checkFind},
		"readlink": {run: readlink, flags: "fn", long: map[string]string{"canonicalize": "f"}},
		"realpath": {run: realpath},
		"basename": {run: basename, flags: "as:"},
		"dirname":  {run: dirname},
		"du":       {run: du, flags: "shkmabc", long: map[string]string{"human-readable": "h", "summarize": "s"}},
		"stat":     {run: stat, flags: "c:L", long: map[string]string{"format": "c:"}, check: checkStat},
		"grep":     {run: grep, flags: grepFlags, long: grepLong, check: checkGrep("grep")},
		"egrep":    {run: grep, flags: grepFlags, long: grepLong, check: checkGrep("egrep")},
		"fgrep":    {run: grep, flags: grepFlags, long: grepLong, check: checkGrep("fgrep")},
	}
}

// logOnly reports whether a command writes to the log of the step, where nothing reads what it says. What ls -l and du print depends
// on the file system and is laid out by each image in a way of its own.
func (c *call) logOnly() bool { return c.raw == io.Writer(os.Stdout) }

func ls(c *call) int {
	if c.opt.has("l") && !c.logOnly() {
		return c.unserved("-l is served for the log of a step alone")
	}
	names := c.opt.args
	if len(names) == 0 {
		names = []string{"."}
	}
	code := 0
	var files, folders []string
	for _, name := range names {
		info, err := os.Lstat(c.abs(name))
		if err != nil {
			code = c.fail(c.lsFailure(), "%s: %s", name, why(err))
			continue
		}
		if info.Mode()&fs.ModeSymlink != 0 && !c.opt.has("l") {
			if to, err := os.Stat(c.abs(name)); err == nil {
				info = to
			}
		}
		if info.IsDir() && !c.opt.has("d") {
			folders = append(folders, name)
		} else {
			files = append(files, name)
		}
	}
	c.lsEntries("", files)
	for i, name := range folders {
		if len(names) > 1 || c.opt.has("R") {
			if i > 0 || len(files) > 0 {
				fmt.Fprintln(c.stdout)
			}
			fmt.Fprintf(c.stdout, "%s:\n", name)
		}
		code = max(code, c.lsFolder(name))
	}
	return code
}

// lsFailure is the exit code of ls for a file that is missing.
func (c *call) lsFailure() int {
	if c.variant() == Alpine {
		return 1
	}
	return 2
}

func (c *call) lsFolder(name string) int {
	entries, err := os.ReadDir(c.abs(name))
	if err != nil {
		return c.fail(c.lsFailure(), "%s: %s", name, why(err))
	}
	var list, below []string
	if c.opt.has("a") {
		list = append(list, ".", "..")
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && !c.opt.has("a") && !c.opt.has("A") {
			continue
		}
		list = append(list, e.Name())
		if e.IsDir() {
			below = append(below, path.Join(name, e.Name()))
		}
	}
	if c.opt.has("l") {
		fmt.Fprintln(c.stdout, "total", len(list))
	}
	c.lsEntries(name, list)
	code := 0
	if c.opt.has("R") {
		for _, b := range below {
			fmt.Fprintf(c.stdout, "\n%s:\n", b)
			code = max(code, c.lsFolder(b))
		}
	}
	return code
}

func (c *call) lsEntries(dir string, names []string) {
	infos := map[string]fs.FileInfo{}
	for _, name := range names {
		if info, err := os.Lstat(filepath.Join(c.abs(dir), name)); dir != "" && err == nil {
			infos[name] = info
		} else if info, err := os.Lstat(c.abs(name)); dir == "" && err == nil {
			infos[name] = info
		}
	}
	slices.SortStableFunc(names, func(a, b string) int {
		n := strings.Compare(a, b)
		if x, y := infos[a], infos[b]; x != nil && y != nil {
			if c.opt.has("t") {
				n = y.ModTime().Compare(x.ModTime())
			}
			if c.opt.has("S") {
				n = int(min(max(y.Size()-x.Size(), -1), 1))
			}
		}
		if c.opt.has("r") {
			return -n
		}
		return n
	})
	for _, name := range names {
		info := infos[name]
		if info == nil {
			continue
		}
		shown := name
		if c.opt.has("F") && info.IsDir() {
			shown += "/"
		}
		if c.opt.has("l") {
			shown = c.longLine(dir, name, shown, info)
		}
		fmt.Fprintln(c.stdout, shown)
	}
}

func (c *call) longLine(dir, name, shown string, info fs.FileInfo) string {
	uid, gid, _ := ownerOf(info)
	size := strconv.FormatInt(info.Size(), 10)
	if c.opt.has("h") {
		size = human(info.Size())
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err := os.Readlink(filepath.Join(c.abs(dir), name)); err == nil {
			shown += " -> " + target
		}
	}
	user, group := strconv.Itoa(uid), strconv.Itoa(gid)
	if !c.opt.has("n") {
		user, group = c.nameOf("passwd", uid), c.nameOf("group", gid)
	}
	return fmt.Sprintf("%s %4d %-8s %-8s %9s %s %s", lsMode(info.Mode()), linksOf(info),
		user, group, size, info.ModTime().UTC().Format("Jan _2 15:04"), shown)
}

// lsMode is a mode as ls writes it: drwxr-xr-x.
func lsMode(m fs.FileMode) string {
	kind := "-"
	switch {
	case m.IsDir():
		kind = "d"
	case m&fs.ModeSymlink != 0:
		kind = "l"
	case m&fs.ModeCharDevice != 0:
		kind = "c"
	case m&fs.ModeDevice != 0:
		kind = "b"
	case m&fs.ModeNamedPipe != 0:
		kind = "p"
	case m&fs.ModeSocket != 0:
		kind = "s"
	}
	bits := []byte(m.Perm().String()[1:])
	mark := func(at int, set bool, letter byte) {
		if !set {
			return
		}
		if bits[at] != 'x' {
			letter -= 'a' - 'A'
		}
		bits[at] = letter
	}
	mark(2, m&fs.ModeSetuid != 0, 's')
	mark(5, m&fs.ModeSetgid != 0, 's')
	mark(8, m&fs.ModeSticky != 0, 't')
	return kind + string(bits)
}

func human(n int64) string {
	units := "KMGT"
	f, unit := float64(n), ""
	for i := 0; f >= 1024 && i < len(units); i++ {
		f, unit = f/1024, units[i:i+1]
	}
	if unit == "" {
		return strconv.FormatInt(n, 10)
	}
	return fmt.Sprintf("%.1f%s", f, unit)
}

// nameOf is the name of an id in /etc/passwd or /etc/group, or the number.
func (c *call) nameOf(file string, id int) string {
	data, err := os.ReadFile(c.system("/etc/" + file))
	if err == nil {
		for line := range strings.Lines(string(data)) {
			if f := strings.Split(line, ":"); len(f) > 2 && strings.TrimSpace(f[2]) == strconv.Itoa(id) {
				return f[0]
			}
		}
	}
	return strconv.Itoa(id)
}
