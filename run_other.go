//go:build !linux

package skiff

import (
	"os"

	"github.com/skiff-build/skiff/internal/sandbox"
)

var forwarded = []os.Signal{os.Interrupt}

// imageInit is none where there are no containers.
func imageInit([]string) (code int, ok bool) { return 0, false }

// runHandlers are none where there are no namespaces: [sandbox.Enter] says so.
func runHandlers() map[string]sandbox.Handler { return map[string]sandbox.Handler{} }
