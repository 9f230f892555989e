package doctor

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/rootfs"
)

// entry is the program that the image starts.
type entry struct {
	args  []string
	from  string // the instruction: ENTRYPOINT or CMD
	file  rootfs.File
	found bool
}

// defaultPath is where container runtimes look for programs where the config sets no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// findEntry finds the file of the image's program.
func (e *examination) findEntry() entry {
	c := e.config.Config
	x := entry{args: e.report.Entrypoint, from: "ENTRYPOINT"}
	if len(c.Entrypoint) == 0 {
		x.from = "CMD"
	}
	if len(x.args) == 0 || x.args[0] == "" {
		return x
	}
	file, err := e.lookPath(x.args[0])
	x.file, x.found = file, err == nil
	return x
}

// lookPath finds a program as the image's runtime would.
func (e *examination) lookPath(name string) (rootfs.File, error) {
	if strings.Contains(name, "/") {
		dir := e.config.Config.WorkingDir
		if dir == "" || path.IsAbs(name) {
			dir = "/"
		}
		// Not joined: a link before .. leads elsewhere than the text says.
		return e.fs.Find(dir + "/" + name)
	}
	var first rootfs.File
	var firstErr error = fs.ErrNotExist
	dirs := lookup(e.config.Config.Env, "PATH")
	if dirs == "" {
		dirs = defaultPath
	}
	for _, dir := range strings.Split(dirs, ":") {
		f, err := e.fs.Find(dir + "/" + name)
		if err != nil || !f.IsRegular() {
			continue
		}
		if f.Header.Mode&0o111 != 0 {
			return f, nil
		}
		if firstErr != nil {
			first, firstErr = f, nil
		}
	}
	return first, firstErr
}

// entrypoint checks that the image's program can start.
func (e *examination) entrypoint() {
	x := e.entry
	if len(x.args) == 0 || x.args[0] == "" {
		return // a base image, or one of files alone: what is run in it is said when it is
	}
	src := e.last(x.from)
	at := Finding{Severity: Error, Path: x.args[0], Source: src}
	if e.shellForm(at) {
		return
	}
	switch {
	case !x.found:
		e.missing(at)
		return
	case x.file.IsDir():
		at.ID, at.Message = IDNotExecutable, x.args[0]+", which the image starts, is a folder"
		at.Remedy = []string{fmt.Sprintf("name the program in it: %s %s", x.from, toJSON([]string{path.Join(x.args[0], "PROGRAM")}))}
		e.find(at)
		return
	case !executable(x.file, e.account):
		at := at
		at.ID, at.Message = IDNotExecutable, fmt.Sprintf("%s, which the image starts, may not be executed by its user", x.args[0])
		at.Evidence = []string{fmt.Sprintf("its mode is %04o, its owner %d:%d; the program runs as %s",
			x.file.Header.Mode&0o7777, x.file.Header.Uid, x.file.Header.Gid, e.userName())}
		at.Remedy = []string{e.copyWith("--chmod=755", x.file)}
		if src := e.bringing(x.file.Layer); src != nil {
			at.Source = src
		}
		e.find(at)
	}
	e.format(at)
}

func executable(f rootfs.File, a account) bool {
	m := f.Header.Mode
	switch {
	case a.superuser():
		return m&0o111 != 0
	case a.uid == f.Header.Uid:
		return m&0o100 != 0
	case a.gid == f.Header.Gid:
		return m&0o010 != 0
	}
	return m&0o001 != 0
}

// missing says that the program is not there, and where one of that name is.
func (e *examination) missing(f Finding) {
	name := e.entry.args[0]
	f.ID, f.Message = IDMissing, name+", which the image starts, is not in it"
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
	switch {
	case len(near) == 1:
		f.Remedy = []string{fmt.Sprintf("%s %s", e.entry.from, toJSON(append([]string{near[0]}, e.entry.args[1:]...)))}
	case !strings.Contains(name, "/"):
		f.Remedy = []string{"COPY the program into one of the folders of PATH, or name it by its full path"}
	default:
		f.Remedy = []string{"COPY --from=STAGE PROGRAM " + name}
	}
	e.find(f)
}

// shellForm says that the program is given in shell form, or through a shell, and there is none.
func (e *examination) shellForm(f Finding) bool {
	x := e.entry
	if len(x.args) < 3 || x.args[1] != "-c" || !strings.HasSuffix(x.args[0], "sh") || x.found {
		return false
	}
	f.ID, f.Path = IDShellForm, x.args[0]
	f.Message = fmt.Sprintf("%s is in shell form, and the image has no %s", x.from, x.args[0])
	f.Evidence = []string{"it starts " + strings.Join(x.args, " ")}
	command := strings.TrimPrefix(x.args[2], "exec ")
	if strings.ContainsAny(command, "\"'`$&|;<>*?(){}[]~#\\\n") {
		f.Remedy = []string{x.from + ` ["PROGRAM", "ARGUMENT"], the exec form, which needs no shell`}
	} else {
		f.Remedy = []string{x.from + " " + toJSON(strings.Fields(command))}
	}
	e.find(f)
	return true
}

// format checks that the kernel can start the program.
func (e *examination) format(f Finding) {
	x := e.entry
	n, _ := x.file.Note.(note)
	switch n.kind {
	case kindELF:
		e.machine(f, n)
	case kindScript:
		e.interpreter(f, n)
	case kindMachO, kindPE:
		system := "macOS"
		if n.kind == kindPE {
			system = "Windows"
		}
		f.ID, f.Message = IDFormat, fmt.Sprintf("%s is a program for %s", x.args[0], system)
		f.Remedy = []string{"build it with GOOS=linux"}
		e.find(f)
	case kindEmpty:
		f.ID, f.Message = IDFormat, x.args[0]+", which the image starts, is empty"
		f.Remedy = []string{"look at the step that makes it"}
		e.find(f)
	default:
		f.ID, f.Message = IDFormat, x.args[0]+" is neither a program nor a script that names its interpreter"
		f.Remedy = []string{"begin the script with #! and its interpreter"}
		e.find(f)
	}
}

func (e *examination) machine(f Finding, n note) {
	arch := machineName(n.elf.Machine)
	if want := e.config.Architecture; arch != want && want != "" {
		if arch == "" {
			arch = strings.TrimPrefix(n.elf.Machine.String(), "EM_")
		}
		if arch == "ppc64le" || arch == "mips" { // two byte orders with one number
			e.undecided("%s may be for another byte order than %s", e.entry.args[0], want)
			return
		}
		f.ID, f.Message = IDArch, fmt.Sprintf("%s is a program for %s, the image is for %s", e.entry.args[0], arch, want)
		f.Remedy = []string{"build it with GOARCH=" + want + ", or the image with --platform linux/" + arch}
		if src := e.bringing(e.entry.file.Layer); src != nil {
			f.Source = src
		}
		e.find(f)
	}
	if !n.elf.Executable {
		f.ID, f.Message = IDFormat, e.entry.args[0]+" is an object file, not a linked program"
		f.Remedy = []string{"build a main package"}
		e.find(f)
	}
}

// interpreter checks that a script's interpreter is there (execve(2), "Interpreter scripts").
func (e *examination) interpreter(f Finding, n note) {
	words := strings.Fields(n.shebang)
	f.ID = IDInterpreter
	if strings.HasSuffix(n.shebang, "\r") {
		f.Message = e.entry.args[0] + " has the line ends of Windows, so its interpreter is not found"
		f.Evidence = []string{fmt.Sprintf("its first line is %q", "#!"+n.shebang)}
		f.Remedy = []string{"RUN sed -i 's/\\r$//' " + e.entry.file.Path, "or save it with line ends of Unix"}
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
		if _, err := e.lookPath(name); err == nil {
			continue
		}
		f.Message = fmt.Sprintf("%s is a script for %s, which is not in the image", e.entry.args[0], name)
		f.Evidence = []string{"its first line is #!" + n.shebang}
		f.Remedy = []string{fmt.Sprintf(`start the program itself, without a script: %s ["/PROGRAM"]`, e.entry.from)}
		e.find(f)
		return
	}
}

// copyWith is the instruction that brought a file, with one more option.
func (e *examination) copyWith(option string, f rootfs.File) string {
	if i := e.layers[max(f.Layer, 0)].instruction; f.Layer >= 0 && i != nil && i.Name == "COPY" {
		return strings.Replace(i.Text, i.Name, i.Name+" "+option, 1)
	}
	return fmt.Sprintf("COPY %s PROGRAM %s", option, f.Path)
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

// foreignLoader checks the loader of the image's program where that is none of Go's.
func (e *examination) foreignLoader() {
	n, _ := e.entry.file.Note.(note)
	if !e.entry.found || n.kind != kindELF || slices.ContainsFunc(e.programs, func(p goProgram) bool { return p.file.Same(e.entry.file) }) {
		return
	}
	var b Binary
	err := e.fs.Contents(e.ctx, []rootfs.File{e.entry.file}, func(_ rootfs.File, c rootfs.Content) error {
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
		e.undecided("%s could not be read: %v", e.entry.file.Path, err)
		return
	}
	e.loaderOf(goProgram{Binary: &b, path: e.entry.file.Path, file: e.entry.file})
}
