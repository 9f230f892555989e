package sandbox

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// execProgram finds the program as the step's user, and becomes it. It returns only with an error.
func (cfg *stepConfig) execProgram(link link) error {
	p := cfg.Spec.Process
	os.Setenv("PATH", envValue(p.Env, "PATH"))
	direct := ""
	if len(cfg.Direct) > 0 {
		if name, err := exec.LookPath(cfg.Direct[0]); err == nil {
			direct = name
		}
	}
	name, err := exec.LookPath(p.Args[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return notFound(err)
	}
	env := p.Env
	if envValue(env, "HOME") == "" {
		env = append(env[:len(env):len(env)], "HOME="+homeOf(p.User.UID))
	}
	if err := closeOnExecAll(); err != nil {
		return fmt.Errorf("close descriptors: %w", err)
	}
	if err := link.send(frame{Kind: methodExec}, nil); err != nil {
		return err
	}
	if direct != "" {
		_ = syscall.Exec(direct, cfg.Direct, withEnv(env, cfg.DirectEnv)) // what is wrong the other one says
	}
	err = syscall.Exec(name, p.Args, env)
	return notExecuted(name, err)
}

// withEnv is env with the variables of more (NAME=VALUE) in the place of those of the same name.
func withEnv(env, more []string) []string {
	for _, kv := range more {
		name, _, _ := strings.Cut(kv, "=")
		env = append(slices.DeleteFunc(slices.Clone(env), func(e string) bool { return strings.HasPrefix(e, name+"=") }), kv)
	}
	return env
}

// closeOnExecAll leaves the program descriptors 0 to 2.
func closeOnExecAll() error {
	err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err != unix.ENOSYS && err != unix.EPERM {
		return err
	}
	// An outer container's filter does not know the call.
	for fd := 3; fd < 1<<16; fd++ {
		unix.CloseOnExec(fd)
	}
	return nil
}

func notFound(err error) error {
	code := 127
	if errors.Is(err, os.ErrPermission) {
		code = 126
	}
	return &ExitError{Code: code, Message: err.Error()}
}

func notExecuted(name string, err error) error {
	e := &ExitError{Code: 126, Message: fmt.Sprintf("exec %s: %v", name, err)}
	switch {
	case errors.Is(err, unix.ENOENT):
		e.Code = 127
		e.Message += " (the file is there: its interpreter, or dynamic loader, is missing)"
	case errors.Is(err, unix.ENOEXEC):
		e.Message += " (neither a program for this platform nor a script that begins with #!)"
	}
	return e
}

// envValue is the last value of name, as most programs take it.
func envValue(env []string, name string) string {
	v := ""
	for _, e := range env {
		if k, val, ok := strings.Cut(e, "="); ok && k == name {
			v = val
		}
	}
	return v
}
