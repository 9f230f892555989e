//go:build linux

package sandbox

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

var _ = helper("hello", func(args []string) error {
	fmt.Println("hello", strings.Join(args, " "))
	return nil
})

var _ = helper("status", func([]string) error {
	b, err := os.ReadFile("/proc/self/status")
	fmt.Print(string(b))
	return err
})

func TestRunHello(t *testing.T) {
	modes(t, func(t *testing.T, c *Child) {
		if out := mustRun(t, c, step(t, "hello", "world")); out != "hello world\n" {
			t.Fatalf("got %q", out)
		}
	})
}
