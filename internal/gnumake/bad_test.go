package gnumake

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// TestBadInput holds that a Makefile that asks for too much ends, by make's own error or as one that is not served.
func TestBadInput(t *testing.T) {
	for name, text := range map[string]string{
		"includes itself":  "include Makefile\nall: ; @echo x\n",
		"make for ever":    "all: ; @$(MAKE) all\n",
		"pattern loop":     "%.a: %.b ; @echo\n%.b: %.a ; @echo\nall: x.a\n.DEFAULT_GOAL = all\n",
		"pattern grows":    "%: %.x ; @echo\nall: y\n",
		"call for ever":    "f = $(call f,$(1)x)\nall: ; @echo $(call f,a)\n",
		"eval for ever":    "E = $(eval $(E))\nall: ; @echo $(E)\n",
		"eval in eval":     "define E\n$(eval $(value E))\nendef\n$(eval $(E))\nall: ; @echo x\n",
		"doubling":         "A := xxxxxxxx\n" + strings.Repeat("A := $(A)$(A)\n", 40) + "all: ; @echo x\n",
		"doubling lazily":  doubling(40) + "all: ; @echo $(A40)\n",
		"foreach bomb":     "L := a b c d e f g h\n" + strings.Repeat("L := $(foreach x,$(L),$(L))\n", 8) + "all: ; @echo x\n",
		"subst bomb":       "A := aaaaaaaaaaaaaaaa\n" + strings.Repeat("A := $(subst a,$(A),$(A))\n", 8) + "all: ; @echo x\n",
		"zero byte":        "all: ; @echo \x00x\n",
		"open parenthesis": "A := " + strings.Repeat("$(", 100000) + "\nall: ; @echo x\n",
		"deep references":  "A := " + strings.Repeat("$(x", 5000) + strings.Repeat(")", 5000) + "\nall: ; @echo x\n",
		"deep prerequisites": func() string {
			var b strings.Builder
			b.WriteString("all: a0\n")
			for i := range 5000 {
				b.WriteString("a" + itoa(i) + ": a" + itoa(i+1) + "\n")
			}
			return b.String()
		}(),
		"remade again": "include gen.mk\nall: ; @echo x\ngen.mk: FORCE\n\t@date +%N >> $@\nFORCE:\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := snippet{files: map[string]string{"Makefile": text}}
			start := time.Now()
			r, err := s.ours(t, "4.3")
			var unserved *UnservedError
			if err != nil && !errors.As(err, &unserved) {
				t.Errorf("%v", err)
			}
			t.Logf("code %d, %v, %v", r.Code, err, time.Since(start))
		})
	}
}

func doubling(n int) string {
	var b strings.Builder
	b.WriteString("A0 = xxxxxxxx\n")
	for i := range n {
		b.WriteString("A" + itoa(i+1) + " = $(A" + itoa(i) + ")$(A" + itoa(i) + ")\n")
	}
	return b.String()
}

// TestInvalidUTF8 holds that bytes go through as they are.
func TestInvalidUTF8(t *testing.T) {
	s := snippet{files: map[string]string{"Makefile": "A := \xff\xfe é\nall: ; @printf '%s' '$(words $(A)) $(A)'\n"}}
	r, err := s.ours(t, "4.3")
	if err != nil || r.Out != "2 \xff\xfe é" {
		t.Errorf("%q, %v", r.Out, err)
	}
}

// TestLargeMakefile holds that reading takes time in proportion: 10 MB of rules and variables.
func TestLargeMakefile(t *testing.T) {
	var b strings.Builder
	b.WriteString("all: ; @echo done $(V7)\n")
	for i := 0; b.Len() < 10<<20; i++ {
		n := itoa(i)
		b.WriteString("V" + n + " := $(subst a,b,value-" + n + ")\nt" + n + ": u" + n + "\n\t@echo $@\n")
	}
	s := snippet{files: map[string]string{"Makefile": b.String()}}
	r, err := s.ours(t, "4.3")
	if err != nil || r.Out != "done vblue-7\n" {
		t.Errorf("%q, %v", r.Out, err)
	}
}

// TestStopped holds that a $(shell) that never ends ends with the context.
func TestStopped(t *testing.T) {
	s := snippet{files: map[string]string{"Makefile": "A := $(shell exec sleep 1000)\nall: ; @echo $A\n"}}
	dir := s.lay(t)
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	go func() { <-started; cancel() }()
	var out bytes.Buffer
	m := &Make{Env: testEnv, Dir: dir, Files: Root(""), Runner: told{started}, Stdout: &out, Stderr: &out}
	if _, err := m.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %s", err, &out)
	}
}

// told is a runner that says when it starts something.
type told struct{ started chan struct{} }

func (r told) Run(ctx context.Context, j *Job) (Exit, error) {
	close(r.started)
	return processes{"4.3"}.Run(ctx, j)
}
