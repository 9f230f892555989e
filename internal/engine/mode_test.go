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
