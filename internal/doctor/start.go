package doctor

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/envlist"
	"github.com/skiff-build/skiff/internal/rootfs"
)

// start is a program that the image's config has run.
type start struct {
	args  []string
	from  string // the instruction: ENTRYPOINT, CMD or HEALTHCHECK
	dir   string // the folder that it is started in
	by    string // the program that starts it, "" for the container's runtime
	depth int    // how many programs stand before it
	file  rootfs.File
	found bool
	// shell says that it is a shell which is given a text, and inner what can be told of that.
	shell  bool
	inner  shellText
	health bool // it asks whether the other one is well
}

// defaultPath is where container runtimes look for programs where the config sets no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// findStarts finds the programs that the config starts, those that a shell or another program starts for it behind it.
func (e *examination) findStarts() []start {
	c := e.config.Config
	from := "ENTRYPOINT"
	if len(c.Entrypoint) == 0 {
		from = "CMD"
	}
	all := e.startsOf(start{args: e.report.Entrypoint, from: from, dir: c.WorkingDir}, len(c.Entrypoint))
	if h := c.Healthcheck; h != nil && len(h.Test) > 1 {
		args := h.Test[1:]
		switch h.Test[0] {
		case "CMD-SHELL": // moby daemon/health.go: by the image's SHELL
			shell := c.Shell
			if len(shell) == 0 {
				shell = []string{"/bin/sh", "-c"}
			}
			args = append(slices.Clone(shell), args...)
		case "CMD":
		default:
			return all
		}
		all = append(all, e.startsOf(start{args: args, from: "HEALTHCHECK", dir: c.WorkingDir, health: true}, 0)...)
	}
	return all
}

// maxInner bounds how deep programs are followed that start others.
const maxInner = 4

// startsOf is a program and those that it is known to start. From the word cmd on, the arguments are those of CMD.
func (e *examination) startsOf(s start, cmd int) []start {
	var all []start
	for todo := []start{s}; len(todo) > 0 && len(all) < 64; {
		s := todo[0]
		todo = todo[1:]
		if len(s.args) == 0 || s.args[0] == "" {
			continue
		}
		file, err := e.lookPath(s.args[0], s.dir)
		s.file, s.found = file, err == nil
		s.readShell(e.config.Config.Env)
		if !s.shell {
			e.readScript(&s)
		}
		all = append(all, s)
		if s.depth >= maxInner || s.shell && !s.found {
			continue
		}
		next := func(args []string, dir string) {
			in := start{args: args, from: s.from, dir: dir, by: s.args[0], depth: s.depth + 1, health: s.health}
			if s.by == "" && !s.shell && cmd > 0 && len(s.args)-len(args) >= cmd {
				in.from = "CMD"
			}
			todo = append(todo, in)
		}
		for _, c := range s.inner.commands {
			dir := s.dir
			if c.dir != "" {
				dir = c.dir
			}
			next(c.args, dir)
		}
		if n := wrapped(s.args); n > 0 {
			next(s.args[n:], s.dir)
		}
	}
	return all
}

// shells are the names of programs that are given a text by -c.
var shells = []string{"sh", "ash", "dash", "bash", "ksh", "mksh", "zsh"}

func (s *start) readShell(env []string) {
	args := s.args
	if path.Base(args[0]) == "busybox" && len(args) > 1 {
		args = args[1:]
	}
	if len(args) < 3 || !slices.Contains(shells, path.Base(args[0])) {
		return
	}
	for i, word := range args[1 : len(args)-1] {
		if !strings.HasPrefix(word, "-") {
			return
		}
		if !strings.HasPrefix(word, "--") && strings.HasSuffix(word, "c") {
			// The first word behind the text is $0, the others are its words (POSIX sh, OPERANDS).
			given := args[min(i+4, len(args)):]
			s.shell, s.inner = true, readShell(args[0], args[i+2], env, slices.Concat([]string{}, given))
			return
		}
	}
}

// maxScript bounds the scripts that are read for what they start. Entrypoints have some dozen lines.
const maxScript = 64 << 10

// readScript reads what a script of a shell starts each time: an entrypoint ends with exec "$@" more often than not. The script is the
// program itself, or the file that a shell is given.
func (e *examination) readScript(s *start) {
	if !s.found {
		return
	}
	n, _ := s.file.Note.(note)
	shell, file, given := "", s.file, s.args[1:]
	switch words := strings.Fields(n.shebang); {
	case slices.Contains(shells, path.Base(s.args[0])) && len(given) > 0 && !strings.HasPrefix(given[0], "-"):
		script, err := e.fs.Find(absoluteIn(s.dir, given[0]))
		if err != nil {
			return
		}
		shell, file, given = s.args[0], script, given[1:]
	case n.kind != kindScript || len(words) == 0 || strings.HasSuffix(n.shebang, "\r"):
		return
	case path.Base(words[0]) == "env" && len(words) == 2:
		shell = words[1]
	default:
		shell = words[0]
	}
	if !slices.Contains(shells, path.Base(shell)) || !file.IsRegular() || file.Header.Size > maxScript {
		return
	}
	text, err := e.fs.ReadFile(e.ctx, file.Path, maxScript)
	if err != nil {
		return // broken archives are told of where programs are read
	}
	s.inner = readShell(shell, string(text), e.config.Config.Env, slices.Concat([]string{}, given))
	s.inner.plain = nil
}

// wrappers start the program that their arguments name: how many words precede it, and which options take none of their own.
var wrappers = map[string]struct {
	words   int
	options []string
}{
	"tini": {0, []string{"-s", "-v", "-vv", "-vvv", "-w", "-g"}}, "tini-static": {0, []string{"-s", "-v", "-vv", "-vvv", "-w", "-g"}},
	"dumb-init": {0, []string{"-c", "-v", "--single-child", "--verbose"}}, "catatonit": {0, []string{"-g"}},
	"su-exec": {1, nil}, "gosu": {1, nil}, "setuidgid": {1, nil}, "chpst": {0, nil},
	"env": {0, []string{"-i", "-"}}, "nohup": {0, nil}, "nice": {0, nil}, "exec": {0, nil},
}

// wrapped is the index of the program that a wrapper starts, 0 where there is none, or it cannot be told.
func wrapped(args []string) int {
	w, ok := wrappers[path.Base(args[0])]
	if !ok {
		return 0
	}
	i := 1
	for i < len(args) && slices.Contains(w.options, args[i]) {
		i++
	}
	if i < len(args) && args[i] == "--" {
		i++
	}
	for path.Base(args[0]) == "env" && i < len(args) && strings.Contains(args[i], "=") {
		if strings.HasPrefix(args[i], "PATH=") {
			return 0
		}
		i++
	}
	if i += w.words; i >= len(args) || strings.HasPrefix(args[i], "-") {
		return 0
	}
	return i
}

// lookPath finds a program as execvp(3) and Go's exec.LookPath do for the image's user: of those in PATH the first that it may
// execute, else the first that is there at all.
func (e *examination) lookPath(name, dir string) (rootfs.File, error) {
	if strings.Contains(name, "/") {
		if dir == "" || path.IsAbs(name) {
			dir = "/"
		}
		// Not joined: a link before .. leads elsewhere than the text says.
		return e.fs.Find(dir + "/" + name)
	}
	var first rootfs.File
	var firstErr error = fs.ErrNotExist
	dirs := envlist.Get(e.config.Config.Env, "PATH")
	if dirs == "" {
		dirs = defaultPath
	}
	for _, dir := range strings.Split(dirs, ":") {
		f, err := e.fs.Find(dir + "/" + name)
		if err != nil || !f.IsRegular() {
			continue
		}
		if e.view.barrier(dir+"/"+name, 1) == "" {
			return f, nil
		}
		if firstErr != nil {
			first, firstErr = f, nil
		}
	}
	return first, firstErr
}

// started says that the config starts a file, for more than to ask whether all is well.
func (e *examination) started(f rootfs.File) bool {
	return slices.ContainsFunc(e.starts, func(s start) bool { return s.found && !s.health && s.file.Same(f) })
}

// main is the program that the image is for: the last that is found of those that start each other.
func (e *examination) main() (start, bool) {
	for _, s := range slices.Backward(e.starts) {
		if s.found && !s.health {
			return s, true
		}
	}
	return start{}, false
}
