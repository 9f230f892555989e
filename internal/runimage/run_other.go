//go:build !linux

package runimage

import (
	"os"

	"github.com/skiff-build/skiff/internal/sandbox"
)

var forwarded = []os.Signal{os.Interrupt}

// Init is none where there are no containers.
func Init([]string) (code int, ok bool) { return 0, false }

// Handlers are none where there are no namespaces: [sandbox.Enter] says so.
func Handlers() map[string]sandbox.Handler { return map[string]sandbox.Handler{} }
