package busybox

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skiff-build/skiff/internal/envlist"
	"github.com/skiff-build/skiff/internal/shell"
)

// systemCommands tell of the system, or run other commands.
func systemCommands() map[string]command {
	return map[string]command{
		"env":      {run: runEnv, raw: true},
		"printenv": {run: printenv},
		"pwd":      {run: func(c *call) int { fmt.Fprintln(c.stdout, cmp.Or(strings.TrimPrefix(c.dir, c.root), "/")); return 0 }, flags: "LP"},
		"id":       {run: id, flags: "ugn", check: checkID},
		"whoami":   {run: func(c *call) int { fmt.Fprintln(c.stdout, c.nameOf("passwd", os.Getuid())); return 0 }},
		"uname":    {run: uname, flags: "snrm"},
		"arch":     {run: func(c *call) int { fmt.Fprintln(c.stdout, machine()); return 0 }},
		"hostname": {run: hostname, flags: "sf"},
		"nproc":    {run: func(c *call) int { fmt.Fprintln(c.stdout, runtime.NumCPU()); return 0 }, long: map[string]string{"all": ""}},
		"date":     {run: date, raw: true, check: checkDate},
		"sleep":    {run: sleep},
		"sync":     {run: func(*call) int { return 0 }},
		"which":    {run: which},
		"xargs":    {run: xargs, raw: true},
		"time":     {run: runTime, raw: true},
		"yes":      {run: yes},
	}
}

// defaultPath is where commands are looked for without a PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// runOther runs another command as the shell would: one of the base within this process, else a process.
func (c *call) runOther(argv []string, stdin io.Reader) int {
	path := cmp.Or(c.getenv("PATH"), defaultPath) // as execvp does without one
	file, status := shell.LookPath(c.root, strings.TrimPrefix(c.dir, c.root), path, argv[0])
	switch status {
	case 127:
		if err := c.missing(argv[0]); err != nil {
			return c.unserved("%v", err)
		}
		return c.fail(127, "%s: %s", c.quoted(argv[0]), "No such file or directory")
	case 126:
		return c.fail(126, "%s: %s", c.quoted(argv[0]), "Permission denied")
	}
	c.flush()
	code, err := c.execute(c.ctx, &shell.Command{Args: argv, Path: file, Env: c.env, Dir: c.dir, Stdin: stdin, Stdout: c.raw, Stderr: c.stderr})
	if err != nil {
		return c.unserved("%s: %v", argv[0], err)
	}
	return code
}

// quoted is a name in an error: GNU's quotes it, BusyBox's does too where it says that it cannot run it.
func (c *call) quoted(name string) string {
	if c.variant() == Debian {
		return "‘" + name + "’"
	}
	return "can't execute '" + name + "'"
}

// isShebang reports whether env was started by the first line of a script: the kernel gives it one argument, and the script.
func isShebang(c *call) bool { return len(c.args) == 3 && strings.Contains(c.args[1], " ") }

// runEnv is env [-i] [-u NAME] [NAME=value]... [command [args]].
func runEnv(c *call) int {
	args := c.args[1:]
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch arg := args[0]; {
		case arg == "-i" || arg == "-":
			c.env = nil
		case arg == "-u" && len(args) > 1:
			args = args[1:]
			c.env = slices.DeleteFunc(slices.Clone(c.env), func(e string) bool { return strings.HasPrefix(e, args[0]+"=") })
		case strings.HasPrefix(arg, "-S") && len(args) >= 1 && isShebang(c): // "#!/usr/bin/env -S go run"
			args = append([]string{""}, append(strings.Fields(arg[2:]), args[1:]...)...)
		case arg == "--":
		default:
			return c.unserved("the option %s is not served", arg)
		}
		args = args[1:]
	}
	for len(args) > 0 && strings.Contains(args[0], "=") {
		c.env, args = envlist.With(c.env, args[0]), args[1:]
	}
	if len(args) == 0 {
		for _, e := range c.env {
			fmt.Fprintln(c.stdout, e)
		}
		return 0
	}
	return c.runOther(args, c.stdin)
}

func printenv(c *call) int {
	if len(c.opt.args) == 0 {
		for _, e := range c.env {
			fmt.Fprintln(c.stdout, e)
		}
		return 0
	}
	code := 0
	for _, name := range c.opt.args {
		if !envlist.Has(c.env, name) {
			code = 1
			continue
		}
		fmt.Fprintln(c.stdout, c.getenv(name))
	}
	return code
}

// checkID serves the options that ask for one thing: which groups a process is in depends on what started it.
func checkID(_ Variant, args []Value) string {
	for _, a := range args {
		if a.Known && len(a.Text) > 1 && a.Text[0] == '-' && strings.ContainsAny(a.Text, "ug") {
			return ""
		}
	}
	return "without -u or -g it is not served"
}

func id(c *call) int {
	if !c.opt.has("u") && !c.opt.has("g") {
		return c.unserved("without -u or -g it is not served")
	}

	uid, gid := os.Getuid(), os.Getgid()
	if len(c.opt.args) > 0 {
		var err error
		if uid, gid, err = c.userID(c.opt.args[0]); err != nil {
			return c.fail(1, "%v", err)
		}
	}
	show := func(file string, id int) string {
		if c.opt.has("n") {
			return c.nameOf(file, id)
		}
		return strconv.Itoa(id)
	}
	switch {
	case c.opt.has("u"):
		fmt.Fprintln(c.stdout, show("passwd", uid))
	case c.opt.has("g"):
		fmt.Fprintln(c.stdout, show("group", gid))
	}
	return 0
}

// machine is uname -m.
func machine() string {
	names := map[string]string{"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": "armv7l", "loong64": "loongarch64"}
	if name := names[runtime.GOARCH]; name != "" {
		return name
	}
	return runtime.GOARCH
}

func uname(c *call) int {
	host, _ := os.Hostname()
	release := "5.11"
	if data, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		release = strings.TrimSpace(string(data))
	}
	parts := []struct{ flag, text string }{
		{"s", "Linux"}, {"n", host}, {"r", release}, {"v", "#1"}, {"m", machine()}, {"o", "Linux"},
	}
	var out []string
	for _, p := range parts {
		if c.opt.has("a") || c.opt.has(p.flag) || len(c.opt.set) == 0 && p.flag == "s" {
			out = append(out, p.text)
		}
	}
	fmt.Fprintln(c.stdout, strings.Join(out, " "))
	return 0
}

func hostname(c *call) int {
	host, err := os.Hostname()
	if err != nil {
		return c.fail(1, "%v", err)
	}
	fmt.Fprintln(c.stdout, host)
	return 0
}

func sleep(c *call) int {
	var total time.Duration
	for _, arg := range c.opt.args {
		if strings.Trim(arg, "0123456789.") == "" {
			arg += "s"
		}
		d, err := time.ParseDuration(arg)
		if err != nil {
			return c.fail(1, "invalid number '%s'", arg)
		}
		total += d
	}
	select {
	case <-time.After(total):
		return 0
	case <-c.ctx.Done():
		return 143
	}
}

func which(c *call) int {
	code := 0
	for _, name := range c.opt.args {
		if _, _, err := c.which(name); err != nil {
			return c.unserved("%v", err)
		}
		path, status := shell.LookPath(c.root, strings.TrimPrefix(c.dir, c.root), c.getenv("PATH"), name)
		if status != 0 {
			code = 1
			continue
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(c.dir, path)
		}
		fmt.Fprintln(c.stdout, strings.TrimPrefix(path, c.root))
	}
	return code
}

// xargs is xargs [-0] [-r] [-n N] [-I TEXT] [-P N] [command [args]]; commands run one after another.
func xargs(c *call) int {
	var null, quiet bool
	atOnce, place := 5000, ""
	args := c.args[1:]
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		flag, value := args[0], ""
		args = args[1:]
		if len(flag) > 2 && strings.Contains("nIP", flag[1:2]) {
			flag, value = flag[:2], flag[2:]
		} else if strings.Contains("-n -I -P", flag) && len(flag) == 2 {
			if len(args) == 0 {
				return c.fail(1, "option %s requires an argument", flag)
			}
			value, args = args[0], args[1:]
		}
		n, err := strconv.Atoi(value)
		switch flag {
		case "-0", "--null":
			null = true
		case "-r", "--no-run-if-empty":
			quiet = true
		case "-n":
			if atOnce = n; err != nil || n < 1 {
				return c.fail(1, "invalid number '%s'", value)
			}
		case "-I":
			place = value
		case "-P":
		default:
			return c.unserved("the option %s is not served", flag)
		}
	}
	if len(args) == 0 {
		args = []string{"echo"}
	}
	data, err := io.ReadAll(c.stdin)
	if err != nil {
		return c.fail(1, "%v", err)
	}
	if !null && (strings.Contains(string(data), `\`) || place != "" && strings.ContainsAny(string(data), "'\"")) {
		return c.unserved("a backslash, or quotes with -I, is not served")
	}
	if len(data) > maxTogether && place == "" && atOnce > 1 {
		return c.unserved("more names than one command takes")
	}
	items := splitItems(string(data), null, place != "")
	if len(items) == 0 && (quiet || place != "") {
		return 0
	}
	code := 0
	for first := true; first || len(items) > 0; first = false {
		argv := slices.Clone(args)
		if place != "" {
			for i := range argv {
				argv[i] = strings.ReplaceAll(argv[i], place, strings.TrimLeft(items[0], " \t"))
			}
			items = items[1:]
		} else {
			n := min(atOnce, len(items))
			argv, items = append(argv, items[:n]...), items[n:]
		}
		switch n := c.runOther(argv, bytes.NewReader(nil)); {
		case n == 127 || n == 126:
			return n
		case n != 0:
			code = 123
		}
	}
	return code
}

// splitItems cuts xargs' input: at null bytes, at lines (-I), or at blanks outside of quotes.
func splitItems(text string, null, byLine bool) []string {
	if null || byLine {
		sep := "\n"
		if null {
			sep = "\x00"
		}
		return slices.DeleteFunc(strings.Split(text, sep), func(s string) bool { return s == "" })
	}
	var items []string
	var item strings.Builder
	quote, open := rune(0), false
	for _, r := range text {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			item.WriteRune(r)
		case r == '"' || r == '\'':
			quote, open = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if open {
				items = append(items, item.String())
				item.Reset()
			}
			open = false
		default:
			item.WriteRune(r)
			open = true
		}
	}
	if open {
		items = append(items, item.String())
	}
	return items
}

// runTime is time COMMAND; sh has no such word of its own.
func runTime(c *call) int {
	args := c.args[1:]
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		args = args[1:]
	}
	if len(args) == 0 {
		return 0
	}
	start := time.Now()
	code := c.runOther(args, c.stdin)
	d := time.Since(start)
	fmt.Fprintf(c.stderr, "real\t%dm %.2fs\n", int(d.Minutes()), d.Seconds()-60*float64(int(d.Minutes())))
	return code
}

func yes(c *call) int {
	line := "y"
	if len(c.opt.args) > 0 {
		line = strings.Join(c.opt.args, " ")
	}
	for c.ctx.Err() == nil {
		if _, err := fmt.Fprintln(c.stdout, line); err != nil {
			return 0
		}
	}
	return 143
}
