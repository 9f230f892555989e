//go:build !unix

package gobuild

import "os/exec"

// interruptible leaves it at ending the go command itself.
func interruptible(*exec.Cmd) {}
