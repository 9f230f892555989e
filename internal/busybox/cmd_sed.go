package busybox

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// sedAddress is a line's number, the last line, or a pattern.
type sedAddress struct {
	line int
	last bool
	re   *regexp.Regexp
}

// sedCommand is one command of a script.
type sedCommand struct {
	first, second *sedAddress
	not           bool
	name          byte
	text          string // of a, i, c; label of b, t, :
	re            *regexp.Regexp
	with          []sedPart // of s
	global, print bool
	nth           int
	from, to      string // of y
	jump          int    // of b, t, {: the command to go on with

	active bool // within its range
}

// sedPart is a part of a replacement: text, or the group of a number.
type sedPart struct {
	text  string
	group int // -1: text
}

// sedArgs are sed's arguments: [-n] [-E|-r] [-i[SUFFIX]] [-e SCRIPT]... [SCRIPT] [FILE]...
type sedArgs struct {
	quiet, extended, inPlace bool
	suffix                   string
	script                   string
	names                    []string
}

func parseSedArgs(args []string) (a sedArgs, err error) {
	var scripts []string
	given, options := false, true
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case !options || arg == "-" || !strings.HasPrefix(arg, "-"):
			a.names = append(a.names, arg)
			continue
		case arg == "--":
			options = false
			continue
		case arg == "--quiet" || arg == "--silent":
			a.quiet = true
			continue
		case arg == "--regexp-extended":
			a.extended = true
			continue
		case strings.HasPrefix(arg, "--expression="):
			scripts, given = append(scripts, arg[len("--expression="):]), true
			continue
		case arg == "--in-place":
			a.inPlace = true
			continue
		case strings.HasPrefix(arg, "--"):
			return a, fmt.Errorf("the option %s is not served", arg)
		}
	letters:
		for i := 1; i < len(arg); i++ {
			switch arg[i] {
			case 'n':
				a.quiet = true
			case 'E', 'r':
				a.extended = true
			case 'i':
				a.inPlace, a.suffix = true, arg[i+1:]
				break letters
			case 'e':
				text := arg[i+1:]
				if text == "" {
					if len(args) == 0 {
						return a, errors.New("-e without a script")
					}
					text, args = args[0], args[1:]
				}
				scripts, given = append(scripts, text), true
				break letters
			default:
				return a, fmt.Errorf("the option -%c is not served", arg[i])
			}
		}
	}
	if !given {
		if len(a.names) == 0 {
			return a, errors.New("without a script")
		}
		scripts, a.names = a.names[:1], a.names[1:]
	}
	if strings.ContainsAny(a.suffix, "*/") || a.inPlace && (len(a.names) == 0 || slices.Contains(a.names, "-")) {
		return a, errors.New("-i of this is not served")
	}
	a.script = strings.Join(scripts, "\n")
	return a, nil
}

func checkSed(v Variant, args []Value) string {
	texts, all := known(args)
	if !all {
		return ""
	}
	a, err := parseSedArgs(texts)
	var commands []*sedCommand
	if err == nil {
		commands, err = parseSed(a.script, a.extended)
	}
	if err == nil {
		err = sedUnserved(v, commands)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// sedUnserved says what BusyBox's does in ways of its own: after the first match ^ matches again, an empty match is counted in another
// way, and a range of numbers begins at a line that n has passed over.
func sedUnserved(v Variant, commands []*sedCommand) error {
	if v != Alpine {
		return nil
	}
	passes := slices.ContainsFunc(commands, func(c *sedCommand) bool { return c.name == 'n' || c.name == 'N' })
	for _, c := range commands {
		if c.re != nil && (c.global || c.nth > 0) && strings.Contains(strings.ReplaceAll(c.re.String(), "[^", ""), "^") {
			return errors.New("^ in s with g or a number is not served")
		}
		if c.nth > 0 && c.re.MatchString("") {
			return errors.New("s with a number, of what may be empty, is not served")
		}
		if passes && c.second != nil && c.first.line > 0 {
			return errors.New("a range of lines beside n or N is not served")
		}
	}
	return nil
}

func sed(c *call) int {
	a, err := parseSedArgs(c.args[1:])
	if err != nil {
		return c.unserved("%v", err)
	}
	commands, err := parseSed(a.script, a.extended)
	if err == nil {
		err = sedUnserved(c.variant(), commands)
	}
	if err != nil {
		return c.unserved("%v", err)
	}
	if !a.inPlace {
		return c.sedStream(commands, a)
	}
	code := 0
	for _, name := range a.names {
		if err := c.sedFile(name, a); err != nil {
			code = c.fail(4, "can't read %s: %s", name, why(err))
			if c.variant() == Alpine {
				code = 1
			}
		}
	}
	return code
}

// sedFile edits a file in its place: it is written beside it and renamed, with the mode and the owner of the old one.
func (c *call) sedFile(name string, a sedArgs) error {
	commands, err := parseSed(a.script, a.extended)
	if err != nil {
		return err
	}
	path := c.abs(name)
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		c.unserved("-i of what is no regular file is not served")
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(path), "sed*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // it has been renamed where all went well
	buffered := bufio.NewWriter(out)
	run := &sedRun{c: c, commands: commands, quiet: a.quiet, out: buffered, in: bufio.NewReader(in), more: func() *bufio.Reader { return nil }}
	if err := run.run(); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	if uid, gid, ok := ownerOf(info); ok {
		if err := os.Chown(out.Name(), uid, gid); err != nil {
			return err
		}
	}
	if err := out.Chmod(info.Mode()); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	if a.suffix != "" {
		if err := os.Rename(path, path+a.suffix); err != nil {
			return err
		}
	}
	return os.Rename(out.Name(), path)
}

func (c *call) sedStream(commands []*sedCommand, a sedArgs) int {
	names, code := a.names, 0
	if len(names) == 0 {
		names = []string{"-"}
	}
	run := &sedRun{c: c, commands: commands, quiet: a.quiet, out: c.stdout}
	run.more = func() *bufio.Reader {
		for len(names) > 0 {
			name := names[0]
			names = names[1:]
			r, err := c.open(name)
			if err == nil {
				return bufio.NewReaderSize(r, 4096)
			}
			code = c.fail(2, "can't read %s: %s", name, why(err))
			if c.variant() == Alpine {
				code = 1
			}
		}
		return nil
	}
	run.in = run.more()
	if run.in == nil {
		return code
	}
	if err := run.run(); err != nil {
		return c.unserved("%v", err)
	}
	return code
}
