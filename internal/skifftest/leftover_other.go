//go:build !linux

package skifftest

import "testing"

// NoLeftovers looks for processes and mounts; elsewhere than on Linux skiff makes none.
func NoLeftovers(t testing.TB) (mark string) {
	t.Helper()
	return "SKIFF_TEST_MARK="
}

// Processes finds those that have mark in their environment: on Linux.
func Processes(mark string) []string { return nil }
