package sandbox

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// execProgram finds the program as the step's user, and becomes it. It returns only with an error.
func (cfg *stepConfig) execProgram(st *stage, link link) error {
	root, p := st.root, cfg.Spec.Process
	path := envValue(p.Env, "PATH")
	var direct *foundFile
	if len(cfg.Direct) > 0 {
		direct, _ = lookPath(root, path, cfg.Direct[0]) // what is wrong the other one says
	}
	prog, err := lookPath(root, path, p.Args[0])
	if err != nil {
		return notFound(ledAway(err))
	}
	env := p.Env
	if envValue(env, "HOME") == "" {
		env = append(env[:len(env):len(env)], "HOME="+homeOf(root, p.User.UID))
	}
	if err := closeOnExecAll(); err != nil {
		return fmt.Errorf("close descriptors: %w", err)
	}
	if cfg.Trace {
		if err := startTrace(link); err != nil {
			return err
		}
	}
	if err := link.send(frame{Kind: methodExec}, []*os.File{st.proc}); err != nil {
		return err
	}
	if err := cfg.Limits.applyData(); err != nil {
		return err
	}
	if direct != nil {
		_ = direct.exec(cfg.Direct, withEnv(env, cfg.DirectEnv))
	}
	return notExecuted(prog.name, prog.exec(p.Args, env))
}

// foundFile is an executable file, open as a path, and what it was found as.
type foundFile struct {
	file *os.File
	name string
}

// lookPath is [exec.LookPath] in root, which is this process's own: no link of /proc is followed. An entry of PATH that is not
// absolute counts, as it does for execvp(3).
func lookPath(root *os.File, path, file string) (*foundFile, error) {
	if strings.Contains(file, "/") {
		prog, err := findExecutable(root, file)
		if err != nil {
			return nil, &exec.Error{Name: file, Err: err}
		}
		return prog, nil
	}
	var away error
	for _, dir := range filepath.SplitList(path) {
		prog, err := findExecutable(root, filepath.Join(cmpOr(dir, "."), file))
		if err == nil {
			return prog, nil
		}
		if errors.Is(err, unix.ELOOP) && away == nil {
			away = &exec.Error{Name: file, Err: err}
		}
	}
	if away != nil {
		return nil, away
	}
	return nil, &exec.Error{Name: file, Err: exec.ErrNotFound}
}

func findExecutable(root *os.File, name string) (*foundFile, error) {
	full := name
	if !filepath.IsAbs(name) {
		// Not package filepath: ".." after a link is another directory than without the two.
		var buf [unix.PathMax]byte // the call itself, since os.Getwd believes $PWD
		n, err := unix.Getcwd(buf[:])
		if err != nil {
			return nil, err
		}
		full = unix.ByteSliceToString(buf[:n]) + "/" + name
	}
	f, err := OpenIn(root, full)
	if err != nil {
		return nil, &os.PathError{Op: "stat", Path: name, Err: errors.Unwrap(err)}
	}
	if err := executable(f); err != nil {
		f.Close()
		return nil, err
	}
	return &foundFile{f, name}, nil
}

func executable(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.IsDir() {
		return unix.EISDIR
	}
	err = unix.Faccessat2(int(f.Fd()), "", unix.X_OK, unix.AT_EACCESS|unix.AT_EMPTY_PATH)
	if err != unix.ENOSYS && err != unix.EPERM { // of a filter that does not know the call
		return err
	}
	if fi.Mode()&0o111 == 0 {
		return os.ErrPermission
	}
	return nil
}

// exec becomes the program by its descriptor: it is the file that was looked at. The kernel refuses a script that way, whose
// interpreter has to open it by a name, and some emulators of other processors: for those the name is looked up once more.
// Before Linux 6.14 a program run so has a number for its name in ps(1), and the name is looked up as well.
func (p *foundFile) exec(args, env []string) error {
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return err
	}
	envv, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return err
	}
	// Go has raised the soft limit on open files, and puts it back before an execve of its own alone: here, one of nothing.
	_ = syscall.Exec("", args, env)
	if older(kernelVersion(), [2]int{6, 14}) {
		return syscall.Exec(p.name, args, env)
	}
	empty := [1]byte{}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, p.file.Fd(), uintptr(unsafe.Pointer(&empty)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	switch errno {
	case unix.ENOENT, unix.ENOSYS, unix.EPERM:
		return syscall.Exec(p.name, args, env)
	}
	return errno
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
