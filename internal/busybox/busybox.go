// Package busybox is the shell and the commands of the built-in Go base: what BusyBox is to Alpine's image, and coreutils to Debian's, as
// far as the steps of builder stages use it. They are all this program, called by other names ([Applet]). Each does what the command of
// the image does, to the byte in its output and to the code in its exit; what it would do otherwise it does not serve, and says so
// ([Check] before a step runs, call.unserved while it does).
//
// A command needs only where it lies, the files of the root that it stands in, and for git the machine's own (see [GitProgram]). The
// language of the shell is internal/shell's, that of make is internal/gnumake's.
package busybox

import "strings"

// LibexecPath is where this very program is bound inside a step of the base; the commands below /bin are
// symlinks to it.
const LibexecPath = "/usr/libexec/skiff"

// Value is an argument as far as it is known before a step runs.
type Value struct {
	Text  string
	Known bool
}

// known returns the texts of words, and whether all are known.
func known(words []Value) ([]string, bool) {
	all := true
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = w.Text
		all = all && w.Known
	}
	return texts, all
}

// Has reports whether the base has a command, in one of its variants.
func Has(name string) bool {
	_, ok := commands()[name]
	return ok
}

// Check says why a command of the base is not served with these arguments; "" where it is, as far as they are known. operands are the
// arguments but for options, where all are known; else all arguments.
func Check(name string, v Variant, args []Value) (operands []string, why string) {
	cmd := commands()[name]
	operands, all := known(args)
	if !cmd.raw && all {
		opt, err := parseOptions(cmd, operands)
		if err != nil {
			return operands, err.Error()
		}
		operands = opt.args
	}
	if cmd.check != nil {
		return operands, cmd.check(v, args)
	}
	return operands, ""
}

// ImageHas reports whether an image has a command, be it one of the base's or not; Go's own are not counted.
func ImageHas(v Variant, name string) bool { return imageCommands(v)[name] }

// Shown is a command as messages show it: in one line, and not too long.
func Shown(command string) string {
	command = strings.Join(strings.Fields(command), " ")
	if r := []rune(command); len(r) > 80 {
		return string(r[:77]) + "…"
	}
	return command
}
