package doctor

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/gobin"
)

// loader is what the file's headers say.
func loader(p *program) *Need {
	if p.Interp == "" {
		return nil
	}
	evidence := "the kernel starts " + p.Interp + " in its place (PT_INTERP)"
	if len(p.Libraries) == 0 {
		evidence += "; no library is named, the loader alone is enough"
	}
	return &Need{Kind: NeedLoader, Level: Linked, Evidence: []string{evidence}, Values: append([]string{p.Interp}, p.Libraries...)}
}

func isCall(r gobin.Ref) bool { return r.Kind == gobin.Call }

// programCalls start other programs: the word of the argument that names them.
var programCalls = []struct {
	name string
	word int
}{
	{"os/exec.Command", 0}, {"os/exec.CommandContext", 2}, {"os/exec.LookPath", 0}, {"os/exec.lookPath", 0},
	{"os.StartProcess", 0}, {"syscall.Exec", 0}, {"syscall.ForkExec", 0}, {"syscall.StartProcess", 0}, {"golang.org/x/sys/unix.Exec", 0},
}

// programs finds which other programs are run.
func programs(p *program) *Need {
	var need *Need
	add := func(level Level, evidence string) { need = raise(need, NeedProgram, level, evidence) }
	for _, c := range programCalls {
		var dynamic []gobin.Ref
		if !p.has(c.name) {
			continue
		}
		if !p.CallGraph {
			if strings.HasPrefix(c.name, "os/exec.") {
				add(Possible, c.name+" is linked")
				need.Open = true
			}
			continue
		}
		if p.stored(c.name) {
			add(Possible, c.name+" is stored as a value")
			need.Open = true
		}
		for _, r := range p.refs(c.name, p.notStarter) {
			if !p.reached(r.From) {
				continue
			}
			caller := p.Name(r.From)
			args := p.Arg(r, c.word)
			names := slices.DeleteFunc(args.Values, func(s string) bool { return s == "" })
			switch {
			case len(names) > 0 && !p.std(r.From):
				add(p.byLibrary(Likely, []gobin.Ref{r}), fmt.Sprintf("%s is called by %s with %q", c.name, caller, names))
				need.Values = append(need.Values, names...)
			case len(names) > 0:
				add(Possible, fmt.Sprintf("%s is called by %s with %q", c.name, caller, names))
			case !args.Complete:
				dynamic = append(dynamic, r)
			}
			if need != nil {
				need.Open = need.Open || !args.Complete
			}
		}
		if len(dynamic) > 0 {
			add(Possible, p.called(c.name, dynamic)+" with a name that is made at run time")
			need.Open = true
		}
	}
	// Whoever fills an exec.Cmd in itself gives it the path of a program. [exec.Command] makes one in os/exec.
	for _, c := range p.Objects("exec.Cmd", p.outside) {
		if !p.live(c.In) {
			continue
		}
		need = raise(need, NeedProgram, Possible, p.Name(c.In)+" makes an exec.Cmd of its own")
		need.Open = true
		if name, ok := c.Text(0); ok && name != "" {
			add(Likely, fmt.Sprintf("%s makes an exec.Cmd with the path %q", p.Name(c.In), name))
			need.Values = append(need.Values, name)
		}
	}
	return need
}

// notStarter leaves out the packages that start programs for others.
func (p *program) notStarter(fn gobin.Func) bool {
	pkg := gobin.Package(p.Name(fn))
	return pkg != "os/exec" && pkg != "os" && pkg != "syscall"
}

// runsGo says that the program runs the go command.
func (p *program) runsGo() bool {
	need := programs(p)
	return need != nil && slices.ContainsFunc(need.Values, func(name string) bool { return path.Base(name) == "go" })
}

// resolver finds lookups of host names. Their files are the container runtime's to supply; with cgo the C library may load parts
// of itself for them.
func resolver(p *program) *Need {
	if p.Interp != "" && p.CGO() {
		for _, name := range []string{"net.cgoLookupHostIP", "net._C_getaddrinfo", "net.cgoLookupIP", "net.doBlockingWithCtx[go.shape.struct { net.addrs []net.IPAddr; net.err error }]"} {
			if p.has(name) {
				return &Need{Kind: NeedResolver, Level: Possible, Evidence: []string{
					name + " is linked: the C library's getaddrinfo, which may load its NSS modules (glibc 2.34 and later has files and dns built in)"}}
			}
		}
	}
	if !p.has("net.dnsReadConfig") {
		return nil
	}
	return &Need{Kind: NeedResolver, Evidence: []string{"net.dnsReadConfig is linked: the container runtime supplies /etc/resolv.conf and /etc/hosts"}}
}

// syslog finds writers to the system's log. With a network and an address it is another machine's.
func syslog(p *program) *Need {
	const write = "log/syslog.unixSyslog"
	if !p.has(write) {
		return nil
	}
	evidence := write + " is linked: it wants the socket /dev/log"
	fn, ok := p.Lookup("log/syslog.Dial")
	if !ok || !p.CallGraph {
		return &Need{Kind: NeedSyslog, Level: Likely, Evidence: []string{evidence}}
	}
	args := p.Args(fn, 0, nil)
	switch {
	case slices.Contains(args.Values, ""):
		return &Need{Kind: NeedSyslog, Level: Likely, Evidence: []string{evidence}}
	case args.Complete:
		return &Need{Kind: NeedSyslog, Evidence: []string{fmt.Sprintf("log/syslog.Dial is called with %q only: a log elsewhere", args.Values)}}
	}
	return &Need{Kind: NeedSyslog, Level: Possible, Evidence: []string{evidence + " when its network is not given"}}
}

func mimeTypes(p *program) *Need {
	if !p.has("mime.loadMimeFile") {
		return nil
	}
	return &Need{Kind: NeedMIME, Level: Possible, Evidence: []string{"mime.loadMimeFile is linked: a table of common types is built in, a system's file only adds to it"}}
}

// files finds files of the program's own that it reads by name.
func files(p *program) *Need {
	var need *Need
	for _, c := range []struct {
		name string
		word int // -1: no string
	}{
		{"plugin.open", 0}, {"plugin.Open", 0}, {"net/http.ServeFile", 3}, {"html/template.parseGlob", 1}, {"text/template.parseGlob", 1},
		{"html/template.(*Template).ParseGlob", 1}, {"text/template.(*Template).ParseGlob", 1},
		{"html/template.parseFiles", -1}, {"text/template.parseFiles", -1},
	} {
		if !p.has(c.name) {
			continue
		}
		calls := p.refs(c.name, p.outside)
		if p.CallGraph && len(calls) == 0 {
			continue
		}
		need = raise(need, NeedFiles, Possible, p.called(c.name, calls)+": it reads files at run time")
		need.Open = true
		for _, r := range calls {
			if c.word >= 0 {
				need.Values = append(need.Values, p.Arg(r, c.word).Values...)
			}
		}
	}
	return need
}

// terminfo finds packages that read descriptions of terminals.
func terminfo(p *program) *Need {
	for _, name := range []string{
		"github.com/gdamore/tcell/v2/terminfo/dynamic.LoadTerminfo", "github.com/gdamore/tcell/terminfo/dynamic.LoadTerminfo",
		"github.com/xo/terminfo.Load", "github.com/xo/terminfo.Open",
	} {
		if p.has(name) {
			return &Need{Kind: NeedTerminfo, Level: Possible, Evidence: []string{name + " is linked"}}
		}
	}
	return nil
}
