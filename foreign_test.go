package skiff_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-build/skiff"
)

// openState opens a state of the test's own.
func openState(t testing.TB) *skiff.State {
	t.Helper()
	state, err := skiff.Open(skiff.Config{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := state.Close(); err != nil {
			t.Error(err)
		}
	})
	return state
}

// TestDiagnoseNoGoProgram: of a file that begins as a program and is none of Go's there is an error that says so, and no report.
func TestDiagnoseNoGoProgram(t *testing.T) {
	state := openState(t)
	machine, err := os.ReadFile("/bin/sh") // a program of C where there is one
	if err != nil {
		machine = nil
	}
	for name, content := range map[string][]byte{
		"header": append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 57)...), "of C": machine,
	} {
		if content == nil {
			continue
		}
		file := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(file, content, 0o755); err != nil {
			t.Fatal(err)
		}
		reports, err := state.Diagnose(t.Context(), file, skiff.DiagnoseOptions{Ignore: []string{"home"}})
		if err == nil || !strings.Contains(err.Error(), "not a Go executable") || len(reports) > 0 {
			t.Errorf("%s: reports %v, error %v", name, reports, err)
		}
	}
}
