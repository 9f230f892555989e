package gnumake

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

var generated = flag.Int("generated", 150, "how many generated Makefiles TestGenerated compares")

// gen writes Makefiles by a grammar.
type gen struct {
	r *rand.Rand
	b strings.Builder
}

func (g *gen) pick(list ...string) string { return list[g.r.IntN(len(list))] }

func (g *gen) name() string { return g.pick("A", "B", "C", "D", "E") }

func (g *gen) target() string { return g.pick("t1", "t2", "t3", "t4", "t5", "x.o", "y.o") }

// text is a text with references and calls, depth deep.
func (g *gen) text(depth int) string {
	if depth == 0 {
		return g.pick("a", "b.c", "x y", "", "foo.c bar.h", "1", "%", "d/e.f", " z ")
	}
	t := func() string { return g.text(depth - 1) }
	switch g.r.IntN(24) {
	case 0, 1, 2:
		return "$(" + g.name() + ")"
	case 3:
		return "$(subst " + t() + "," + t() + "," + t() + ")"
	case 4:
		return "$(patsubst %.c,%.o," + t() + ")"
	case 5:
		return "$(filter a %.c," + t() + ")"
	case 6:
		return "$(filter-out a %.h," + t() + ")"
	case 7:
		return "$(if " + t() + "," + t() + "," + t() + ")"
	case 8:
		return "$(foreach v," + t() + ",<$(v)" + t() + ">)"
	case 9:
		return "$(call F," + t() + "," + t() + ")"
	case 10:
		return "$(" + g.pick("dir", "notdir", "suffix", "basename", "sort", "strip", "words", "firstword", "lastword") + " " + t() + ")"
	case 11:
		return "$(" + g.name() + ":" + g.pick("a=b", "%.c=%.o", ".c=.o", "%=p-%") + ")"
	case 12:
		return "$(word 1," + t() + ")"
	case 13:
		return "$(join " + t() + "," + t() + ")"
	case 14:
		return "$(" + g.pick("addprefix", "addsuffix") + " q," + t() + ")"
	case 15:
		return "$(" + g.pick("or", "and") + " " + t() + "," + t() + ")"
	case 16:
		return "$(" + g.pick("origin", "flavor", "value") + " " + g.name() + ")"
	case 17:
		return "$(findstring a," + t() + ")"
	case 18:
		return t() + g.pick(" ", "", ",") + t()
	case 19:
		return "${" + g.name() + "}"
	case 20:
		return "$(wordlist 1,2," + t() + ")"
	}
	return t()
}

func (g *gen) line(depth int) {
	switch g.r.IntN(12) {
	case 0, 1, 2, 3:
		fmt.Fprintf(&g.b, "%s%s %s %s\n", g.pick("", "", "", "override ", "export "), g.name(), g.pick("=", ":=", "?=", "+=", "::="), g.text(2))
	case 4:
		fmt.Fprintf(&g.b, "define %s%s\n%s\n%s\nendef\n", g.name(), g.pick("", " =", " :=", " +="), g.text(1), g.text(1))
	case 5:
		if depth > 2 {
			return
		}
		fmt.Fprintf(&g.b, "%s\n", g.pick("ifeq ($("+g.name()+"),a)", "ifneq \"$("+g.name()+")\" ''", "ifdef "+g.name(), "ifndef "+g.name()))
		g.line(depth + 1)
		if g.r.IntN(2) == 0 {
			g.b.WriteString(g.pick("else\n", "else ifdef "+g.name()+"\n"))
			g.line(depth + 1)
		}
		g.b.WriteString("endif\n")
	case 6:
		fmt.Fprintf(&g.b, "%s: %s %s %s\n", g.target(), g.name(), g.pick("=", ":=", "+="), g.text(1))
	case 7:
		fmt.Fprintf(&g.b, "$(info %s)\n", g.text(2))
	case 8:
		fmt.Fprintf(&g.b, "$(eval %s = %s)\n", g.name(), g.text(1))
	default:
		fmt.Fprintf(&g.b, "%s%s %s\n", g.target(), g.pick(":", ":", "::"), g.pick("", g.target(), g.target()+" "+g.target(), "| "+g.target(), "%.src"))
		for range g.r.IntN(3) {
			fmt.Fprintf(&g.b, "\t%s\n", g.pick("@echo $@ $^ $?", "@echo '$("+g.name()+")'", "-false", "@false", "@echo '"+g.text(1)+"'", "touch $@", "@echo $< $| $*"))
		}
	}
}

func makefile(seed uint64) snippet {
	g := &gen{r: rand.New(rand.NewPCG(seed, 15))}
	g.b.WriteString("F = [$(2)$(1)]\n")
	if g.r.IntN(4) == 0 {
		g.b.WriteString("%.o: %.src\n\t@echo $@ $< $*\n")
	}
	for range 4 + g.r.IntN(14) {
		g.line(0)
	}
	s := snippet{text: g.b.String(), files: map[string]string{"Makefile": g.b.String(), "x.src": "", "t3": ""}}
	s.args = strings.Fields(g.pick("", "", "-k", "-n", "-B", "-s", "-k t2 t1", "-q t1", "A=cmd", "-e", "-i"))
	return s
}

// TestGenerated holds that Makefiles of a grammar do what they do in the real make, or are refused.
func TestGenerated(t *testing.T) {
	program, version := oracle(t)
	if version == "" {
		t.Skipf("a GNU make of one of the versions %q is not installed: nothing to compare with", versions)
	}
	refused := 0
	for seed := range *generated {
		s := makefile(uint64(seed))
		got, err := s.ours(t, version)
		if err != nil {
			refused++
			continue
		}
		if want := s.real(t, program); want.String() != got.String() {
			t.Errorf("seed %d, %q\n%s\n real %s\n ours %s", seed, s.args, s.text, want, got)
		}
	}
	if refused > *generated/10 {
		t.Errorf("%d of %d are refused", refused, *generated)
	}
}

// FuzzMake holds that no text makes a panic.
func FuzzMake(f *testing.F) {
	for _, text := range snippets(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		m := &Make{Dir: "/nonexistent", Args: []string{"-f", "/Makefile", "-n"}, Files: oneFile{Root("/nonexistent"), text}, Runner: nothing{}, Stdout: io.Discard, Stderr: io.Discard}
		_, _ = m.Run(ctx) // any end but a panic is right
	})
}

// oneFile is a file system with a Makefile alone.
type oneFile struct {
	Root
	text string
}

func (o oneFile) ReadFile(name string) ([]byte, error) {
	if name == "/Makefile" {
		return []byte(o.text), nil
	}
	return o.Root.ReadFile(name)
}

// nothing runs nothing.
type nothing struct{}

func (nothing) Run(context.Context, *Job) (Exit, error) { return Exit{}, nil }
