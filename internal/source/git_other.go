//go:build !unix

package source

import "os/exec"

// killGroup leaves git's helpers to end by themselves when git does.
func killGroup(*exec.Cmd) {}
