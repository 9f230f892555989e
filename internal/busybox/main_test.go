package busybox

import (
	"os"
	"testing"
)

// TestMain lets the test binary be what skiff is inside a base: its own commands.
func TestMain(m *testing.M) {
	if run, ok := Applet(os.Args); ok {
		os.Exit(run())
	}
	code := m.Run()
	if links, err := commandLinks(); err == nil {
		os.RemoveAll(links)
	}
	os.Exit(code)
}
