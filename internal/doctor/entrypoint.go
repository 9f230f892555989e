package doctor

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/rootfs"
)

// entrypoint checks that the programs which the config starts can start.
func (e *examination) entrypoint() {
	e.workingDir()
	for _, s := range e.starts {
		at := Finding{Severity: Error, Path: s.args[0], Source: e.last(s.from)}
		switch {
		case !s.found && s.shell:
			e.shellForm(at, s)
		case !s.found:
			e.missing(at, s)
		case s.file.IsDir():
			at.ID, at.Message = IDNotExecutable, s.says(", which %s starts, is a folder")
			at.Remedy = e.programsIn(s)
			e.find(at)
		default:
			e.executable(at, s)
			e.format(at, s)
		}
	}
}

// says begins a message about a program with its name; %s is the instruction.
func (s start) says(format string) string {
	who := "the image"
	if s.health {
		who = "HEALTHCHECK"
	}
	if strings.Contains(format, "%s") {
		format = fmt.Sprintf(format, who)
	}
	return s.args[0] + format
}

// workingDir checks that the program's user may be in the working directory: runc's chdir fails else, before the program starts. One that
// is missing is made when the image runs.
func (e *examination) workingDir() {
	dir := e.config.Config.WorkingDir
	if dir == "" || len(e.starts) == 0 {
		return
	}
	closed := e.view.barrier("/"+dir, 1)
	if f, err := e.fs.Find("/" + dir); err == nil && !f.IsDir() {
		closed = dir + " is no folder"
	}
	if closed == "" {
		return
	}
	e.find(Finding{
		ID: IDWorkingDir, Severity: Error, Path: dir, Source: e.last("WORKDIR"), Evidence: []string{closed},
		Message: fmt.Sprintf("%s may not enter the working directory %s: the image does not start", e.userName(), dir),
		Remedy:  []string{"WORKDIR /"},
	})
}

// executable checks that the image's user may execute a program.
func (e *examination) executable(f Finding, s start) {
	name := s.file.Path
	if strings.Contains(s.args[0], "/") {
		name = s.args[0]
		if !path.IsAbs(name) {
			name = "/" + s.dir + "/" + name
		}
	}
	closed := e.view.barrier(name, 1)
	if closed == "" {
		return
	}
	f.ID, f.Message = IDNotExecutable, s.says(", which %s starts, may not be executed by its user")
	f.Evidence = []string{closed + "; the program runs as " + e.userName()}
	if strings.Contains(closed, " above it has ") {
		f.Remedy = e.elsewhere(s)
	} else {
		f.Remedy = e.chmod(everybodyExecutes, s.file)
		if src := e.bringing(s.file.Layer); src != nil {
			f.Source = src
		}
	}
	e.find(f)
}

// missing says that a program is not there, and where one of that name is.
func (e *examination) missing(f Finding, s start) {
	name := s.args[0]
	f.ID, f.Message = IDMissing, s.says(", which %s starts, is not in it")
	if s.health {
		f.Message = name + ", which HEALTHCHECK starts, is not in the image: it stays unhealthy"
	}
	if s.by != "" {
		f.Evidence = append(f.Evidence, s.by+" is to start it")
	}
	var near []string
	_ = e.fs.Walk(func(file rootfs.File) error { // the function returns no error
		if file.IsRegular() && file.Header.Mode&0o111 != 0 && path.Base(file.Path) == path.Base(name) {
			near = append(near, file.Path)
		}
		return nil
	})
	for _, p := range near {
		f.Evidence = append(f.Evidence, p+" is there")
	}
	if link, err := e.fs.FindLink(name); err == nil && link.Header.Linkname != "" {
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s is a link to %s, which is not there", name, link.Header.Linkname))
	}
	main, ok := e.main()
	switch {
	case len(near) == 1 && s.by == "":
		f.Remedy = []string{e.instruction(s, append([]string{near[0]}, s.args[1:]...))}
	case s.health && ok && main.by == "":
		f.Remedy = []string{"HEALTHCHECK NONE", "have the program check itself, by an argument of its own: HEALTHCHECK CMD " + toJSON([]string{main.file.Path, "health"})}
	case s.health:
		f.Remedy = []string{"HEALTHCHECK NONE"}
	case !strings.Contains(name, "/"):
		f.Remedy = []string{"copy the program into one of the folders of PATH, or name it by its full path"}
	default:
		f.Remedy = []string{"copy the program to " + name + ", or name the place where it is"}
	}
	e.find(f)
}

// instruction is the one that starts s, with other words.
func (e *examination) instruction(s start, args []string) string {
	c := e.config.Config
	if s.from != "ENTRYPOINT" {
		if s.health {
			return e.healthFlags() + toJSON(args)
		}
		return "CMD " + toJSON(args)
	}
	// What CMD adds stays there.
	if n := len(args) - len(c.Cmd); n > 0 && slices.Equal(args[n:], c.Cmd) {
		args = args[:n]
	}
	line := "ENTRYPOINT " + toJSON(args)
	if len(c.Cmd) > 0 && e.o.Dockerfile.resetsCmd() {
		line += "\nCMD " + toJSON(c.Cmd)
	}
	return line
}

// healthFlags is HEALTHCHECK with the flags that it has.
func (e *examination) healthFlags() string {
	line := "HEALTHCHECK "
	if src := e.last("HEALTHCHECK"); src != nil {
		for _, word := range strings.Fields(src.Text)[1:] {
			if !strings.HasPrefix(word, "--") {
				break
			}
			line += word + " "
		}
	}
	return line + "CMD "
}

// shellForm says that a program is given in shell form, or through a shell, and there is none.
func (e *examination) shellForm(f Finding, s start) {
	f.ID, f.Path = IDShellForm, s.args[0]
	f.Message = fmt.Sprintf("%s is in shell form, and the image has no %s", s.from, s.args[0])
	f.Evidence = []string{"it starts " + strings.Join(s.args, " ")}
	switch {
	case s.inner.plain != nil:
		f.Remedy = []string{e.instruction(s, s.inner.plain)}
	case s.health:
		f.Remedy = []string{"HEALTHCHECK NONE", "have the program check itself, by an argument of its own, in the exec form"}
	default:
		f.Remedy = []string{"give the program and its arguments in the exec form, which needs no shell"}
	}
	e.find(f)
}

// format checks that the kernel can start the program.
func (e *examination) format(f Finding, s start) {
	n, _ := s.file.Note.(note)
	f.ID = IDFormat
	switch n.kind {
	case kindELF:
		e.machine(f, s, n)
		return
	case kindScript:
		e.interpreter(f, s, n)
		return
	case kindMachO, kindPE:
		system := "macOS"
		if n.kind == kindPE {
			system = "Windows"
		}
		f.Message = fmt.Sprintf("%s is a program for %s", s.args[0], system)
		f.Remedy = []string{"build it with GOOS=linux"}
	case kindEmpty:
		f.Message = s.says(", which %s starts, is empty")
		f.Remedy = []string{"look at the step that makes it"}
	default:
		if s.by != "" && slices.Contains(shells, path.Base(s.by)) {
			return // a shell runs what the kernel refuses as a script of its own (POSIX sh, 2.9.1.4)
		}
		f.Message = s.args[0] + " is neither a program nor a script that names its interpreter"
		f.Remedy = []string{"begin the script with #! and its interpreter"}
	}
	e.find(f)
}

func (e *examination) machine(f Finding, s start, n note) {
	arch := machineName(n.elf.Machine)
	if want := e.config.Architecture; arch != want && want != "" {
		if arch == "" {
			arch = strings.TrimPrefix(n.elf.Machine.String(), "EM_")
		}
		if arch == "ppc64le" || arch == "mips" { // two byte orders with one number
			e.undecided("%s may be for another byte order than %s", s.args[0], want)
			return
		}
		f.ID, f.Message = IDArch, fmt.Sprintf("%s is a program for %s, the image is for %s", s.args[0], arch, want)
		f.Remedy = []string{"build it with GOARCH=" + want + ", or the image with --platform linux/" + arch}
		if src := e.bringing(s.file.Layer); src != nil {
			f.Source = src
		}
		e.find(f)
	}
	if !n.elf.Executable {
		f.ID, f.Message = IDFormat, s.args[0]+" is an object file, not a linked program"
		f.Remedy = []string{"build a main package"}
		e.find(f)
	}
}

// interpreter checks that a script's interpreter is there (execve(2), "Interpreter scripts").
func (e *examination) interpreter(f Finding, s start, n note) {
	words := strings.Fields(n.shebang)
	f.ID = IDInterpreter
	if strings.HasSuffix(n.shebang, "\r") {
		f.Message = s.args[0] + " has the line ends of Windows, so its interpreter is not found"
		f.Evidence = []string{fmt.Sprintf("its first line is %q", "#!"+n.shebang)}
		f.Remedy = []string{"save it with the line ends of Unix, and have git do so: *.sh text eol=lf in .gitattributes"}
		e.find(f)
		return
	}
	if len(words) == 0 {
		return
	}
	need := words[:1]
	if path.Base(words[0]) == "env" {
		for _, w := range words[1:] {
			if !strings.HasPrefix(w, "-") && !strings.Contains(w, "=") {
				need = append(need, w)
				break
			}
		}
	}
	for _, name := range need {
		file, err := e.lookPath(name, s.dir)
		f.Message = fmt.Sprintf("%s is a script for %s, which is not in the image", s.args[0], name)
		f.Evidence = []string{"its first line is #!" + n.shebang}
		if err == nil {
			closed := e.view.barrier(file.Path, 1)
			if closed == "" {
				continue
			}
			f.Message = fmt.Sprintf("%s is a script for %s, which its user may not execute", s.args[0], name)
			f.Evidence = append(f.Evidence, closed)
		}
		f.Remedy = []string{"start the program itself, without a script, or from an image that has " + name}
		e.find(f)
		return
	}
}

func (e *examination) userName() string {
	if e.config.Config.User == "" {
		return "root"
	}
	return e.config.Config.User
}

func toJSON(args []string) string {
	text, err := json.Marshal(args)
	if err != nil {
		return fmt.Sprint(args)
	}
	return strings.ReplaceAll(string(text), `","`, `", "`)
}

// foreignLoaders checks the loaders of the programs that the config starts where those are none of Go's.
func (e *examination) foreignLoaders() {
	var seen []rootfs.File
	for _, s := range e.starts {
		n, _ := s.file.Note.(note)
		if !s.found || n.kind != kindELF || slices.ContainsFunc(e.programs, func(p goProgram) bool { return p.file.Same(s.file) }) ||
			slices.ContainsFunc(seen, s.file.Same) {
			continue
		}
		seen = append(seen, s.file)
		e.foreignLoader(s.file)
	}
}

func (e *examination) foreignLoader(file rootfs.File) {
	var b Binary
	err := e.fs.Contents(e.ctx, []rootfs.File{file}, func(_ rootfs.File, c rootfs.Content) error {
		f, err := elf.NewFile(c)
		if err != nil {
			return err
		}
		b.Arch = machineName(f.Machine)
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
				text := make([]byte, p.Filesz)
				if _, err := p.ReadAt(text, 0); err != nil {
					return err
				}
				b.Interp = strings.TrimRight(string(text), "\x00")
			}
		}
		b.Libraries, err = f.ImportedLibraries()
		return err
	})
	if err != nil {
		e.undecided("%s could not be read: %v", file.Path, err)
		return
	}
	e.loaderOf(goProgram{Binary: &b, path: file.Path, file: file})
}
