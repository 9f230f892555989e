package engine

import (
	"strings"
	"testing"

	"github.com/skiff-build/skiff/internal/sandbox"
)

// That there is a sandbox, and what steps lack in it, is said once for a state, and the mode is found without a process after that.
func TestModeIsRemembered(t *testing.T) {
	b := newBench(t)
	first := b.must(b.base())
	if !strings.Contains(first.text(), "enter the sandbox") {
		t.Errorf("told:\n%s", first.text())
	}
	e := b.engine(nil)
	defer e.Close()
	salt, err := e.salt(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, started := e.child.peek(); started || strings.HasSuffix(salt, " none") {
		t.Errorf("the mode had to be found again: %s", salt)
	}
	second := b.must(b.base().Run(run("echo")).Root())
	if strings.Contains(second.text(), "enter the sandbox") {
		t.Errorf("told again:\n%s", second.text())
	}
}

func TestKeysKnowTheMode(t *testing.T) {
	b := newBench(t)
	salts := map[string]bool{}
	for _, mode := range []sandbox.Mode{sandbox.ModeRoot, sandbox.ModeSubIDs, sandbox.ModeOneID} {
		b.options = func(o *Options) { o.Mode = mode }
		e := b.engine(nil)
		salt, err := e.salt(t.Context())
		e.Close()
		if err != nil {
			t.Fatal(err)
		}
		salts[salt] = true
	}
	if len(salts) != 3 {
		t.Errorf("got %v", salts)
	}
}

// Where no child comes up any more the keys are for the mode that there was, so that cached steps are found; and none that
// comes up in another after all makes layers under them.
func TestLastMode(t *testing.T) {
	b := newBench(t)
	e := b.engine(nil)
	if mode := e.lastMode(); mode != "none" {
		t.Errorf("a new state has mode %s", mode)
	}
	e.Close()
	b.must(b.base())
	e = b.engine(nil)
	defer e.Close()
	mode, err := e.mode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if last := e.lastMode(); last != mode {
		t.Errorf("the last mode is %s, and it was %s", last, mode)
	}
	e.assumed = "another"
	if _, err := e.startChild(t.Context()); err == nil || !strings.Contains(err.Error(), "begun for mode another") {
		t.Errorf("a child in mode %s: %v", mode, err)
	}
}
