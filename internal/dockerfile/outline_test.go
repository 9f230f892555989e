package dockerfile

import (
	"slices"
	"testing"
)

func TestOutline(t *testing.T) {
	stages, args, err := Outline([]byte("ARG A=1 B\nFROM x AS one\nARG C\nARG A\nFROM one\nFROM y AS two\n"))
	if err != nil || !slices.Equal(stages, []string{"one", "two"}) || !slices.Equal(args, []string{"A", "B", "C"}) {
		t.Errorf("%q %q %v", stages, args, err)
	}
	if _, _, err := Outline([]byte("NOTHING\n")); err == nil {
		t.Error("no error")
	}
}
