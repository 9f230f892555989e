package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/gobin"
)

// program is an executable under examination: who calls whom, and which code is the standard library's.
type program struct {
	*gobin.File
	modules   []string // paths of all modules but the standard library
	byName    bool     // methods are looked up by name at run time: the linker keeps all exported ones
	undecided []string
	inUse     map[gobin.Func]bool
	alive     map[gobin.Func]bool
}

func newProgram(f *gobin.File) *program {
	p := &program{File: f, inUse: map[gobin.Func]bool{}, alive: map[gobin.Func]bool{}}
	if f.Info != nil {
		p.modules = append(p.modules, f.Info.Main.Path)
		for _, m := range f.Info.Deps {
			p.modules = append(p.modules, m.Path)
		}
	}
	p.modules = slices.DeleteFunc(p.modules, func(m string) bool { return m == "" || m == "command-line-arguments" })
	for _, name := range []string{"reflect.Value.MethodByName", "reflect.Value.Method", "reflect.(*rtype).MethodByName"} {
		p.byName = p.byName || p.has(name)
	}
	return p
}

// stdRoots are the first elements of the standard library's import paths.
var stdRoots = strings.Fields(`archive arena bufio builtin bytes cmp compress container context crypto database debug embed encoding
	errors expvar flag fmt go hash html image index internal io iter log maps math mime net os path plugin reflect regexp runtime
	simd slices sort strconv strings structs sync syscall testing text time unicode unique unsafe vendor weak`)

// std says that a function is the standard library's, or the linker's own.
func (p *program) std(fn gobin.Func) bool {
	pkg := gobin.Package(p.Name(fn))
	if pkg == "main" {
		return false
	}
	root, _, _ := strings.Cut(pkg, "/")
	if pkg != "" && !slices.Contains(stdRoots, root) {
		return false
	}
	for _, m := range p.modules {
		if pkg == m || strings.HasPrefix(pkg, m+"/") {
			return false
		}
	}
	return true
}

// own says that a function is of the module that the program is.
func (p *program) own(fn gobin.Func) bool {
	pkg := gobin.Package(p.Name(fn))
	if pkg == "main" {
		return true
	}
	return p.Info != nil && p.Info.Main.Path != "" && (pkg == p.Info.Main.Path || strings.HasPrefix(pkg, p.Info.Main.Path+"/"))
}

func (p *program) has(name string) bool {
	_, ok := p.Lookup(name)
	return ok
}

// refs are the places that refer to a function, in functions for which from is true and that something may call.
func (p *program) refs(name string, from func(gobin.Func) bool) []gobin.Ref {
	fn, ok := p.Lookup(name)
	if !ok {
		return nil
	}
	var all []gobin.Ref
	for _, r := range p.Refs(fn) {
		if from(r.From) && p.live(r.From) {
			all = append(all, r)
		}
	}
	return all
}

// outside is true for code outside of the standard library.
func (p *program) outside(fn gobin.Func) bool { return !p.std(fn) }

// in makes a condition: the function is not of this package.
func (p *program) notIn(pkg string) func(gobin.Func) bool {
	return func(fn gobin.Func) bool { return gobin.Package(p.Name(fn)) != pkg }
}

// stored says that the function's value lies in static data.
func (p *program) stored(name string) bool {
	fn, ok := p.Lookup(name)
	return ok && p.Stored(fn)
}

// reached says whether code outside of the standard library comes to a function as far as can be seen: through calls, or values
// that are stored. Where methods are looked up by name the linker keeps methods that nobody calls; those alone reach nothing.
// Otherwise what has no visible caller is called through an interface, or by the runtime.
func (p *program) reached(fn gobin.Func) bool {
	if known, ok := p.inUse[fn]; ok {
		return known
	}
	seen := map[gobin.Func]bool{fn: true}
	for todo := []gobin.Func{fn}; len(todo) > 0; {
		fn := todo[0]
		todo = todo[1:]
		if p.isRoot(fn) {
			p.inUse[fn] = true
			return true
		}
		for _, next := range p.callers(fn) {
			if !seen[next] {
				seen[next] = true
				todo = append(todo, next)
			}
		}
	}
	for fn := range seen { // none of them is
		p.inUse[fn] = false
	}
	return false
}

// isRoot says that a function counts as called without looking at its callers.
func (p *program) isRoot(fn gobin.Func) bool {
	if !p.std(fn) {
		return p.live(fn)
	}
	if len(p.callers(fn)) > 0 || slices.Contains(beginsNothing, p.Name(fn)) {
		return false
	}
	return !p.byName || !exportedMethod(p.Name(fn))
}

// live says that something may call a function. Where methods are looked up by name (text/template does), the linker keeps every
// exported method of each type that becomes an interface value (cmd/link/internal/ld deadcode.go, reflectSeen). Such a method that no
// code refers to, and no interface's table either, waits for somebody to ask for its name, and so does what it alone calls. A web
// framework's context, with its reader of uploaded forms, is of that kind.
func (p *program) live(fn gobin.Func) bool {
	if !p.CallGraph || !p.byName {
		return true
	}
	if known, ok := p.alive[fn]; ok {
		return known
	}
	seen := map[gobin.Func]bool{fn: true}
	for todo := []gobin.Func{fn}; len(todo) > 0; {
		fn := todo[0]
		todo = todo[1:]
		if p.alive[fn] || p.InData(fn) || len(p.Refs(fn)) == 0 && !exportedMethod(p.Name(fn)) {
			p.alive[fn] = true
			return true
		}
		for _, r := range p.Refs(fn) {
			if !seen[r.From] {
				seen[r.From] = true
				todo = append(todo, r.From)
			}
		}
	}
	for fn := range seen { // none of them is
		p.alive[fn] = false
	}
	return false
}

// exportedMethod says that a name is a method's that reflection finds.
func exportedMethod(name string) bool {
	i := strings.LastIndexByte(name, '.')
	if i < 0 || i+1 == len(name) || name[i+1] < 'A' || name[i+1] > 'Z' {
		return false
	}
	receiver := name[strings.LastIndexByte(name[:i], '/')+1 : i]
	return strings.Contains(receiver, ".") // package and type
}

// throughInterface names who calls a method of the standard library through an interface: calls that no scan of direct ones sees.
var throughInterface = map[string][]string{
	"net/http.(*Transport).RoundTrip": {"net/http.send", "net/http/httputil.(*ReverseProxy).ServeHTTP"},
}

// beginsNothing are functions from which the code of a transport can be reached, but that make no connection of their own: one
// ends those that are idle, one writes a request down by way of a false connection.
var beginsNothing = []string{"net/http.(*Transport).CloseIdleConnections", "net/http/httputil.DumpRequestOut"}

func (p *program) callers(fn gobin.Func) []gobin.Func {
	var all []gobin.Func
	if slices.Contains(beginsNothing, p.Name(fn)) {
		return nil
	}
	for _, r := range p.Refs(fn) {
		if r.From != fn && (len(all) == 0 || all[len(all)-1] != r.From) {
			all = append(all, r.From)
		}
	}
	for _, name := range throughInterface[p.Name(fn)] {
		if caller, ok := p.Lookup(name); ok {
			all = append(all, caller)
		}
	}
	return all
}

// way is the shortest way by which code outside of the standard library comes to a function: outermost first, "" if none is seen.
func (p *program) way(fn gobin.Func) string {
	before := map[gobin.Func]gobin.Func{fn: -1}
	for todo := []gobin.Func{fn}; len(todo) > 0; {
		fn := todo[0]
		todo = todo[1:]
		if !p.std(fn) {
			var names []string
			for ; fn >= 0; fn = before[fn] {
				names = append(names, p.Name(fn))
			}
			if len(names) > 6 {
				names = slices.Concat(names[:3], []string{"…"}, names[len(names)-2:])
			}
			return strings.Join(names, " → ")
		}
		for _, next := range p.callers(fn) {
			if _, ok := before[next]; !ok {
				before[next] = fn
				todo = append(todo, next)
			}
		}
	}
	return ""
}

// called is evidence: a function, and those who call it.
func (p *program) called(name string, refs []gobin.Ref) string {
	var who []string
	for _, r := range refs {
		if n := p.Name(r.From); !slices.Contains(who, n) {
			who = append(who, n)
		}
	}
	switch {
	case len(who) == 0:
		return name + " is linked"
	case len(who) > 3:
		return fmt.Sprintf("%s is called by %s and %d others", name, strings.Join(who[:3], ", "), len(who)-3)
	}
	return name + " is called by " + strings.Join(who, ", ")
}

// raise adds evidence to a need and lifts its level to at least that one.
func raise(n *Need, kind NeedKind, level Level, evidence ...string) *Need {
	if n == nil {
		n = &Need{Kind: kind}
	}
	for _, e := range evidence {
		switch {
		case slices.Contains(n.Evidence, e):
		case level > n.Level: // the strongest comes first
			n.Evidence = slices.Insert(n.Evidence, 0, e)
		default:
			n.Evidence = append(n.Evidence, e)
		}
	}
	n.Level = max(n.Level, level)
	return n
}
