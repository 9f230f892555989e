//go:build unix

package source

import (
	"os/exec"
	"syscall"
)

// killGroup has git end with its helpers, git-remote-https and ssh, when the context does.
func killGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
}
