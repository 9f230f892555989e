//go:build !linux

package engine

import "github.com/skiff-build/skiff/internal/sandbox"

// Handlers are what the child serves: there is no child here.
func Handlers() map[string]sandbox.Handler { return nil }
