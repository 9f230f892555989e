package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/gobin"
)

// zones finds whether times are shown in places that only the zone database knows.
func zones(p *program) *Need {
	const load = "time.LoadLocation"
	if !p.has(load) {
		return nil
	}
	need := &Need{Kind: NeedZones}
	calls := p.refs(load, p.outside)
	if !p.CallGraph {
		need.Level, need.Open, need.Evidence = Likely, true, []string{load + " is linked"}
	} else if len(calls) == 0 {
		need.Level, need.Open = Possible, true
		need.Evidence = []string{load + " is linked, but nobody calls it directly"}
		if p.stored(load) {
			need.Evidence = []string{load + " is stored as a value"}
		}
	} else {
		args := p.Args(calls[0].To, 0, p.outside)
		need.Values = slices.DeleteFunc(args.Values, func(z string) bool { return z == "" || z == "UTC" || z == "Local" })
		need.Open = !args.Complete
		switch {
		case args.Complete && len(need.Values) == 0:
			need.Evidence = []string{fmt.Sprintf("%s with %q only: built in", p.called(load, calls), args.Values)}
		case args.Complete:
			need.Level = Linked
			need.Evidence = []string{fmt.Sprintf("%s with %q", p.called(load, calls), need.Values)}
		default:
			need.Level = Likely
			need.Evidence = []string{p.called(load, calls) + " with a name that is made at run time"}
		}
	}
	if p.has("time/tzdata.loadFromEmbeddedTZData") {
		need.Level = None
		need.Evidence = append(need.Evidence, "time/tzdata is linked: the zones are embedded")
	}
	return need
}

// userFuncs look into /etc/passwd and /etc/group: the functions that programs call, and where those are inlined what they call.
var userFuncs = []string{
	"os/user.Current", "os/user.Lookup", "os/user.LookupId", "os/user.LookupGroup", "os/user.LookupGroupId", "os/user.(*User).GroupIds",
	"os/user.current", "os/user.lookupUser", "os/user.lookupUserId", "os/user.lookupGroup", "os/user.lookupGroupId", "os/user.listGroups",
}

// users finds whether names of users and groups are looked up. archive/tar does it, too, and goes on without.
func users(p *program) *Need {
	var need *Need
	add := func(level Level, evidence string) { need = raise(need, NeedUsers, level, evidence) }
	outside := p.notIn("os/user")
	tar, fallback := false, ""
	for _, name := range userFuncs {
		if !p.has(name) {
			continue
		}
		if !p.CallGraph {
			if name != "os/user.lookupUserId" && name != "os/user.lookupGroupId" && name != "os/user.LookupId" && name != "os/user.LookupGroupId" || !p.has("archive/tar.statUnix") {
				add(Likely, name+" is linked")
			}
			continue
		}
		calls := p.refs(name, outside)
		n := len(calls)
		if name == "os/user.Current" || name == "os/user.current" {
			calls = slices.DeleteFunc(calls, func(r gobin.Ref) bool {
				if p.asksForHome(r) {
					fallback = p.Name(r.From)
				}
				return p.asksForHome(r)
			})
			n = len(calls)
		}
		for i := 0; i < len(calls); {
			if p.Name(calls[i].From) == "archive/tar.statUnix" || !p.reached(calls[i].From) {
				calls = slices.Delete(calls, i, i+1)
			} else {
				i++
			}
		}
		tar = tar || n > len(calls)
		if len(calls) > 0 {
			level := Linked
			if strings.HasSuffix(name, "urrent") && !p.CGO() {
				level = Likely // USER and HOME do as well, and many ask only where HOME is not set
			}
			if !slices.ContainsFunc(calls, isCall) {
				level = Possible
			}
			evidence := p.called(name, calls)
			if strings.HasSuffix(name, "urrent") {
				level = p.byLibrary(level, calls)
				if p.copes(calls, 2) {
					level, evidence = Possible, evidence+", which looks at no error"
				}
			}
			add(level, evidence)
			if !strings.HasSuffix(name, "urrent") && !strings.HasSuffix(name, "Id") && !strings.HasSuffix(name, "listGroups") && !strings.HasSuffix(name, "GroupIds") {
				args := p.Args(calls[0].To, 0, outside)
				need.Values = append(need.Values, args.Values...)
				need.Open = need.Open || !args.Complete
			}
		} else if p.stored(name) {
			add(Possible, name+" is stored as a value")
		}
	}
	if need == nil && fallback != "" {
		add(None, fallback+" looks the user up where HOME is not set, and every container has one set")
	}
	if need == nil && tar {
		add(None, "archive/tar.statUnix looks up owners, and leaves their names out where it cannot")
	}
	return need
}

// byLibrary lowers a level to possible where all that calls is libraries, and the program's own code calls none of these functions itself:
// they look for defaults, settings and places to write to that are needed on choices which most programs do not make. The directory of
// a log that is written to standard error is one.
func (p *program) byLibrary(level Level, calls []gobin.Ref) Level {
	for _, r := range calls {
		if p.own(r.From) || slices.ContainsFunc(p.Refs(r.From), func(q gobin.Ref) bool { return p.own(q.From) }) {
			return level
		}
	}
	return min(level, Possible)
}

// copes says that each caller goes on where a call fails: nobody gets to see the error, whose second word is that one of the results. It is
// dropped, or only asks whether there is one, and then something else is taken: user.Current for the default of a setting, say.
func (p *program) copes(calls []gobin.Ref, word int) bool {
	return !slices.ContainsFunc(calls, func(r gobin.Ref) bool { return !p.Ignored(r, word) })
}

// asksForHome says that before a call its function asked for HOME, and comes to the call only where there is none: it looks the user
// up for a home that the environment did not name. Container runtimes always set HOME (runc's init_linux.go), so
// [os.UserHomeDir], which fails only where it is empty, does not fail either.
func (p *program) asksForHome(r gobin.Ref) bool {
	if r.Kind != gobin.Call {
		return false
	}
	for _, name := range []string{"os.Getenv", "os.LookupEnv", "syscall.Getenv", "os.UserHomeDir"} {
		fn, ok := p.Lookup(name)
		if !ok {
			continue
		}
		for _, q := range p.Refs(fn) {
			if q.From == r.From && q.Kind == gobin.Call && (name == "os.UserHomeDir" || slices.Contains(p.Arg(q, 0).Values, "HOME")) && p.OnlyWithout(q, r) {
				return true
			}
		}
	}
	return false
}

// tempDir finds whether temporary files are made where the system keeps them.
func tempDir(p *program) *Need {
	var need *Need
	add := func(level Level, evidence string) { need = raise(need, NeedTemp, level, evidence) }
	for _, name := range []string{"os.CreateTemp", "os.MkdirTemp"} {
		if !p.has(name) {
			continue
		}
		if !p.CallGraph {
			add(Likely, name+" is linked")
			continue
		}
		if p.stored(name) {
			add(Possible, name+" is stored as a value")
		}
		var dynamic []gobin.Ref
		for _, r := range p.refs(name, func(gobin.Func) bool { return true }) {
			caller := p.Name(r.From)
			if p.std(r.From) && !strings.HasPrefix(caller, "io/ioutil.") {
				switch {
				case caller == "mime/multipart.(*Reader).readForm" && p.noRequests():
					add(None, "forms are read where requests are served, and nothing here takes any")
				case p.reached(r.From):
					add(Possible, name+" is called by "+caller)
				}
				continue
			}
			switch args := p.Arg(r, 0); {
			case slices.Contains(args.Values, ""):
				add(Linked, fmt.Sprintf("%s is called by %s with directory %q", name, caller, ""))
			case slices.ContainsFunc(args.Values, inTmp):
				add(Linked, fmt.Sprintf("%s is called by %s with directory %q", name, caller, args.Values))
			case !args.Complete:
				dynamic = append(dynamic, r)
			}
		}
		if len(dynamic) > 0 {
			add(Possible, p.called(name, dynamic)+" with a directory that is made at run time")
		}
	}
	// Uploads go to files from a limit on. Who asks for a form's value alone may never see one.
	for _, name := range []string{"net/http.(*Request).ParseMultipartForm", "net/http.(*Request).FormFile", "mime/multipart.(*Reader).ReadForm"} {
		if calls := p.refs(name, p.outside); len(calls) > 0 {
			add(p.byLibrary(Likely, calls), p.called(name, calls)+": files that are uploaded are kept in the directory of temporary files")
		}
	}
	// os.TempDir is inlined: what is seen of it is the question for TMPDIR.
	for _, name := range []string{"os.Getenv", "os.LookupEnv", "syscall.Getenv", "os.TempDir", "os.tempDir"} {
		for _, r := range p.refs(name, p.outside) {
			if strings.HasSuffix(name, "empDir") || slices.Contains(p.Arg(r, 0).Values, "TMPDIR") {
				add(p.byLibrary(Likely, []gobin.Ref{r}), p.Name(r.From)+" asks for the directory of temporary files (os.TempDir)")
			}
		}
	}
	// What calls are given is told exactly; what goes through structures, flags and longer paths is only seen to be mentioned.
	for name, word := range map[string]int{"os.OpenFile": 0, "os.Create": 0, "os.WriteFile": 0, "os.Mkdir": 0, "os.MkdirAll": 0, "net.Listen": 2, "net.ListenUnix": 2} {
		for _, r := range p.refs(name, p.outside) {
			if at := slices.IndexFunc(p.Arg(r, word).Values, inTmp); at >= 0 {
				add(Likely, fmt.Sprintf("%s is called by %s with %q", name, p.Name(r.From), p.Arg(r, word).Values[at]))
			}
		}
	}
	for _, dir := range []string{"/tmp", "/var/tmp"} {
		in, inData := p.Mentions(dir)
		for _, fn := range in {
			switch {
			case p.std(fn) || !p.live(fn):
			case p.own(fn):
				add(Likely, p.Name(fn)+" has a constant path in "+dir)
			default:
				add(Possible, p.Name(fn)+" has a constant path in "+dir)
			}
		}
		if inData {
			add(Possible, "a variable has a path in "+dir)
		}
	}
	if p.runsGo() {
		add(Possible, "it runs the go command, which works in the directory of temporary files")
	}
	return need
}

func inTmp(path string) bool {
	return path == "/tmp" || strings.HasPrefix(path, "/tmp/") || path == "/var/tmp" || strings.HasPrefix(path, "/var/tmp/")
}

// home finds whether the user's own directory is asked for. os/user asks for it as well.
func home(p *program) *Need {
	var need *Need
	add := func(level Level, evidence string) { need = raise(need, NeedHome, level, evidence) }
	for _, name := range []string{"os.UserHomeDir", "os.UserConfigDir", "os.UserCacheDir"} {
		if !p.CallGraph {
			if p.has(name) && (name != "os.UserHomeDir" || !p.has("os/user.current")) {
				add(Likely, name+" is linked")
			}
			continue
		}
		if calls := p.refs(name, p.outside); len(calls) > 0 {
			add(p.byLibrary(Likely, calls), p.called(name, calls))
		} else if p.stored(name) {
			add(Possible, name+" is stored as a value")
		}
	}
	for _, name := range []string{"os.Getenv", "os.LookupEnv", "syscall.Getenv"} {
		for _, r := range p.refs(name, p.outside) {
			if slices.Contains(p.Arg(r, 0).Values, "HOME") {
				level := Possible // libraries look there for settings, and go on without
				if p.own(r.From) {
					level = Likely
				}
				add(level, fmt.Sprintf("%s is called by %s with %q", name, p.Name(r.From), "HOME"))
			}
		}
	}
	for name, word := range map[string]int{"os.ExpandEnv": 0, "os.Expand": 0} {
		for _, r := range p.refs(name, p.outside) {
			at := slices.IndexFunc(p.Arg(r, word).Values, func(s string) bool { return strings.Contains(s, "$HOME") || strings.Contains(s, "${HOME}") })
			if at < 0 {
				continue
			}
			level := Possible
			if p.own(r.From) {
				level = Likely
			}
			add(level, fmt.Sprintf("%s is called by %s with %q", name, p.Name(r.From), p.Arg(r, word).Values[at]))
		}
	}
	if p.runsGo() { // [examination.level] knows whether there is one to run
		add(Possible, "it runs the go command, which keeps its caches below HOME")
	}
	return need
}

// registers put a handler into the table of a mux, inlined or not.
var registers = []string{
	"net/http.HandleFunc", "net/http.Handle", "net/http.(*ServeMux).HandleFunc", "net/http.(*ServeMux).Handle", "net/http.(*ServeMux).register",
	"net/http.(*ServeMux).registerErr",
}

// noRequests says that forms are read by handlers alone which nobody calls: each is taken as a value where it is put into a mux, and no mux
// is ever asked, since the linker left out its ServeHTTP. That of golang.org/x/net/trace is one, which every program with gRPC has.
func (p *program) noRequests() bool {
	if p.has("net/http.(*ServeMux).ServeHTTP") || p.has("net/http.(*conn).serve") || !p.CallGraph {
		return false
	}
	form, ok := p.Lookup("mime/multipart.(*Reader).readForm")
	if !ok {
		return false
	}
	seen := map[gobin.Func]bool{form: true}
	for todo := []gobin.Func{form}; len(todo) > 0; {
		fn := todo[0]
		todo = todo[1:]
		if p.Stored(fn) || p.InData(fn) && !p.taken(fn) || p.outside(fn) && len(p.Refs(fn)) == 0 {
			return false
		}
		for _, r := range p.Refs(fn) {
			if r.Kind == gobin.Taken {
				if !p.calls(r.From, registers) {
					return false
				}
			} else if !seen[r.From] {
				seen[r.From] = true
				todo = append(todo, r.From)
			}
		}
	}
	return true
}

// taken says that the value of a function is made somewhere: then that is why its entry lies in data.
func (p *program) taken(fn gobin.Func) bool {
	return slices.ContainsFunc(p.Refs(fn), func(r gobin.Ref) bool { return r.Kind == gobin.Taken })
}

// calls says that a function calls one of those.
func (p *program) calls(fn gobin.Func, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		to, ok := p.Lookup(name)
		return ok && slices.ContainsFunc(p.Refs(to), func(r gobin.Ref) bool { return r.From == fn && isCall(r) })
	})
}
