package gnumake

import (
	"fmt"
	"strconv"
	"strings"
)

// options is a command line, with what MAKEFLAGS adds.
type options struct {
	always, touch, question, dry, silent, ignore, keepGoing bool // -B -t -q -n -s -i -k
	envOverrides, noRules, noVariables, checkLinks          bool // -e -r -R -L
	warnUndefined                                           bool
	wantDirectory, noDirectory                              bool // -w, --no-print-directory
	implied                                                 bool // -w by -C or by a level
	jobs                                                    int  // 0: any number
	jobsGiven                                               bool
	sync                                                    string
	dirs, files, includes                                   []string
	old, fresh                                              []string // -o, -W
	evals                                                   []string
	overrides                                               []string // NAME=VALUE
	goals                                                   []string
}

func (o *options) printDirectory() bool {
	return !o.noDirectory && (o.wantDirectory || o.implied && !o.silent)
}

// letters are the flags without an argument, in the order in which MAKEFLAGS has them.
const letters = "BeikLnqrRstw"

// flag is where a letter's value is.
func (o *options) flag(c byte) *bool {
	switch c {
	case 'B':
		return &o.always
	case 'e':
		return &o.envOverrides
	case 'i':
		return &o.ignore
	case 'k':
		return &o.keepGoing
	case 'L':
		return &o.checkLinks
	case 'n':
		return &o.dry
	case 'q':
		return &o.question
	case 'r':
		return &o.noRules
	case 'R':
		return &o.noVariables
	case 's':
		return &o.silent
	case 't':
		return &o.touch
	case 'w':
		return &o.wantDirectory
	}
	return nil
}

// longFlags are the long names of letters.
var longFlags = map[string]byte{
	"always-make": 'B', "environment-overrides": 'e', "ignore-errors": 'i', "keep-going": 'k', "check-symlink-times": 'L',
	"just-print": 'n', "dry-run": 'n', "recon": 'n', "question": 'q', "no-builtin-rules": 'r', "no-builtin-variables": 'R',
	"silent": 's', "quiet": 's', "touch": 't', "print-directory": 'w', "no-keep-going": 'S', "stop": 'S',
	"directory": 'C', "file": 'f', "makefile": 'f', "include-dir": 'I', "jobs": 'j', "load-average": 'l', "max-load": 'l',
	"old-file": 'o', "assume-old": 'o', "what-if": 'W', "new-file": 'W', "assume-new": 'W', "output-sync": 'O', "eval": 'E',
	"debug": 'd', "print-data-base": 'p', "version": 'v', "help": 'h', "no-print-directory": 1, "warn-undefined-variables": 2,
	"no-silent": 3, "trace": 'd', "jobserver-auth": 4, "jobserver-fds": 4, "sync-mutex": 4, "shuffle": 'd', "jobserver-style": 'd',
}

// withArgument are the letters that take one; those of mayArgument may have one.
const (
	withArgument = "CfIoWE"
	mayArgument  = "jlO"
)

// decode reads MAKEFLAGS and the command line.
func (k *maker) decode() {
	o := &k.opts
	o.jobs = 1
	for _, name := range []string{"GNUMAKEFLAGS", "MAKEFLAGS"} {
		if text := k.env[name]; text != "" {
			k.decodeFlags(text)
		}
	}
	k.arguments(k.Args, false)
	if o.noVariables {
		o.noRules = true
	}
	if k.level > 0 || len(o.dirs) > 0 {
		o.implied = true
	}
}

// decodeFlags reads the value of MAKEFLAGS.
func (k *maker) decodeFlags(text string) {
	var list []string
	var b strings.Builder
	in := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
			in = true
		case c == '$' && i+1 < len(text) && text[i+1] == '$':
			i++
			b.WriteByte('$')
			in = true
		case isSpace(c):
			if in {
				list = append(list, b.String())
			}
			b.Reset()
			in = false
		default:
			b.WriteByte(c)
			in = true
		}
	}
	if in {
		list = append(list, b.String())
	}
	if len(list) == 0 {
		return
	}
	if !strings.HasPrefix(list[0], "-") && !strings.Contains(list[0], "=") {
		list[0] = "-" + list[0]
	}
	k.arguments(list, true)
}

// arguments reads options, assignments and goals. Those of the environment have no goals, and their errors are none.
func (k *maker) arguments(args []string, env bool) {
	only := false
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case only || arg == "-" || !strings.HasPrefix(arg, "-"):
			k.operand(arg, env)
		case arg == "--":
			only = true
		case strings.HasPrefix(arg, "--"):
			name, value, has := strings.Cut(arg[2:], "=")
			c := k.long(name, env)
			switch {
			case c == 0:
				continue
			case strings.IndexByte(withArgument, c) >= 0 && !has:
				if i++; i >= len(args) {
					k.usage("option '--%s' requires an argument", name)
				}
				value = args[i]
			case c == 'j' && !has && i+1 < len(args) && isNumber(args[i+1]):
				i++
				value, has = args[i], true
			}
			k.option(c, value, has, arg)
		default:
			for n := 1; n < len(arg); n++ {
				c, value, has := arg[n], "", false
				if strings.IndexByte(withArgument+mayArgument, c) >= 0 && c != 'E' {
					if value = arg[n+1:]; value != "" {
						has = true
					} else if strings.IndexByte(withArgument, c) >= 0 {
						if i++; i >= len(args) {
							k.usage("option requires an argument -- '%c'", c)
						}
						value, has = args[i], true
					} else if (c == 'j' || c == 'l') && i+1 < len(args) && isNumber(args[i+1]) {
						i++
						value, has = args[i], true
					}
					n = len(arg)
				}
				k.option(c, value, has, arg)
			}
		}
	}
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// operand is a goal or an assignment.
func (k *maker) operand(arg string, env bool) {
	o := &k.opts
	if a, ok := parseAssignment(arg); ok && a.name != "" {
		for i, old := range o.overrides { // a later assignment counts, and stands first
			if b, _ := parseAssignment(old); b.name == a.name && a.flavor != appending {
				o.overrides = append(o.overrides[:i:i], o.overrides[i+1:]...)
				break
			}
		}
		o.overrides = append(o.overrides, arg)
		return
	}
	if !env && arg != "" {
		o.goals = append(o.goals, arg)
	}
}

// long is the letter of a long option, which may be cut short.
func (k *maker) long(name string, env bool) byte {
	if c, ok := longFlags[name]; ok {
		return c
	}
	var found byte
	for full, c := range longFlags {
		if strings.HasPrefix(full, name) {
			if found != 0 && found != c {
				k.usage("option '--%s' is ambiguous", name)
			}
			found = c
		}
	}
	if found == 0 && !env {
		k.usage("unrecognized option '--%s'", name)
	}
	return found
}

// usage is an error of the command line. The help that follows it is not had.
func (k *maker) usage(format string, args ...any) {
	k.unserved(nil, "the command line of make: "+format, args...)
}

func (k *maker) option(c byte, value string, has bool, arg string) {
	o := &k.opts
	if p := o.flag(c); p != nil && c != 'w' {
		*p = true
		return
	}
	switch c {
	case 'S':
		o.keepGoing = false
	case 'C':
		o.dirs = append(o.dirs, value)
	case 'f':
		o.files = append(o.files, value)
	case 'I':
		o.includes = append(o.includes, value)
	case 'o':
		o.old = append(o.old, value)
	case 'W':
		o.fresh = append(o.fresh, value)
	case 'j':
		o.jobsGiven = true
		if o.jobs = 0; has {
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 {
				k.usage("the '-%c' option requires a positive integer argument", c)
			}
			o.jobs = n
		}
	case 'O':
		if !has {
			value = "target"
		}
		if value != "none" && value != "target" {
			k.unserved(nil, "make -O%s is not served", value)
		}
		o.sync = value
	case 'm', 'b', 4:
	case 1:
		o.noDirectory, o.wantDirectory = true, false
	case 'w':
		o.wantDirectory = true
		if k.newer() { // the last one counts
			o.noDirectory = false
		}
	case 2:
		o.warnUndefined = true
	case 3:
		o.silent = false
	case 'E':
		o.evals = append(o.evals, value)
		k.unserved(nil, "make --eval is not served")
	default:
		k.unserved(nil, "make's option %s is not served", arg)
	}
}

// defineFlags sets MAKEFLAGS, MFLAGS and MAKEOVERRIDES; all for the recipes and not the reading.
func (k *maker) defineFlags(all bool) {
	o := &k.opts
	var short, rest []string
	cluster := ""
	for i := range len(letters) {
		c := letters[i]
		on := *o.flag(c)
		if c == 'w' {
			on = o.printDirectory() && (o.wantDirectory || !k.newer())
		}
		if on {
			cluster += string(c)
		}
	}
	if o.keepGoing || cluster != "" {
		short = append(short, cluster)
	}
	all = all || k.newer() // which shows all of them while Makefiles are read, too
	if all {
		for _, dir := range o.includes {
			rest = append(rest, "-I"+dir)
		}
		if o.jobsGiven && o.jobs != 1 {
			if o.jobs == 0 {
				rest = append(rest, "-j")
			} else {
				rest = append(rest, "-j"+itoa(o.jobs))
			}
		} else if o.jobsGiven {
			rest = append(rest, "-j1")
		}
		if o.sync != "" {
			rest = append(rest, "-O"+o.sync)
		}
	}
	if o.noDirectory {
		rest = append(rest, "--no-print-directory")
	}
	if o.warnUndefined {
		rest = append(rest, "--warn-undefined-variables")
	}
	flags := strings.Join(append(short, rest...), " ")
	if len(short) == 0 && len(rest) > 0 {
		flags = " " + flags
	}
	mflags := flags
	if flags != "" && len(short) > 0 {
		mflags = "-" + flags
	}
	set := func(name, value string, recursive bool) *variable {
		v := k.global.vars[name]
		if v == nil {
			v = &variable{name: name}
			k.global.vars[name] = v
		}
		if v.origin < fromCommand {
			v.value, v.recursive, v.origin = value, recursive, fromFile
		}
		return v
	}
	if len(o.overrides) > 0 {
		var list []string
		for i := len(o.overrides) - 1; i >= 0; i-- {
			list = append(list, quoteFlag(o.overrides[i]))
		}
		text := strings.Join(list, " ")
		set("-*-command-variables-*-", text, false).export = exportNo
		if v := k.global.vars["MAKEOVERRIDES"]; v == nil {
			set("MAKEOVERRIDES", "${-*-command-variables-*-}", true).export = exportYes
		}
		if all {
			flags += " -- $(MAKEOVERRIDES)"
		}
	}
	set("MFLAGS", strings.TrimPrefix(mflags, " "), true)
	v := set("MAKEFLAGS", flags, true)
	v.export = exportYes
}

// quoteFlag writes an assignment so that MAKEFLAGS can hold it.
func quoteFlag(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '$':
			b.WriteString("$$")
			continue
		case isSpace(c) || c == '\\':
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	// MAKEFLAGS is expanded once more on its way.
	return strings.ReplaceAll(b.String(), "$$", "$$$$")
}

// flagsAssigned takes over what a Makefile has set in MAKEFLAGS.
func (k *maker) flagsAssigned(v *variable) {
	text := k.expand(v.value)
	outer := k.opts
	k.opts.overrides = append([]string{}, outer.overrides...)
	defer func() {
		if p := recover(); p != nil {
			if b, ok := p.(broken); ok {
				panic(broken{fmt.Errorf("MAKEFLAGS: %w", b.err)})
			}
			panic(p)
		}
	}()
	before := len(k.opts.overrides)
	k.decodeFlags(text)
	if len(k.opts.overrides) != before {
		k.opts.overrides = outer.overrides
	}
	k.opts.noRules = k.opts.noRules || k.opts.noVariables
	k.defineFlags(false)
}
