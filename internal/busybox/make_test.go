package busybox

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMakeRuns holds that make runs recipes by the base's shell and commands.
func TestMakeRuns(t *testing.T) {
	for _, tt := range []struct {
		name, makefile, script, want string
		code                         int
	}{
		{"a recipe", "V ?= 1\nall: dep\n\t@echo $@ $(V) | tr a-z A-Z\ndep:\n\ttouch $@\n", "V=2 make && ls dep", "touch dep\nALL 2\ndep\n", 0},
		{"an error", "all:\n\tfalse\n", "make; echo $?", "false\nmake: *** [Makefile:2: all] Error 1\n2\n", 0},
		{"ends the step", "all:\n\t@exit 3\n", "set -e; make; echo no", "make: *** [Makefile:2: all] Error 3\n", 2},
		{"not found", "all:\n\t@nosuchtool x\n", "make", "make: nosuchtool: No such file or directory\nmake: *** [Makefile:2: all] Error 127\n", 2},
		{"a make within", "all:\n\t@$(MAKE) --no-print-directory sub X=1\nsub: ; @echo $(MAKELEVEL) $(X)\n", "make", "1 1\n", 0},
		{"$(shell)", "A := $(shell echo a; echo b)\nall: ; @echo $(A) $(CURDIR)\n", "make all", "a b /work\n", 0},
		{"what the image has", "all:\n\t@lsusb\n", "make", "not served: lsusb is not in the built-in base, and the image has it\n", 125},
		{"not served", "vpath % src\nall: ; @echo x\n", "make", "not served: Makefile:1: vpath is not served\n", 125},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := newRoot(t, Alpine)
			if err := os.WriteFile(filepath.Join(root, "work", "Makefile"), []byte(tt.makefile), 0o644); err != nil {
				t.Fatal(err)
			}
			out, code := runScript(t, root, tt.script)
			if out != tt.want || code != tt.code {
				t.Errorf("code %d, output %q; want %d, %q", code, out, tt.code, tt.want)
			}
		})
	}
}
