package busybox

import (
	"os"
	"slices"
)

// compilerNames are the commands that Go takes for C compilers. Where an image has them, Go switches cgo on because it finds one, and
// calls it where a package of the program has C in it, or where net or os/user do.
var compilerNames = []string{"cc", "gcc", "c++", "g++"}

func compilerCommands() map[string]command {
	all := map[string]command{}
	for _, name := range compilerNames {
		all[name] = command{run: compiler, raw: true}
	}
	return all
}

// IsCompiler reports whether a name is one of those.
func IsCompiler(name string) bool { return slices.Contains(compilerNames, name) }

// compiler ends the step, and before that the go command that called: it would compile all else first.
func compiler(c *call) int {
	if c.refuse == nil {
		interrupt(os.Getppid())
	}
	return c.unserved("cgo is on, and a package of the program needs a C compiler (net and os/user do); CGO_ENABLED=0 settles it")
}
