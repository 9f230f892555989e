package busybox

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/skiff-build/skiff/internal/shell"
)

// ShellArgs is a shell's command line: sh [-aefnux] [-o option] [-c text [name]] [file] [args].
type ShellArgs struct {
	Letters  string // options for set that are on
	pipefail bool
	Text     string // of -c
	IsText   bool
	Name     string // $0; empty: as the shell was called
	File     string // script; empty with -c, and for standard input
	Params   []string
}

// longShellOptions are the names that -o takes, with their letters.
var longShellOptions = map[string]string{"errexit": "e", "noglob": "f", "nounset": "u", "xtrace": "x", "allexport": "a"}

// ParseShellArgs reads the arguments after the shell's name. An option that is not served is an error.
func ParseShellArgs(v shell.Variant, args []string) (ShellArgs, error) {
	var a ShellArgs
	for len(args) > 0 && len(args[0]) > 1 && (args[0][0] == '-' || args[0][0] == '+') {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			break
		}
		if v == shell.Bash && (arg == "--norc" || arg == "--noprofile") {
			continue
		}
		for _, f := range arg[1:] {
			switch {
			case f == 'c' && arg[0] == '-':
				a.IsText = true
			case f == 'o' && arg[0] == '-':
				if len(args) == 0 {
					return a, errors.New("option -o requires an argument")
				}
				letter, known := longShellOptions[args[0]]
				if !known && (args[0] != "pipefail" || v == shell.Dash) {
					return a, fmt.Errorf("the shell's option -o %s is not served", args[0])
				}
				a.Letters, a.pipefail = a.Letters+letter, a.pipefail || args[0] == "pipefail"
				args = args[1:]
			case strings.ContainsRune("aefux", f) && arg[0] == '-':
				a.Letters += string(f)
			default:
				return a, fmt.Errorf("the shell's option %s is not served", arg)
			}
		}
	}
	switch {
	case a.IsText && len(args) == 0:
		return a, errors.New("-c requires an argument")
	case a.IsText:
		a.Text, args = args[0], args[1:]
		if len(args) > 0 {
			a.Name, args = args[0], args[1:]
		}
	case len(args) > 0:
		a.File, a.Name, args = args[0], args[0], args[1:]
	}
	a.Params = args
	return a, nil
}

// Shell is the shell that a name stands for in an image.
func (v Variant) Shell(name string) shell.Variant {
	switch {
	case filepath.Base(name) == "bash":
		return shell.Bash
	case v == Alpine:
		return shell.Ash
	}
	return shell.Dash
}

// variant is which image's commands this root has. Its /etc/os-release says so.
func (c *call) variant() Variant {
	release, _ := os.ReadFile(c.system("/etc/os-release")) // without one it is as in a bare Alpine
	if bytes.Contains(release, []byte("ID=debian")) {
		return Debian
	}
	return Alpine
}

// runShell is sh, ash, dash and bash.
func runShell(c *call) int {
	v := c.variant().Shell(c.args[0])
	a, err := ParseShellArgs(v, c.args[1:])
	if err != nil {
		return c.unserved("%v", err)
	}
	text, stdin := a.Text, c.stdin
	switch {
	case a.IsText:
	case a.File != "":
		data, err := os.ReadFile(c.abs(a.File))
		if err != nil {
			return c.unserved("%s: %s", a.File, why(err))
		}
		text = string(data)
	default:
		data, err := io.ReadAll(c.stdin)
		if err != nil {
			return c.unserved("%v", err)
		}
		text, stdin = string(data), bytes.NewReader(nil)
	}
	script, err := shell.Parse(v, text)
	if err != nil {
		return c.unserved("%v", err)
	}
	s := c.shell(v)
	s.Name, s.Params, s.Options, s.Pipefail, s.Stdin = cmp.Or(a.Name, c.calledAs()), a.Params, a.Letters, a.pipefail, stdin
	return s.Run(c.ctx, script)
}

// calledAs is the command's name as it was called.
func (c *call) calledAs() string { return cmp.Or(c.argv0, c.args[0]) }

// shell is a shell in the place of this command.
func (c *call) shell(v shell.Variant) *shell.Shell {
	return &shell.Shell{
		Variant: v, Env: c.env, Dir: cmp.Or(strings.TrimPrefix(c.dir, c.root), "/"), Root: c.root, Stdin: c.stdin, Stdout: c.stdout, Stderr: c.stderr, Exec: c.execute,
		Unserved: func(err error) { c.unserved("%v", err) },
		Missing:  c.missing, Which: c.which,
	}
}

// missing is an error for a command that the image has and the base has not.
func (c *call) missing(name string) error {
	if imageCommands(c.variant())[filepath.Base(name)] {
		return fmt.Errorf("%s is not in the built-in base, and the image has it", name)
	}
	return nil
}

// which is what command -v says of a name: where the image has it can be told of Debian's commands alone.
func (c *call) which(name string) (string, bool, error) {
	v := c.variant()
	if !imageCommands(v)[name] {
		return "", false, nil // a program of the stage, or none
	}
	if _, ours := commands()[name]; !ours || v == Alpine {
		return "", false, fmt.Errorf("where the image has %s is not known", name)
	}
	return "", false, nil
}

// execute runs what is no part of the shell: the commands of the base within this process, and all others as processes.
func (c *call) execute(ctx context.Context, cmd *shell.Command) (int, error) {
	stdin, stdout, stderr := orEmpty(cmd.Stdin), orNowhere(cmd.Stdout), orNowhere(cmd.Stderr)
	// A shell is a process of its own outside of tests: its umask and its signals are.
	if name, ours := c.isOurs(cmd.Path); ours && (!IsShell(name) || c.self != "") {
		return runCommand(&call{
			ctx: ctx, args: append([]string{name}, cmd.Args[1:]...), argv0: cmd.Args[0], dir: cmd.Dir, env: cmd.Env,
			stdin: stdin, stdout: stdout, stderr: stderr, root: c.root, self: c.self, refuse: c.refuse,
		}), nil
	}
	p := exec.CommandContext(ctx, cmd.Path)
	p.Args, p.Dir, p.Env, p.Stdin, p.Stdout, p.Stderr = cmd.Args, cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr
	if name := cmd.Args[0]; strings.Contains(name, "/") && !filepath.IsAbs(name) {
		p.Path = name // relative to the folder: a script's $0 is what it was called by
	}
	most := 2
	for n := range cmd.Extra {
		most = max(most, n)
	}
	for n := 3; n <= most; n++ {
		f, _ := cmd.Extra[n].(*os.File) // nil leaves the descriptor closed
		p.ExtraFiles = append(p.ExtraFiles, f)
	}
	code, err := exitCode(ctx, p.Run())
	if errors.Is(err, syscall.ENOEXEC) { // the shells read it as a script of their own, make by /bin/sh
		err = fmt.Errorf("%s is no program and has no #!", cmd.Path)
	}
	return code, err
}

// exitCode is the exit code that a shell sees of a process.
func exitCode(ctx context.Context, err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return 128 + int(s.Signal()), nil
		}
		return exit.ExitCode() & 0xff, nil
	case ctx.Err() != nil:
		return 143, nil
	}
	return 126, err
}

// IsShell reports whether a name is one of the shell's.
func IsShell(name string) bool {
	return name == "sh" || name == "ash" || name == "dash" || name == "bash"
}

func orEmpty(r io.Reader) io.Reader {
	if r == nil {
		return bytes.NewReader(nil)
	}
	return r
}

// orNowhere is a writer for a descriptor that is closed: what is written to it is an error.
func orNowhere(w io.Writer) io.Writer {
	if w == nil {
		return closed{}
	}
	return w
}

type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, syscall.EBADF }

// isOurs reports whether a file is this program, and under which name.
func (c *call) isOurs(file string) (string, bool) {
	for range 10 {
		target, err := os.Readlink(file)
		if err != nil {
			return "", false
		}
		if target == cmp.Or(c.self, LibexecPath) {
			name := filepath.Base(file)
			_, ok := commands()[name]
			return name, ok
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(file), target)
		}
		file = target
	}
	return "", false
}

// runBuiltin runs a command that the shell has built in, when it is started as a process of its own. Debian's are coreutils', of
// which bash's are nearer than dash's.
func runBuiltin(c *call) int {
	v := shell.Ash
	if c.variant() == Debian {
		v = shell.Bash
		if len(c.args) == 2 && (c.args[1] == "--help" || c.args[1] == "--version") {
			return c.unserved("%s %s is not served", c.args[0], c.args[1])
		}
	}
	s := c.shell(v)
	s.Name, s.Stdout = c.args[0], c.raw
	return s.RunBuiltin(c.ctx, c.args)
}

// unservedPath is where a step has a file for the reason why the base does not serve it. Whatever is written there makes the
// build start the stage again on the image, whatever the step's exit code is.
const unservedPath = LibexecPath + "-unserved"

// unserved ends the step: it asks for what the base does not have, or would do in another way than the image.
func (c *call) unserved(format string, args ...any) int {
	err := fmt.Errorf(format, args...)
	if c.refuse != nil {
		c.refuse(err)
		return unservedCode
	}
	what := strings.Join(append([]string{c.args[0]}, c.args[1:]...), " ")
	if IsShell(c.args[0]) {
		what = c.args[0]
	}
	message := fmt.Sprintf("%s: %v", Shown(what), err)
	fmt.Fprintf(c.stderr, "the built-in Go base does not serve this: %s\n", message)
	if f, err := os.OpenFile(c.system(unservedPath), os.O_WRONLY|os.O_APPEND, 0); err == nil {
		fmt.Fprintln(f, message) // an error leaves the exit code, which ends the step
		f.Close()
	}
	os.Exit(unservedCode)
	return unservedCode
}

// unservedCode is the exit code of what is not served.
const unservedCode = 125
