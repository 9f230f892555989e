package gobase

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/busybox"
)

// program judges a command given by a path. It returns the base name to go on with, "" for a program of the
// stage itself, or false when it was refused or is a script that was judged.
func (s *step) program(name string, args []value, text string) (string, bool) {
	full := s.abs(name)
	dir, base := path.Split(full)
	dir = path.Clean(dir)
	isCommand := busybox.Has(base)
	switch {
	case full == "":
		s.refuse(text, "where it is is known only when it runs")
		return "", false
	case dir == "/usr/local/go/bin":
		return base, true
	case slices.Contains(s.t.built, full), s.t.installed[base] && s.isBin(dir):
		return "", true
	case isCommand && slices.Contains([]string{"/bin", "/usr/bin", "/sbin", "/usr/sbin"}, dir):
		return base, true
	case s.j.inContext(s.t, full):
		s.contextScript(name, full, args, text)
		return "", false
	case s.t.installed["*"] && s.isBin(dir), slices.Contains(s.t.built, dir):
		return "", true
	case slices.Contains(s.t.defaults, dir) && path.Ext(base) == "":
		return "", true
	}
	s.refuse(text, full+" is no program that this stage built")
	return "", false
}

// isBin reports whether go install puts programs into a folder.
func (s *step) isBin(dir string) bool {
	return dir == s.goBin()
}

func (s *step) goBin() string {
	for _, name := range []string{"GOBIN", "GOPATH"} {
		v := s.env[name]
		if v.text == "" {
			v.text = s.goEnv[name].text
		}
		if v.text != "" {
			if name == "GOPATH" {
				return path.Join(v.text, "bin")
			}
			return path.Clean(v.text)
		}
	}
	return "/go/bin"
}

// shell judges sh -c TEXT and sh FILE.
func (s *step) shell(name string, args []value, text string) {
	texts, all := known(args)
	if !all {
		s.refuse(text, "what the shell runs is known only when it runs")
		return
	}
	a, err := busybox.ParseShellArgs(s.t.base.tag.Variant.Shell(name), texts)
	switch {
	case err != nil:
		s.refuse(text, err.Error())
	case a.IsText:
		s.process(name, a, func() { s.script(name, a.Text) })
	case a.File != "":
		s.shellScript(name, a, text)
	default:
		s.refuse(text, "what the shell reads is not looked into")
	}
}

// wrapper judges the command that another one runs: env A=b go build, xargs rm, exec ./app.
func (s *step) wrapper(name string, args []value, text string) {
	if name == "eval" {
		texts, all := known(args)
		if !all {
			s.refuse(text, "what it runs is known only when it runs")
			return
		}
		s.script("sh", strings.Join(texts, " "))
		return
	}
	if name == "nice" || name == "nohup" {
		s.refuse(text, name+" is not in the built-in base")
		return
	}
	if name == "env" || name == "xargs" { // a program, which changes nothing of the shell
		s.isolated(func() { s.wrapped(name, args, text) })
		return
	}
	s.wrapped(name, args, text)
}

func (s *step) wrapped(name string, args []value, text string) {
	for len(args) > 0 {
		word := args[0]
		assigns, val, isAssign := strings.Cut(word.text, "=")
		switch {
		case name == "env" && isAssign && !strings.HasPrefix(word.text, "-"):
			s.env[assigns], s.exported[assigns] = value{val, word.known}, surely
		case strings.HasPrefix(word.text, "-") && word.known && !wrapperOption.MatchString(name+" "+word.text):
			s.refuse(text, "the option "+word.text+" of "+name+" is not served")
			return
		case strings.HasPrefix(word.text, "-") && word.known:
			if name == "env" && (word.text == "-i" || word.text == "-") {
				s.env, s.exported, s.wild = map[string]value{}, map[string]certainty{}, false
			}
			if takesValue[name+" "+word.text] && len(args) > 1 {
				args = args[1:]
				if name == "env" {
					s.unset("unset", args[:1])
				}
			}
		default:
			s.command(args, text)
			return
		}
		args = args[1:]
	}
}

// takesValue are options of wrapping commands whose value is the next word.
var takesValue = map[string]bool{
	"env -u": true, "xargs -n": true, "xargs -I": true, "xargs -P": true,
}

// wrapperOption are the options of wrapping commands that are served.
var wrapperOption = regexp.MustCompile(`^(env -(i|u)?|xargs (-0|-r|--null|--no-run-if-empty|-[nIP].*)|(env|exec|command|time|xargs) --)$`)

// compilers are packages that bring a C compiler along, by the names of Alpine and Debian.
var compilers = []string{"gcc", "g++", "build-base", "alpine-sdk", "clang", "build-essential", "tcc", "musl-tools", "zig"}

// packages notes what is asked of a package manager. Whether a command needs it shows when it is called.
func (s *step) packages(manager string, args []value, text string) {
	texts, all := known(args)
	if !all {
		for i := range args {
			if !args[i].known {
				texts[i] = "a package named at run time"
			}
		}
	}
	verb, names := busybox.PackageArgs(texts)
	if (manager == "apk") != (s.t.base.tag.Variant == Alpine) {
		s.refuse(text, "the image has no "+manager)
		return
	}
	switch verb {
	case "add", "install":
		for _, n := range names {
			s.t.packages[n] = true
			if n == "git" || n == "bash" {
				s.t.base.with[n] = true
			}
			if n != "bash" && !slices.Contains([]string{"ca-certificates", "tzdata"}, n) {
				s.t.base.asked = append(s.t.base.asked, n)
			}
		}
	case "update", "upgrade", "dist-upgrade", "clean", "autoclean", "del", "remove", "purge", "autoremove", "cache", "fix":
	default:
		s.refuse(text, manager+" "+verb+" is not served")
	}
}

// hasGit reports whether the image has git at this step.
func (s *step) hasGit() bool {
	return s.t.base.tag.Variant == Debian || s.t.packages["git"] || s.t.packages["alpine-sdk"]
}

// git judges a call of git. Without a repository most commands end in the same error as git's own.
func (s *step) git(args []value, text string) {
	if !s.hasGit() {
		return // not found there, not found here
	}
	texts, _ := known(args)
	sub, rest := "", []string(nil)
	for i := 0; i < len(texts); i++ {
		if texts[i] == "-C" || texts[i] == "-c" {
			i++
			continue
		}
		if !strings.HasPrefix(texts[i], "-") {
			sub, rest = texts[i], texts[i+1:]
			break
		}
	}
	switch sub {
	case "", "version":
	case "config":
		if strings.Contains(strings.ToLower(strings.Join(rest, " ")), "insteadof") || strings.Contains(strings.Join(rest, " "), "credential") {
			s.refuse(text, "modules are fetched with git, which the base has not")
		}
	case "describe", "rev-parse", "log", "status", "show", "diff", "branch", "tag", "rev-list", "symbolic-ref", "ls-files",
		"show-ref", "name-rev", "shortlog", "cat-file", "for-each-ref", "diff-index", "update-index", "remote", "rev-name":
		if len(s.t.repos) > 0 {
			s.needGit(text, "git is used, and .git is in the build context: that needs a git on this machine")
		}
	case "init", "add", "commit", "checkout", "switch", "restore", "reset", "clean", "stash", "apply", "am", "format-patch", "mv", "rm",
		"grep", "archive", "hash-object", "write-tree", "ls-tree", "merge-base", "update-ref", "gc", "blame", "check-ignore",
		"count-objects", "fsck", "whatchanged", "var", "stripspace", "verify-commit", "verify-tag":
		s.needGit(text, "git is used, and the base has none: that needs a git on this machine")
	default: // clone, fetch, submodule, …: with helpers of git's own, and over the network
		s.refuse(text, "git is used, and the base has none that reaches other repositories")
	}
}
