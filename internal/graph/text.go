package graph

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
)

// Name is how progress shows a vertex: the custom name that the frontend gave it, else what BuildKit makes of the
// operation itself (llbOpName in solver/llbsolver/vertex.go).
func (v *Vertex) Name() string {
	if n := v.Meta.GetDescription()["llb.customname"]; n != "" {
		return n
	}
	switch o := v.Op.Op.(type) {
	case *pb.Op_Source:
		return o.Source.Identifier
	case *pb.Op_Exec:
		return strings.Join(o.Exec.Meta.Args, " ")
	case *pb.Op_File:
		var names []string
		for _, a := range o.File.Actions {
			names = append(names, actionName(a))
		}
		return strings.Join(names, ", ")
	case *pb.Op_Merge:
		var names []string
		for _, e := range v.Inputs {
			names = append(names, e.Vertex.Name())
		}
		return "merge (" + strings.Join(names, ", ") + ")"
	case *pb.Op_Diff:
		return "diff"
	case *pb.Op_Build:
		return "build"
	}
	return "unknown"
}

func actionName(a *pb.FileAction) string {
	switch a := a.Action.(type) {
	case *pb.FileAction_Mkdir:
		return "mkdir " + a.Mkdir.Path
	case *pb.FileAction_Mkfile:
		return "mkfile " + a.Mkfile.Path
	case *pb.FileAction_Symlink:
		return "symlink " + a.Symlink.Newpath + " -> " + a.Symlink.Oldpath
	case *pb.FileAction_Rm:
		return "rm " + a.Rm.Path
	case *pb.FileAction_Copy:
		return "copy " + a.Copy.Src + " " + a.Copy.Dest
	}
	return "unknown"
}

// String is the graph as text, for golden tests and for people: a line for each vertex, inputs first, and below it
// what it asks for. Vertices are numbered as they come; digests do not appear, so the text is stable where they are not.
func (g *Graph) String() string {
	p := printer{number: map[*Vertex]int{}}
	if err := Walk(g, p.vertex); err != nil {
		return err.Error()
	}
	if g.Root.Vertex == nil {
		return "result scratch\n"
	}
	fmt.Fprintf(&p.text, "result %s\n", p.edge(g.Root))
	return p.text.String()
}

type printer struct {
	number map[*Vertex]int
	text   strings.Builder
}

func (p *printer) edge(e Edge) string {
	if e.Index == 0 {
		return fmt.Sprintf("%%%d", p.number[e.Vertex])
	}
	return fmt.Sprintf("%%%d.%d", p.number[e.Vertex], e.Index)
}

// input names input i of v; -1 is scratch, and what lies above the inputs is the result of an earlier file action.
func (p *printer) input(v *Vertex, i int64) string {
	switch {
	case i < 0:
		return "scratch"
	case int(i) < len(v.Inputs):
		return p.edge(v.Inputs[i])
	}
	return fmt.Sprintf("action %d", int(i)-len(v.Inputs))
}

func (p *printer) line(format string, args ...any) { fmt.Fprintf(&p.text, "    "+format+"\n", args...) }

func (p *printer) vertex(v *Vertex) error {
	p.number[v] = len(p.number)
	fmt.Fprintf(&p.text, "%%%d %s", p.number[v], v.Kind())
	if pl := v.Op.Platform; pl != nil && pl.OS != "" {
		fmt.Fprintf(&p.text, " %s", strings.TrimSuffix(pl.OS+"/"+pl.Architecture+"/"+pl.Variant, "/"))
	}
	if v.Meta.GetIgnoreCache() {
		p.text.WriteString(" nocache")
	}
	p.text.WriteString("\n")
	switch o := v.Op.Op.(type) {
	case *pb.Op_Source:
		p.line("%s", o.Source.Identifier)
		for _, k := range slices.Sorted(maps.Keys(o.Source.Attrs)) {
			p.line("%s=%s", k, o.Source.Attrs[k])
		}
	case *pb.Op_Exec:
		p.exec(v, o.Exec)
	case *pb.Op_File:
		for _, a := range o.File.Actions {
			p.action(v, a)
		}
	case *pb.Op_Merge:
		for _, in := range o.Merge.Inputs {
			p.line("%s", p.input(v, in.Input))
		}
	}
	return nil
}

// Kind is the operation in a word: source, exec, file, merge, diff, build, passthrough.
func (v *Vertex) Kind() string {
	switch v.Op.Op.(type) {
	case *pb.Op_Source:
		return "source"
	case *pb.Op_Exec:
		return "exec"
	case *pb.Op_File:
		return "file"
	case *pb.Op_Merge:
		return "merge"
	case *pb.Op_Diff:
		return "diff"
	case *pb.Op_Build:
		return "build"
	case *pb.Op_Passthrough:
		return "passthrough"
	}
	return "unknown"
}

func (p *printer) exec(v *Vertex, o *pb.ExecOp) {
	p.line("args %q", o.Meta.Args)
	for _, e := range o.Meta.Env {
		p.line("env %s", e)
	}
	p.line("cwd %s", o.Meta.Cwd)
	if o.Meta.User != "" {
		p.line("user %s", o.Meta.User)
	}
	if o.Network != pb.NetMode_UNSET {
		p.line("network %s", strings.ToLower(o.Network.String()))
	}
	if o.Security != pb.SecurityMode_SANDBOX {
		p.line("security %s", strings.ToLower(o.Security.String()))
	}
	for _, m := range o.Mounts {
		p.mount(v, m)
	}
	for _, s := range o.Secretenv {
		p.line("secret env %s from %s", s.Name, s.ID)
	}
}

func (p *printer) mount(v *Vertex, m *pb.Mount) {
	s := fmt.Sprintf("mount %s %s from %s", m.Dest, strings.ToLower(m.MountType.String()), p.input(v, m.Input))
	if m.Selector != "" {
		s += " path " + m.Selector
	}
	if m.Readonly {
		s += " readonly"
	}
	if out := Output(m); out >= 0 {
		s += fmt.Sprintf(" to output %d", out)
	}
	if c := m.CacheOpt; c != nil {
		s += fmt.Sprintf(" id %s %s", c.ID, strings.ToLower(c.Sharing.String()))
	}
	if c := m.SecretOpt; c != nil {
		s += fmt.Sprintf(" id %s %d:%d %o", c.ID, c.Uid, c.Gid, c.Mode)
	}
	if c := m.SSHOpt; c != nil {
		s += fmt.Sprintf(" id %s %d:%d %o", c.ID, c.Uid, c.Gid, c.Mode)
	}
	p.line("%s", s)
}

func (p *printer) action(v *Vertex, a *pb.FileAction) {
	s := actionName(a)
	if c := a.GetCopy(); c != nil {
		s += " from " + p.input(v, a.SecondaryInput)
	}
	s += " on " + p.input(v, a.Input)
	if o := Owner(a); o != nil {
		s += " owner " + p.user(v, o.User) + ":" + p.user(v, o.Group)
	}
	if a.Output >= 0 {
		s += fmt.Sprintf(" to output %d", a.Output)
	}
	p.line("%s", s)
}

func (p *printer) user(v *Vertex, u *pb.UserOpt) string {
	switch u := u.GetUser().(type) {
	case *pb.UserOpt_ByName:
		return fmt.Sprintf("%s in %s", u.ByName.GetName(), p.input(v, u.ByName.GetInput()))
	case *pb.UserOpt_ByID:
		return fmt.Sprint(u.ByID)
	}
	return ""
}
