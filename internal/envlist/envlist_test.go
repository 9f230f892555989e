package envlist

import (
	"slices"
	"testing"
)

func TestLists(t *testing.T) {
	env := []string{"A=1", "AB=2", "A", "B=", "A=3=4"}
	before := slices.Clone(env)
	for name, want := range map[string]string{"A": "3=4", "AB": "2", "B": "", "C": "", "": ""} {
		if got := Get(env, name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]bool{"A": true, "B": true, "C": false, "": false} {
		if Has(env, name) != want {
			t.Errorf("%q: set is %v", name, !want)
		}
	}
	if got := Without(env, "A"); !slices.Equal(got, []string{"AB=2", "A", "B="}) {
		t.Errorf("without A: %q", got)
	}
	if got := With(env, "A=5", "C=6", "C=7"); !slices.Equal(got, []string{"AB=2", "A", "B=", "A=5", "C=7"}) {
		t.Errorf("with A and C: %q", got)
	}
	if !slices.Equal(env, before) {
		t.Errorf("the list itself was changed: %q", env)
	}
}
