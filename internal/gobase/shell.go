package gobase

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// shellArgs is a shell's command line: sh [-abefnuvx] [-o option] [-c text [name]] [file] [args].
type shellArgs struct {
	set    []string // options for set: "-e", "-o", "pipefail"
	text   string   // of -c
	isText bool
	name   string // $0
	file   string // script; empty with -c, and for standard input
	params []string
}

// parseShellArgs reads the arguments after the shell's name. Options that make no difference to a script that
// is not interactive (-l, -i, -s, --login, --norc, …) are accepted.
func parseShellArgs(args []string) (shellArgs, error) {
	a := shellArgs{name: "sh"}
	for len(args) > 0 && len(args[0]) > 1 && (args[0][0] == '-' || args[0][0] == '+') {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			break
		}
		if strings.HasPrefix(arg, "--") {
			if !slices.Contains([]string{"--login", "--norc", "--noprofile", "--posix"}, arg) {
				return a, fmt.Errorf("invalid option %s", arg)
			}
			continue
		}
		for _, f := range arg[1:] {
			switch {
			case f == 'c':
				a.isText = true
			case strings.ContainsRune("lisB", f):
			case f == 'o' || f == 'O':
				if len(args) == 0 {
					return a, fmt.Errorf("option -%c requires an argument", f)
				}
				if f == 'o' {
					a.set = append(a.set, arg[:1]+"o", args[0])
				}
				args = args[1:]
			case strings.ContainsRune("aefnux", f):
				a.set = append(a.set, arg[:1]+string(f))
			case strings.ContainsRune("bhmvCE", f):
				// Job control, hashing, echo of input, no clobber: no part of what a build step computes.
			default:
				return a, fmt.Errorf("invalid option -%c", f)
			}
		}
	}
	switch {
	case a.isText && len(args) == 0:
		return a, errors.New("-c requires an argument")
	case a.isText:
		a.text, args = args[0], args[1:]
		if len(args) > 0 {
			a.name, args = args[0], args[1:]
		}
	case len(args) > 0:
		a.file, a.name, args = args[0], args[0], args[1:]
	}
	a.params = args
	return a, nil
}

// parseScript reads a script as a POSIX shell does; where that fails, or where it uses words that BusyBox's
// shell has of bash ([[ ]], local, $'…'), as bash.
func parseScript(text, name string) (*syntax.File, error) {
	f, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(text), name)
	if err != nil || hasBashWords(f) {
		bash, bashErr := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), name)
		if bashErr != nil {
			return nil, cmp.Or(err, bashErr)
		}
		f = bash
	}
	escapeBraces(f)
	return f, nil
}

func hasBashWords(f *syntax.File) bool {
	found := false
	syntax.Walk(f, func(n syntax.Node) bool {
		if c, ok := n.(*syntax.CallExpr); ok && len(c.Args) > 0 {
			found = found || slices.Contains(bashWords, c.Args[0].Lit())
		}
		return !found
	})
	return found
}

// bashWords are words that every shell has, or BusyBox's, and that the parser knows in bash alone: in its POSIX variant they are
// commands like any others, which the interpreter then does not have.
var bashWords = []string{"[[", "local", "let", "declare", "typeset", "export", "readonly"}

// escapeBraces keeps {a,b} as it is: sh does not expand it, and the interpreter would.
func escapeBraces(f *syntax.File) {
	escape := func(words []*syntax.Word) {
		for _, w := range words {
			for _, p := range w.Parts {
				if l, ok := p.(*syntax.Lit); ok {
					l.Value = braceRE.ReplaceAllString(l.Value, `$1\{`)
				}
			}
		}
	}
	syntax.Walk(f, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.CallExpr:
			escape(n.Args)
		case *syntax.WordIter:
			escape(n.Items)
		}
		return true
	})
}

// braceRE finds braces that no backslash stands before.
var braceRE = regexp.MustCompile(`((?:^|[^\\])(?:\\\\)*)\{`)

func parseFor(shell, text, name string) (*syntax.File, error) {
	if shell == "bash" {
		return syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), name)
	}
	return parseScript(text, name)
}

// runShell is sh, ash, dash and bash.
func runShell(c *call) int {
	a, err := parseShellArgs(c.args[1:])
	if err != nil {
		return c.fail(2, "%v", err)
	}
	text, stdin := a.text, c.stdin
	switch {
	case a.isText:
	case a.file != "":
		data, err := os.ReadFile(c.abs(a.file))
		if err != nil {
			return c.fail(127, "can't open '%s': %s", a.file, why(err))
		}
		text = string(data)
	default:
		data, err := io.ReadAll(c.stdin)
		if err != nil {
			return c.fail(2, "%v", err)
		}
		text, stdin = string(data), bytes.NewReader(nil)
	}
	file, err := parseFor(c.args[0], text, a.name)
	if err != nil {
		return c.fail(2, "%s", strings.TrimPrefix(err.Error(), a.name+":"))
	}
	return c.interpret(file, append(a.set, append([]string{"--"}, a.params...)...), stdin)
}

// interpret runs a parsed script; params are as for set.
func (c *call) interpret(file *syntax.File, params []string, stdin io.Reader) int {
	runner, err := interp.New(
		interp.StdIO(stdin, c.stdout, c.stderr),
		interp.Env(expand.ListEnviron(c.env...)),
		interp.Dir(c.dir),
		interp.Params(params...),
		interp.ExecHandlers(c.execHandler),
	)
	if err != nil {
		return c.fail(2, "%v", err)
	}
	err = runner.Run(c.ctx, file)
	var status interp.ExitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	}
	return c.fail(2, "%v", err)
}

// execHandler runs the commands of the base within this process, and all others as processes.
func (c *call) execHandler(next interp.ExecHandlerFunc) interp.ExecHandlerFunc {
	return func(ctx context.Context, args []string) error {
		hc := interp.HandlerCtx(ctx)
		name, ours := c.isOurs(hc, args[0])
		if !ours {
			if _, err := interp.LookPathDir(hc.Dir, hc.Env, args[0]); err != nil {
				fmt.Fprintf(hc.Stderr, "%s: %s: not found\n", c.args[0], args[0])
				return interp.ExitStatus(127)
			}
			return next(ctx, args)
		}
		env := []string{}
		hc.Env.Each(func(name string, v expand.Variable) bool {
			if v.Exported && v.Kind == expand.String {
				env = append(env, name+"="+v.Str)
			}
			return true
		})
		code := runCommand(&call{
			ctx: ctx, args: append([]string{name}, args[1:]...), dir: hc.Dir, env: env,
			stdin: orEmpty(hc.Stdin), stdout: hc.Stdout, stderr: hc.Stderr, root: c.root, self: c.self,
		})
		if code == 0 {
			return nil
		}
		return interp.ExitStatus(code)
	}
}

func orEmpty(r io.Reader) io.Reader {
	if r == nil {
		return bytes.NewReader(nil)
	}
	return r
}

// isOurs finds the command in PATH and reports whether it is this program.
func (c *call) isOurs(hc interp.HandlerContext, word string) (string, bool) {
	found, err := interp.LookPathDir(hc.Dir, hc.Env, word)
	if err != nil {
		return "", false
	}
	for range 10 {
		target, err := os.Readlink(found)
		if err != nil {
			return "", false
		}
		if target == cmp.Or(c.self, LibexecPath) {
			name := filepath.Base(found)
			_, ok := commands()[name]
			return name, ok
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(found), target)
		}
		found = target
	}
	return "", false
}

// runBuiltin runs a command that the shell has built in, when it is started as a process of its own.
func runBuiltin(c *call) int {
	var line strings.Builder
	if c.args[0] == "[" || c.args[0] == "test" || c.args[0] == "echo" || c.args[0] == "printf" {
		for i, arg := range c.args {
			quoted, err := syntax.Quote(arg, syntax.LangBash)
			if err != nil {
				return c.fail(2, "%v", err)
			}
			if i == 0 {
				quoted = arg
			}
			line.WriteString(quoted + " ")
		}
	}
	file, err := syntax.NewParser().Parse(strings.NewReader(line.String()), c.args[0])
	if err != nil {
		return c.fail(2, "%v", err)
	}
	return c.interpret(file, nil, c.stdin)
}
