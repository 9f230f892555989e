package goaware

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
)

// An engine can confine a step to the toolchain of its base (internal/engine): then nothing else can be run in it, whatever
// its files and variables say, and what is written to Go's caches is what the released go command makes. This file finds the
// steps that lose nothing by that: they call the go command in ways in which it starts nothing but its own tools, and what
// the shell of the built-in base is itself. A step that is taken for one wrongly fails or runs on; it does no harm.

// notConfined says why a step on a base is not to be confined; "": it may be.
func (s *step) notConfined(base string) string {
	switch {
	case builtin(base) == "":
		return "its Go comes with an image, and is not proved to be the released one"
	case lendsGit(base):
		return "it is lent this machine's git, which runs what a repository's configuration says"
	case s.op.Security != pb.SecurityMode_SANDBOX:
		return "it runs without the sandbox"
	case !s.script.parsed:
		return "its shell text cannot be read"
	case !s.script.usual:
		return "it has a shell of its own"
	case s.script.odd != "":
		return s.script.odd
	}
	for _, vars := range []map[string]string{s.env, s.script.assigned} {
		for _, name := range sortedNames(vars) {
			if !harmlessVariable(name, vars[name]) {
				return fmt.Sprintf("%s=%s", name, shown(vars[name]))
			}
		}
	}
	if _, set := s.script.assigned["PATH"]; set {
		return "it sets PATH"
	}
	for _, m := range s.op.Mounts {
		if foreign(m) {
			return "a mount at " + m.Dest
		}
	}
	return s.foreignCommand()
}

// foreignCommand names a command for which the step is not to be confined.
func (s *step) foreignCommand() string {
	cwd := s.op.Meta.Cwd
	for _, c := range s.script.commands {
		if len(c.words) == 0 {
			continue
		}
		ok := false
		switch name := c.words[0]; {
		case name == "go":
			ok = !c.unsure && !within(path.Clean("/"+cwd), goroot) && trustedGo(c.words) &&
				(!tellsPlaces(c.words) || !c.substituted && !s.script.writes)
		case slices.Contains(harmlessBuiltins, name):
			// What is printed, and what is tested, may be anything.
			ok = (!c.unsure || slices.Contains(printing, name)) && harmlessBuiltin(c.words, &cwd)
		case c.substituted:
			ok = slices.Contains(telling, name)
		case slices.Contains(telling, name), slices.Contains(making, name):
			ok = !c.unsure && !slices.ContainsFunc(c.words[1:], elsewhere)
		default:
			ok = !c.unsure && cleanInstall(name, c.words[1:])
		}
		if !ok {
			return "it runs " + shown(strings.Join(c.words, " "))
		}
	}
	return ""
}

// changed are variables that have another value in a step that is confined.
var changed = words("GOCACHE GOENV GOTMPDIR TMPDIR GOCACHEPROG GOPROXY")

// tellsPlaces says whether a go command prints what is different where it is confined: the build cache lies elsewhere. In
// the log it does no harm; what is made of such output may ship.
func tellsPlaces(w []string) bool {
	if w[1] == "env" {
		return len(w) == 2 || slices.ContainsFunc(w[2:], func(a string) bool {
			return strings.HasPrefix(a, "-") || slices.Contains(changed, a) || a == "GOGCCFLAGS"
		})
	}
	return slices.ContainsFunc(w[2:], func(a string) bool { return slices.Contains(words("x n work export compiled"), flagName(a)) })
}

var (
	// harmlessBuiltins are of the shell itself.
	harmlessBuiltins = words("cd echo true false : pwd set export printf test [ exit")
	printing         = words("echo printf test [ : true false exit")
	// telling are commands that write no files and run no other command.
	telling = words(`date uname id whoami hostname ls cat basename dirname head tail cut tr wc sort uniq grep git sleep seq expr
		echo printf test [ true false : pwd which`)
	// making are commands that write files where they are told to, and run no other command.
	making = words("mkdir touch rm rmdir cp mv chmod adduser addgroup useradd groupadd update-ca-certificates")
)

// elsewhere says of an argument that it may lead to where the engine keeps what a confined step must not see.
func elsewhere(w string) bool {
	return strings.Contains(w, "/dev") && w != "/dev/null" || strings.Contains(w, "/proc") || strings.Contains(w, dynamic)
}

// shown is a text from a Dockerfile in a note: what is known of it, and not all of a long one.
func shown(text string) string {
	text = strings.ReplaceAll(text, dynamic, "…")
	if r := []rune(text); len(r) > 60 {
		text = string(r[:60]) + "…"
	}
	return fmt.Sprintf("%q", text)
}

func sortedNames(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// called are the names of the commands of the step, for the engine to see what each is.
func (s *step) called() string {
	var names []string
	for _, c := range s.script.commands {
		if len(c.words) > 0 && !slices.Contains(harmlessBuiltins, c.words[0]) && !slices.Contains(names, c.words[0]) {
			names = append(names, c.words[0])
		}
	}
	return strings.Join(names, " ")
}

// goroot is where the official toolchain lies: a go command that runs in there is meant to change it.
const goroot = "/usr/local/go"

// harmlessBuiltin follows cd, and refuses options of set that change what a word is.
func harmlessBuiltin(w []string, cwd *string) bool {
	switch w[0] {
	case "cd":
		if len(w) != 2 || strings.HasPrefix(w[1], "-") || elsewhere(w[1]) {
			return false
		}
		*cwd = absolute(*cwd, w[1])
	case "export":
		return len(w) > 1 && !slices.ContainsFunc(w[1:], func(a string) bool {
			name, _, _ := strings.Cut(a, "=")
			return strings.HasPrefix(name, "-") || strings.Contains(name, dynamic)
		})
	case "set":
		return len(w) > 1 && !slices.ContainsFunc(w[1:], func(a string) bool {
			letters, option := strings.CutPrefix(a, "-")
			return option && strings.Trim(letters, "euxo") != "" || !option && a != "pipefail"
		})
	}
	return true
}

// foreign says whether a mount may put something else in the place of what the step runs.
func foreign(m *pb.Mount) bool {
	dest := path.Clean(m.Dest)
	if dest == "/" || m.MountType == pb.MountType_SSH {
		return false
	}
	if within(dest, "/go/pkg") || within(dest, "/root/.cache") || m.MountType == pb.MountType_SECRET && path.Base(dest) == ".netrc" {
		return false
	}
	return systemPath(dest)
}
