package gobase

import (
	"os"
	"slices"
)

// withCompilers in [Identity].With puts names of C compilers into a base whose image has them. Go switches cgo on because it finds
// one, as it does in the image, and calls it where a package of the program has C in it, or where net or os/user do. Then the stage
// starts again on the image; where nothing calls one there was nothing for it to do, and the program is the image's.
const withCompilers = "cc"

// compilerNames are the commands that Go takes for C compilers.
var compilerNames = []string{"cc", "gcc", "c++", "g++"}

func compilerCommands() map[string]command {
	all := map[string]command{}
	for _, name := range compilerNames {
		all[name] = command{run: compiler, raw: true}
	}
	return all
}

func isCompiler(name string) bool { return slices.Contains(compilerNames, name) }

// compiler ends the step, and before that the go command that called: it would compile all else first.
func compiler(c *call) int {
	if c.refuse == nil {
		interrupt(os.Getppid())
	}
	return c.unserved("cgo is on, and a package of the program needs a C compiler (net and os/user do); CGO_ENABLED=0 settles it")
}
