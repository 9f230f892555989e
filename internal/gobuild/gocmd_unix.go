//go:build unix

package gobuild

import (
	"os/exec"
	"syscall"
)

// interruptible has cmd end as Ctrl-C would end it, with the compilers that it started, when its context does.
func interruptible(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
}
