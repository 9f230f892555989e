package busybox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/skiff-build/skiff/internal/envlist"
)

// call is one run of a command of the base: what a process has, without being one, so that the shell can run
// its commands without starting a process for each.
type call struct {
	ctx            context.Context
	args           []string // args[0] is the name
	argv0          string   // as it was called, such as /bin/sh; empty: args[0]
	dir            string   // working directory, absolute
	env            []string // KEY=value
	stdin          io.Reader
	stdout, stderr io.Writer
	root           string // "" outside of tests: where /etc and /home lie
	self           string // what symlinks to this program point to; "" is LibexecPath
	opt            options
	raw            io.Writer   // what stdout is gathered for
	flush          func()      // writes what is gathered
	refuse         func(error) // nil outside of tests: see [call.unserved]
}

// command is one command of the base. flags names the short options that it takes, in the form of getopt(3);
// long maps long options to short ones, with a colon after those that take a value. raw commands read their
// arguments themselves. run returns the exit code.
type command struct {
	run   func(*call) int
	flags string
	long  map[string]string
	raw   bool
	// check says of arguments, as far as they are known, why they are not served; nil: what flags and long say is all.
	check func(v Variant, args []Value) string
}

// Applet returns what to run when this process was started as one of the base's commands: args is os.Args of a process, whose first is the name it was called by. run returns the exit code.
func Applet(args []string) (run func() int, ok bool) {
	if len(args) == 0 {
		return nil, false
	}
	if goOnly() {
		return func() int {
			fmt.Fprintf(os.Stderr, "%s: not permitted: this step runs the go command alone\n", args[0])
			return 126
		}, true
	}
	name := filepath.Base(strings.TrimPrefix(args[0], "-"))
	if _, ok := commands()[name]; !ok {
		return nil, false
	}
	return func() int {
		dir, err := os.Getwd()
		if err != nil {
			dir = "/"
		}
		return runCommand(&call{
			ctx: context.Background(), args: append([]string{name}, args[1:]...), argv0: args[0], dir: dir, env: os.Environ(),
			stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		})
	}, true
}

// goOnlyPath is there in a step that is confined to the go command, so that what it writes to Go's caches can be trusted
// (internal/engine). Nothing can be run in it but the toolchain, and this program: which then is the step's shell, and what
// serves GOCACHEPROG, but none of the commands that the go command might be made to start.
const goOnlyPath = LibexecPath + "-go-only"

// goOnly says whether this process was started by another one of such a step. The step's own first process is its shell.
func goOnly() bool {
	if os.Getpid() == 1 {
		return false
	}
	_, err := os.Lstat(goOnlyPath)
	return err == nil
}

// CommandNames lists the commands of the base, sorted.
func CommandNames() []string {
	var names []string
	for name := range commands() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// runCommand runs the command that c.args[0] names.
func runCommand(c *call) int {
	cmd, ok := commands()[c.args[0]]
	if !ok {
		return c.fail(127, "not found")
	}
	if !cmd.raw {
		opt, err := parseOptions(cmd, c.args[1:])
		if err != nil {
			return c.unserved("%v", err)
		}
		c.opt = opt
	}
	if IsShell(c.args[0]) || c.args[0] == "make" { // its commands write for themselves
		return cmd.run(c)
	}
	return c.buffered(cmd.run)
}

// output gathers what a command writes. Nobody reading any more ends the command, as SIGPIPE does.
type output struct {
	w   io.Writer
	buf []byte
}

// brokenPipe ends a command.
type brokenPipe struct{}

func (o *output) Write(p []byte) (int, error) {
	o.buf = append(o.buf, p...)
	if len(o.buf) > 16<<10 {
		o.flush()
	}
	return len(p), nil
}

func (o *output) flush() {
	if len(o.buf) == 0 {
		return
	}
	_, err := o.w.Write(o.buf)
	o.buf = o.buf[:0]
	switch {
	case errors.Is(err, syscall.EPIPE):
		panic(brokenPipe{})
	case err != nil:
		panic(err)
	}
}

// buffered runs a command with its output gathered.
func (c *call) buffered(run func(*call) int) (code int) {
	raw := c.stdout
	out := &output{w: raw}
	c.stdout, c.flush, c.raw = out, out.flush, raw
	defer func() {
		switch p := recover().(type) {
		case nil:
		case brokenPipe:
			code = 128 + int(syscall.SIGPIPE)
		case error:
			code = c.fail(1, "write error: %s", why(p))
		default:
			panic(p)
		}
	}()
	code = run(c)
	out.flush()
	return code
}

// table is all commands, made at first use: the shell in it refers to the table again.
var table struct {
	once sync.Once
	all  map[string]command
}

// commands returns the table of all commands by name.
func commands() map[string]command {
	table.once.Do(func() {
		table.all = shellCommands()
		for _, group := range []map[string]command{
			fileCommands(), listCommands(), textCommands(), systemCommands(), accountCommands(), packageCommands(), compilerCommands(), makeCommands(),
		} {
			maps.Copy(table.all, group)
		}
	})
	return table.all
}

func shellCommands() map[string]command {
	return map[string]command{
		"sh": {run: runShell, raw: true}, "ash": {run: runShell, raw: true},
		"bash": {run: runShell, raw: true}, "dash": {run: runShell, raw: true},
		"true":  {run: func(*call) int { return 0 }, raw: true},
		"false": {run: func(*call) int { return 1 }, raw: true},
		"test":  {run: runBuiltin, raw: true}, "[": {run: runBuiltin, raw: true},
		"echo": {run: runBuiltin, raw: true}, "printf": {run: runBuiltin, raw: true},
	}
}

// options are the options and operands of a call.
type options struct {
	set  map[string]bool
	val  map[string][]string
	args []string // operands
}

func (o options) has(name string) bool { return o.set[name] }

// value returns the last value given for an option, or "".
func (o options) value(name string) string {
	if v := o.val[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// parseOptions reads options as getopt_long does: short ones in clusters, options after operands, "--".
func parseOptions(cmd command, args []string) (options, error) {
	o := options{set: map[string]bool{}, val: map[string][]string{}}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			o.args = append(o.args, args...)
			return o, nil
		case strings.HasPrefix(arg, "--"):
			name, value, given := strings.Cut(arg[2:], "=")
			short, known := cmd.long[name]
			if !known {
				return o, fmt.Errorf("unrecognized option --%s", name)
			}
			short, takes := strings.CutSuffix(short, ":")
			if takes && !given {
				if len(args) == 0 {
					return o, fmt.Errorf("option --%s requires an argument", name)
				}
				value, args = args[0], args[1:]
			}
			o.put(short, value, takes)
		case len(arg) > 1 && arg[0] == '-':
			rest, err := o.cluster(cmd.flags, arg[1:], args)
			if err != nil {
				return o, err
			}
			args = rest
		default:
			o.args = append(o.args, arg)
		}
	}
	return o, nil
}

func (o *options) put(name, value string, takes bool) {
	o.set[name] = true
	if takes {
		o.val[name] = append(o.val[name], value)
	}
}

// cluster reads "-rf" or "-m755"; it returns the arguments that follow.
func (o *options) cluster(flags, text string, args []string) ([]string, error) {
	for i := 0; i < len(text); i++ {
		at := strings.IndexByte(flags, text[i])
		if at < 0 || text[i] == ':' {
			return nil, fmt.Errorf("unrecognized option -%c", text[i])
		}
		if at+1 >= len(flags) || flags[at+1] != ':' {
			o.put(text[i:i+1], "", false)
			continue
		}
		if i+1 < len(text) {
			o.put(text[i:i+1], text[i+1:], true)
			return args, nil
		}
		if len(args) == 0 {
			return nil, fmt.Errorf("option -%c requires an argument", text[i])
		}
		o.put(text[i:i+1], args[0], true)
		return args[1:], nil
	}
	return args, nil
}

// fail prints "name: message" and returns code.
func (c *call) fail(code int, format string, args ...any) int {
	fmt.Fprintf(c.stderr, "%s: %s\n", c.args[0], fmt.Sprintf(format, args...))
	return code
}

// abs returns a path of this call as the process may open it.
func (c *call) abs(name string) string {
	if filepath.IsAbs(name) {
		return filepath.Join(c.root, name)
	}
	if name == "" {
		return ""
	}
	joined := filepath.Join(c.dir, name)
	// A trailing slash or dot asks that a link be followed; Join would drop it.
	if strings.HasSuffix(name, "/") || path.Base(name) == "." {
		joined += "/."
	}
	return joined
}

// system returns the path of a file of the root, such as /etc/passwd.
func (c *call) system(name string) string { return filepath.Join(c.root, name) }

// getenv returns a variable's value, or "".
func (c *call) getenv(name string) string { return envlist.Get(c.env, name) }

// open opens an operand to read; "-" is standard input.
func (c *call) open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(c.stdin), nil
	}
	return os.Open(c.abs(name))
}

// why is the reason in an error of a system call, without the path that the caller prints.
func why(err error) string {
	switch {
	case os.IsNotExist(err):
		return "No such file or directory"
	case os.IsExist(err):
		return "File exists"
	case os.IsPermission(err):
		return "Permission denied"
	}
	text := err.Error()
	if i := strings.LastIndex(text, ": "); i >= 0 {
		return text[i+2:]
	}
	return text
}
