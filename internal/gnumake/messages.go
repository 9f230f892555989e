package gnumake

import "fmt"

// say prints a line of make's own on standard output.
func (k *maker) say(format string, args ...any) { fmt.Fprintf(k.stdout, format+"\n", args...) }

// sayError prints a line on standard error.
func (k *maker) sayError(format string, args ...any) { fmt.Fprintf(k.stderr, format+"\n", args...) }

// prefix is what a message about a line begins with.
func (k *maker) prefix(at *Location) string {
	if at == nil || at.File == "" {
		return k.name
	}
	return at.String()
}

// fatal prints an error and ends the run with exit code 2.
func (k *maker) fatal(at *Location, format string, args ...any) {
	k.sayError("%s: *** %s.  Stop.", k.prefix(at), fmt.Sprintf(format, args...))
	panic(stop{2})
}

// warn prints a warning about a line.
func (k *maker) warn(at *Location, format string, args ...any) {
	k.sayError("%s: %s", k.prefix(at), fmt.Sprintf(format, args...))
}

// entering says where this make works, where that is asked for.
func (k *maker) entering() {
	if k.opts.printDirectory() {
		k.say("%s: Entering directory '%s'", k.name, k.cwd)
		k.entered = true
	}
}

func (k *maker) leaving() {
	if k.entered {
		k.say("%s: Leaving directory '%s'", k.name, k.cwd)
		k.entered = false
	}
}
