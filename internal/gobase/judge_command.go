package gobase

import (
	"slices"
	"strings"
)

// builtins are the shell's own commands that need no more looking at.
var builtins = []string{
	":", "true", "false", "exit", "set", "shift", "unset", "echo", "printf", "break", "continue", "pwd", "wait",
	"type", "hash", "return", "read", "getopts", "shopt", "alias", "unalias", "[", "test", "export",
	"readonly", "local", "times", "dirs", "help", "declare", "typeset", "let", "readarray", "mapfile", "[[",
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
	if s.funcs[name] {
		return
	}
	if strings.Contains(name, "/") {
		base, ok := s.program(name, text)
		if !ok {
			return
		}
		if base == "" {
			return
		}
		name = base
	}
	args := words[1:]
	switch {
	case name == "export" || name == "readonly" || name == "local":
		s.export(args)
	case name == "trap":
		s.trap(args, text)
	case slices.Contains(builtins, name):
	case name == "cd" || name == "pushd":
		s.chdir(args)
	case name == "popd":
		s.cwd = value{}
	case name == "go":
		s.goCommand(args, text)
	case name == "gofmt":
	case name == "apk" || name == "apt-get" || name == "apt":
		s.packages(name, args, text)
	case name == "git":
		s.git(args, text)
	case name == "sh" || name == "ash" || name == "bash" || name == "dash":
		s.shell(name, args, text)
	case slices.Contains([]string{"exec", "command", "builtin", "time", "nohup", "env", "xargs", "nice", "eval"}, name):
		s.wrapper(name, args, text)
	case name == "." || name == "source":
		s.refuse(text, "what the script does is not looked into")
	case s.t.installed[name]:
	default:
		s.applet(name, args, text)
	}
}

// trap judges trap ACTION SIGNAL…: the shell knows the end of the script and errors, no signals.
func (s *step) trap(args []value, text string) {
	if len(args) == 0 {
		return
	}
	for _, a := range args[1:] {
		if !slices.Contains([]string{"EXIT", "ERR"}, a.text) {
			s.refuse(text, "trap of "+a.text+" is not served")
			return
		}
	}
}

func (s *step) export(args []value) {
	for _, a := range args {
		if name, text, ok := strings.Cut(a.text, "="); ok {
			s.env[name] = value{text, a.known}
		}
	}
}

func (s *step) chdir(args []value) {
	switch {
	case len(args) == 0:
		s.cwd = s.env["HOME"]
		if s.cwd.text == "" {
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
	cmd, ok := commands()[name]
	if !ok {
		if s.t.installed["*"] && !strings.Contains(name, ".") && !foreignTools[name] {
			return // go install ./... may have made it
		}
		s.refuse(text, name+" is not in the built-in base"+without[name])
		return
	}
	texts, all := known(args)
	if !cmd.raw && all {
		opt, err := parseOptions(cmd, texts)
		if err != nil {
			s.refuse(text, "the base's small "+name+": "+err.Error())
			return
		}
		texts = opt.args
	}
	if name == "find" {
		s.find(args, text)
	}
	// Operands of what may write files; a name too many does no harm.
	for i, a := range texts {
		if a != "" && !strings.HasPrefix(a, "-") && (i < len(args) && args[i].known || all) {
			s.wrote(a)
		}
	}
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
