package gobase

import (
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/busybox"
	"github.com/skiff-build/skiff/internal/shell"
)

// bashOnly are builtins of bash, or of bash and BusyBox, that the other shells do not find, as no image has a program of the name.
var bashOnly = map[string]bool{
	"[[": true, "declare": true, "typeset": true, "let": true, "source": true, "shopt": true, "pushd": true, "popd": true, "dirs": true,
	"mapfile": true, "readarray": true, "builtin": true, "enable": true, "disown": true, "history": true, "function": true,
}

// command judges one command; text is how it is shown.
func (s *step) command(words []value, text string) {
	if len(words) == 0 {
		return
	}
	if !words[0].known {
		s.refuse(text, "what it calls is known only when it runs")
		return
	}
	name := words[0].text
	if len(s.bodies[name]) > 0 {
		if s.function(name, text); s.funcs[name] {
			return
		}
	}
	if strings.Contains(name, "/") {
		base, ok := s.program(name, words[1:], text)
		if !ok {
			return
		}
		if base == "" {
			s.needNative(text, "it runs what the stage compiled")
			return
		}
		name = base
	}
	args := words[1:]
	if s.t.base.cross {
		s.crossCommand(name, args, text)
	}
	v := s.shellVariant()
	if texts, all := known(words); s.bash && all && shell.ListsEnvironment(texts) {
		s.refuse(text, "the variables are listed in bash's order")
		return
	}
	switch {
	case name == "export" || name == "readonly" || name == "local":
		s.export(name, args)
	case name == "trap":
		s.trap(args, text)
	case name == "cd" || name == "chdir" && v != shell.Bash:
		s.chdir(args)
	case name == "go":
		s.goCommand(args, text)
	case name == "gofmt":
	case name == "apk" || name == "apt-get" || name == "apt":
		s.packages(name, args, text)
	case name == "git":
		s.git(args, text)
	case name == "make":
		s.make(args, text)
	case name == "sh" || name == "ash" || name == "bash" || name == "dash":
		s.shell(name, args, text)
	case name == "which", name == "command" && len(args) > 0 && args[0].text == "-v":
		s.lookup(name, args, text)
	case slices.Contains([]string{"exec", "command", "time", "nohup", "env", "xargs", "nice", "eval"}, name):
		s.wrapper(name, args, text)
	case name == ".":
		s.sourced(args, text)
	case name == "set":
		s.setOptions(args)
	case name == "unset" || name == "read":
		s.unset(name, args)
	case name == "return" || name == "break" || name == "continue":
		s.left = append(s.left, s.flow.clone())
	case shell.IsBuiltin(v, name):
	case busybox.IsCompiler(name):
		s.refuse(text, name+" is not in the built-in base")
	case s.t.installed[name]:
		s.needNative(text, "it runs what the stage compiled")
	case bashOnly[name]: // it is not found there, and not here
	default:
		s.applet(name, args, text)
	}
}

// shellVariant is the shell whose text is read.
func (s *step) shellVariant() shell.Variant {
	if s.variant != "" {
		return s.variant
	}
	return s.t.base.tag.Variant.Shell("sh")
}

// lookup judges which NAME and command -v NAME: the answer must be the image's.
func (s *step) lookup(command string, args []value, text string) {
	for _, a := range args {
		switch {
		case !a.known:
			s.refuse(text, "what it looks for is known only when it runs")
			return
		case strings.HasPrefix(a.text, "-") && !(command == "command" && a.text == "-v"):
			s.refuse(text, "the option is not served")
			return
		case strings.HasPrefix(a.text, "-"), a.text == "go", a.text == "gofmt", s.funcs[a.text], s.t.installed[a.text]:
		case command == "command" && shell.IsBuiltin(s.shellVariant(), a.text):
		case a.text == "git" && s.hasGit() && s.t.base.tag.Variant == Debian:
		default:
			if why := s.found(a.text); why != "" {
				s.refuse(text, why)
				return
			}
		}
	}
}

// found says why looking for a name in PATH may give another answer than in the image; "" where it gives the same.
func (s *step) found(name string) string {
	v := s.t.base.tag.Variant
	ours := busybox.Has(name)
	switch {
	case name == "make" && v == Debian && makeVersion(s.t.base.tag, s.t.base.release) != "":
		s.t.base.with[withMake+makeVersion(s.t.base.tag, s.t.base.release)] = true
		return ""
	case ours && name != "make" && !busybox.IsCompiler(name) && !v.Lacks(name) && v == Debian:
		return "" // all lie in /usr/bin and /usr/sbin
	case busybox.ImageHas(v, name):
		return "the image has a " + name + ", and where is not known"
	case len(s.t.packages) > 0 && !s.habitual():
		return name + " may come from a package"
	case s.t.installed["*"]:
		return name + " may have been installed by go install"
	}
	return ""
}

// habitual reports whether the packages asked for bring no commands but git.
func (s *step) habitual() bool {
	for p := range s.t.packages {
		if p != "ca-certificates" && p != "tzdata" && p != "git" {
			return false
		}
	}
	return true
}

// trap judges the action of a trap.
func (s *step) trap(args []value, text string) {
	if len(args) == 0 || args[0].text == "-" {
		return
	}
	if !args[0].known {
		s.refuse(text, "what the trap runs is known only when it runs")
		return
	}
	s.isolated(func() {
		s.forget() // it runs at the end, whatever holds then
		for f := range s.bodies {
			s.funcs[f] = true
		}
		s.cwd = value{}
		s.script("sh", args[0].text)
	})
}

func (s *step) export(command string, args []value) {
	for _, a := range args {
		name, text, ok := strings.Cut(a.text, "=")
		switch {
		case strings.HasPrefix(name, "-"):
			continue
		case !isVariable(name):
			s.forget()
			continue
		case ok:
			s.assign(name, value{text, a.known})
		case command == "local":
			s.env[name] = value{}
		}
		if command == "export" {
			s.exported[name] = surely
		}
	}
}

func (s *step) chdir(args []value) {
	switch {
	case len(args) == 0:
		s.cwd = s.env["HOME"]
		if _, set := s.env["HOME"]; !set && !s.wild {
			s.cwd = value{"/root", true}
		}
	case !args[0].known || args[0].text == "-":
		s.cwd = value{}
	default:
		s.cwd = value{s.abs(args[0].text), s.abs(args[0].text) != ""}
	}
}

// applet judges a command that is none of the special ones: one of the base's own with options that it
// knows, a program that the stage installed, or one to refuse.
func (s *step) applet(name string, args []value, text string) {
	ok := busybox.Has(name)
	if v := s.t.base.tag.Variant; ok && v.Lacks(name) {
		if len(s.t.packages) > 0 && !s.habitual() {
			s.refuse(text, name+" may come from a package")
		}
		return // it is not found there, and not here
	}
	if !ok {
		if s.t.installed["*"] && !strings.Contains(name, ".") && !foreignTools[name] {
			s.needNative(text, "it may run what the stage compiled")
			return // go install ./... may have made it
		}
		s.refuse(text, name+" is not in the built-in base"+without[name])
		return
	}
	_, all := known(args)
	given := make([]busybox.Value, len(args))
	for i, a := range args {
		given[i] = busybox.Value{Text: a.text, Known: a.known}
	}
	texts, why := busybox.Check(name, s.t.base.tag.Variant, given)
	if why != "" {
		s.refuse(text, "the base's small "+name+": "+why)
		return
	}
	if name == "find" {
		s.find(args, text)
	}
	// Operands of what may write files; a name too many does no harm.
	for i, a := range texts {
		if a != "" && !strings.HasPrefix(a, "-") && (i < len(args) && args[i].known || all) {
			s.wrote(a)
			if !leavesFiles[name] && !(name == "sed" && !slices.ContainsFunc(args, inPlace)) {
				s.changed(a)
			}
		}
	}
}

// leavesFiles are commands that change no content of the files that they are given.
var leavesFiles = map[string]bool{
	"chmod": true, "chown": true, "chgrp": true, "ls": true, "cat": true, "test": true, "[": true, "touch": true, "head": true, "tail": true,
	"grep": true, "egrep": true, "fgrep": true, "wc": true, "sha256sum": true, "sha1sum": true, "sha512sum": true, "md5sum": true, "stat": true,
	"mkdir": true, "du": true, "df": true, "basename": true, "dirname": true, "realpath": true, "readlink": true, "echo": true, "printf": true,
	"cut": true, "tr": true, "date": true, "find": true, "which": true, "id": true, "true": true, "false": true, "sleep": true, "env": true,
}

// inPlace reports whether an option makes sed write to its files.
func inPlace(a value) bool {
	return !a.known || strings.HasPrefix(a.text, "--in-place") || strings.HasPrefix(a.text, "-") && !strings.HasPrefix(a.text, "--") && strings.Contains(a.text, "i")
}

// without says how builds do without a command that the base has not.
var without = map[string]string{
	"make": " (write what it runs as RUN: go build …)", "mage": " (write what it runs as RUN: go build …)", "task": " (write what it runs as RUN: go build …)",
	"curl": " (ADD URL fetches files)", "wget": " (ADD URL fetches files)", "tar": " (ADD unpacks archives)",
	"upx": " (go build -ldflags '-s -w' makes the program smaller)", "strip": " (go build -ldflags '-s -w' does the same)",
}

// find judges what -exec runs.
func (s *step) find(args []value, text string) {
	for i := 0; i < len(args); i++ {
		switch args[i].text {
		case "-exec":
			end := i + 1
			for end < len(args) && args[end].text != ";" && args[end].text != "+" {
				end++
			}
			s.command(args[i+1:end], text)
			i = end // each word is read once: commands within commands must not double the work
		case "-execdir", "-ok":
			s.refuse(text, "the base's small find has no "+args[i].text)
		}
	}
}

// foreignTools are commands that an image or its packages bring and go install does not.
var foreignTools = map[string]bool{
	"make": true, "gcc": true, "g++": true, "cc": true, "clang": true, "curl": true, "wget": true, "upx": true, "protoc": true,
	"tar": true, "unzip": true, "zip": true, "gzip": true, "strip": true, "file": true, "openssl": true, "setcap": true, "sed": true,
	"awk": true, "jq": true, "node": true, "npm": true, "yarn": true, "python": true, "python3": true, "pip": true, "perl": true,
	"patch": true, "diff": true, "hg": true, "svn": true, "bzr": true, "ssh": true, "ssh-keyscan": true, "ssh-keygen": true, "xz": true,
	"bzip2": true, "ldd": true, "ld": true, "ar": true, "nm": true, "objcopy": true, "readelf": true, "rsync": true, "su": true,
	"sudo": true, "chroot": true, "mount": true, "umount": true, "kill": true, "ps": true, "cmake": true, "ninja": true, "pkg-config": true,
	"umask": true, "ulimit": true, "dpkg": true, "gpg": true, "bc": true, "expr": true, "od": true, "hexdump": true, "xxd": true, "apk-tools": true,
	"docker": true, "java": true, "ruby": true, "cargo": true, "rustc": true, "busybox": true, "crontab": true, "chpasswd": true, "passwd": true,
}
