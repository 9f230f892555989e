package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/rootfiles"
	"github.com/skiff-build/skiff/internal/rootfs"
)

// A remedy has one of three forms, so that it can be pasted as it stands:
//
//	an instruction, or some with a line each: they go to the end of the stage that ships
//	line N becomes: INSTRUCTION
//	a sentence, which begins with a small letter
//
// It names stages and lines of this Dockerfile, and nothing that the reader has to fill in.

// donorImage has what Go programs need of an image: CAs, zones, an empty /tmp. skiff has it built in.
const donorImage = "golang:1.26-alpine"

// donor is what COPY --from names to have files of a golang image: a stage of the Dockerfile, that of the file of a layer before others,
// else the image itself.
func (e *examination) donor(layer int) string {
	d := e.o.Dockerfile
	if d == nil {
		return donorImage
	}
	if i := d.stage(e.stageOf(layer), d.Target); d.golang(i) {
		return e.stageOf(layer)
	}
	for i := range d.Target {
		if d.golang(i) && d.used(i) {
			return d.nameOf(i)
		}
	}
	return donorImage
}

// emptyDonor is a donor whose /tmp is empty.
func (e *examination) emptyDonor(layer int) string {
	name := e.donor(layer)
	d := e.o.Dockerfile
	if name == donorImage {
		return name
	}
	for i := d.stage(name, d.Target); i >= 0; i = d.stage(d.Stages[i].Base, i) {
		for _, in := range d.Stages[i].Instructions {
			if strings.Contains(in.Text, "tmp") || strings.Contains(in.Text, "TMP") {
				return donorImage
			}
		}
	}
	return name
}

// nameOf is how COPY --from names a stage.
func (d *Dockerfile) nameOf(i int) string {
	if name := d.Stages[i].Name; name != "" {
		return name
	}
	return fmt.Sprint(i)
}

// golang says that a stage is made of a golang image.
func (d *Dockerfile) golang(i int) bool {
	if i < 0 {
		return false
	}
	for next := i; next >= 0; next = d.stage(d.Stages[i].Base, i) {
		i = next
	}
	name, _, _ := strings.Cut(path.Base(d.Stages[i].Base), ":")
	name, _, _ = strings.Cut(name, "@")
	return name == "golang"
}

// becomes is the remedy that puts text in the place of an instruction; "" where the instruction cannot be written again, or would give a
// secret away.
func becomes(in Instruction, text string) string {
	if text == in.Text || in.Line == 0 || strings.Contains(in.Text, "<<") || strings.Contains(in.Text, "#") || redact(text) != text {
		return ""
	}
	return fmt.Sprintf("line %d becomes: %s", in.Line, text)
}

// remedies leaves out the empty ones.
func remedies(all ...string) []string {
	return slices.DeleteFunc(all, func(r string) bool { return r == "" })
}

// hasShell says that RUN works at the end of the stage that ships.
func (e *examination) hasShell() bool {
	f, err := e.fs.Find("/bin/sh")
	return err == nil && f.IsRegular() && f.Header.Mode&0o111 != 0 && e.o.Dockerfile != nil
}

// asRoot is RUN by the superuser; "" where the image has no shell.
func (e *examination) asRoot(command string) string {
	switch {
	case !e.hasShell():
		return ""
	case e.view.account.superuser():
		return "RUN " + command
	}
	return "USER root\nRUN " + command + "\nUSER " + e.userName()
}

// Modes of remedies. One in figures would be that of the folders above as well, where COPY makes them (tonistiigi/fsutil copy.go,
// prepareTargetDir), and one to read is none to enter.
const (
	everybodyReads    = "a+rX"
	everybodyExecutes = "755"
)

// chmod are the remedies for a file or folder with the wrong mode.
func (e *examination) chmod(mode string, f rootfs.File) []string {
	return remedies(e.copiedWith(mode, f.Layer), e.asRoot("chmod "+mode+" "+f.Path), "give "+f.Path+" the mode "+mode+" where it is made")
}

// copiedWith is the COPY that made a layer, with another mode; "" where it was none.
func (e *examination) copiedWith(mode string, layer int) string {
	return withMode(e.instructionOf(layer), mode)
}

// folderWith is the COPY that made a folder, with another mode. The layer does not tell it: layers with something in a folder have an
// entry for it, too. A later COPY leaves the mode of a folder that is there as it is.
func (e *examination) folderWith(mode, dir string) string {
	if e.o.Dockerfile == nil {
		return ""
	}
	for _, in := range e.o.Dockerfile.shipped() {
		if dest := path.Clean(in.Dest); dest == dir || chmodFlag().MatchString(in.Text) && below(dest, dir) {
			return withMode(&in, mode)
		}
	}
	return ""
}

func withMode(in *Instruction, mode string) string {
	if in == nil || in.Name != "COPY" && in.Name != "ADD" {
		return ""
	}
	text := chmodFlag().ReplaceAllString(in.Text, "")
	return becomes(*in, strings.Replace(text, in.Name, in.Name+" --chmod="+mode, 1))
}

var chmodFlag = compiled(`\s--chmod=\S+`)

// enterable are the remedies for a file below a folder that the user may not enter: the folder's mode.
func (e *examination) enterable(name string) []string {
	var closed []string
	again := ""
	_, _ = e.view.Stat(name, func(dir File) bool { // what is there is known
		if !e.view.account.may(dir, 1) {
			closed = append(closed, dir.Path)
			again = e.folderWith(everybodyReads, dir.Path)
		}
		return true
	})
	if len(closed) == 0 {
		return nil
	}
	if len(closed) > 1 {
		again = "" // one line may not be enough
	}
	return remedies(again, e.asRoot("chmod a+x "+strings.Join(closed, " ")), "let everybody enter "+strings.Join(closed, " and "))
}

// closedFirst is the remedy where something is missing below a folder that the user may not enter.
func (e *examination) closedFirst(name string) []string {
	all := e.enterable(name)
	return all[max(len(all)-1, 0):] // the sentence: an instruction is not all that is to be done
}

// enters says that the user comes to where a file of that name is, or would be.
func (e *examination) enters(name string) bool {
	_, err := e.view.find(name)
	return !errors.Is(err, fs.ErrPermission)
}

// free is the first of names that nothing has, in a folder that the user may enter; a number is put to the last.
func (e *examination) free(names ...string) string {
	last := names[len(names)-1]
	for i := 2; i < 100; i++ {
		names = append(names, fmt.Sprintf("%s%d", last, i))
	}
	for _, name := range names {
		if _, err := e.view.Stat(name, nil); err != nil && path.IsAbs(name) && e.enters(name) {
			return name
		}
	}
	return last
}

// elsewhere are the remedies for a program in a folder that its user may not enter: another place for it.
func (e *examination) elsewhere(s start) []string {
	in := e.instructionOf(s.file.Layer)
	if in == nil || in.Name != "COPY" || s.by != "" || in.From == "" {
		return e.enterable(s.file.Path)
	}
	to := "/usr/local/bin/" + path.Base(s.file.Path)
	return append([]string{
		fmt.Sprintf("COPY --from=%s %s %s\n%s", in.From, e.sourceOf(s.file.Path), to, e.instruction(s, append([]string{to}, s.args[1:]...))),
	}, e.enterable(s.file.Path)...)
}

// programsIn are the remedies for a folder that is named in the place of a program in it.
func (e *examination) programsIn(s start) []string {
	all, err := e.fs.ReadDir(s.file.Path)
	if err != nil {
		return nil
	}
	var programs []string
	for _, f := range all {
		if n, _ := f.Note.(note); f.IsRegular() && f.Header.Mode&0o111 != 0 && (n.kind == kindELF || n.kind == kindScript) {
			programs = append(programs, f.Path)
		}
	}
	if len(programs) == 1 && s.by == "" {
		return []string{e.instruction(s, append(programs, s.args[1:]...))}
	}
	return []string{"name the program in it"}
}

// resetsCmd says that an ENTRYPOINT at the end of the Dockerfile makes CMD of the stages before empty, as it does for what a base has.
func (d *Dockerfile) resetsCmd() bool {
	return d == nil || !slices.ContainsFunc(d.Stages[d.Target].Instructions, func(i Instruction) bool { return i.Name == "CMD" })
}

// goRuns are the RUN instructions of stages that are used, which run go build or go install.
func (e *examination) goRuns() []Instruction {
	var all []Instruction
	if d := e.o.Dockerfile; d != nil {
		for i, s := range d.Stages {
			for _, in := range s.Instructions {
				if in.Name == "RUN" && goBuild().MatchString(in.Text) && d.used(i) {
					all = append(all, in)
				}
			}
		}
	}
	return all
}

var (
	goBuild   = compiled(`\bgo (build|install)\b`)
	buildMode = compiled(`\s--?buildmode[= ]pie\b`)
	noCGO     = compiled(`\bCGO_ENABLED=1\b`)
)

// rebuilt are remedies that change the one RUN which builds Go programs; none where there are more of them, or it stays as it is.
func (e *examination) rebuilt(change func(text string) string) string {
	all := e.goRuns()
	if len(all) != 1 {
		return ""
	}
	return becomes(all[0], change(all[0].Text))
}

func withoutPIE(text string) string { return buildMode().ReplaceAllString(text, "") }

func withoutCGO(text string) string {
	if noCGO().MatchString(text) {
		return noCGO().ReplaceAllString(text, "CGO_ENABLED=0")
	}
	return before(goBuild(), text, "CGO_ENABLED=0 ")
}

func stripped(text string) string {
	if strings.Contains(text, "-ldflags") {
		return text
	}
	return behind(goBuild(), text, " -ldflags '-s -w'")
}

// before and behind put something to each match.
func before(e *regexp.Regexp, text, what string) string {
	return e.ReplaceAllStringFunc(text, func(m string) string { return what + m })
}

func behind(e *regexp.Regexp, text, what string) string {
	return e.ReplaceAllStringFunc(text, func(m string) string { return m + what })
}

// lastStage is a stage that ships the image's program alone, made of the one that ships now; "" where that is no static Go program, or
// the Dockerfile is not known.
func (e *examination) lastStage() string {
	d := e.o.Dockerfile
	main, ok := e.main()
	if d == nil || !ok || d.Target != len(d.Stages)-1 || len(e.programs) == 0 {
		return ""
	}
	i := slices.IndexFunc(e.programs, func(p goProgram) bool { return p.file.Same(main.file) })
	if i < 0 || e.programs[i].Interp != "" {
		return ""
	}
	args := main.args
	if !path.IsAbs(args[0]) {
		args = append([]string{main.file.Path}, args[1:]...)
	}
	if main.by != "" && (len(e.starts) == 0 || !slices.Equal(e.starts[0].inner.plain, main.args)) {
		return "" // what stands around it would be lost
	}
	lines := []string{"FROM scratch", fmt.Sprintf("COPY --from=%s %s %s", d.nameOf(d.Target), main.file.Path, args[0])}
	for _, in := range d.Stages[d.Target].Instructions {
		if slices.Contains([]string{"ENV", "EXPOSE", "LABEL", "STOPSIGNAL", "VOLUME"}, in.Name) && redact(in.Text) == in.Text && !strings.Contains(in.Text, "<<") {
			lines = append(lines, in.Text)
		}
	}
	uid, gid := e.view.account.uid, e.view.account.gid
	if uid <= 0 {
		uid, gid = rootfiles.NonRoot, rootfiles.NonRoot
	}
	return strings.Join(append(lines, fmt.Sprintf("USER %d:%d", uid, gid), "ENTRYPOINT "+toJSON(args)), "\n")
}

// programAlone are the remedies where something ships beside the program that was brought by an instruction.
func (e *examination) programAlone(layer int) []string {
	main, ok := e.main()
	if in := e.instructionOf(layer); ok && in != nil && in.Name == "COPY" && main.file.Layer == layer {
		from := ""
		if in.From != "" {
			from = "--from=" + in.From + " "
		}
		if r := becomes(*in, fmt.Sprintf("COPY %s%s %s", from, e.sourceOf(main.file.Path), main.file.Path)); r != "" {
			return []string{r}
		}
	}
	return remedies(e.lastStage(), "copy the program alone, into a stage that holds nothing else")
}

// passwd is the instruction that gives the image's user a line in /etc/passwd.
func (e *examination) passwd() string {
	old, _ := e.view.ReadFile(rootfiles.PasswdPath) // one that is missing has no lines
	a := e.view.account
	name := "app"
	for i := 2; field(string(old), 0, name) != nil; i++ {
		name = fmt.Sprintf("app%d", i)
	}
	if line := field(rootfiles.Passwd, 2, fmt.Sprint(a.uid)); line != nil && field(string(old), 0, line[0]) == nil {
		name = line[0]
	}
	line := fmt.Sprintf("%s:x:%d:%d:%s:%s:/sbin/nologin", name, a.uid, max(a.gid, 0), name, a.home)
	if strings.Count(string(old), "\n") > 10 {
		if r := e.asRoot("echo '" + line + "' >> " + rootfiles.PasswdPath); r != "" {
			return r
		}
	}
	text := strings.TrimRight(string(old), "\n")
	if text != "" {
		text += "\n"
	}
	return "COPY <<\"EOF\" " + rootfiles.PasswdPath + "\n" + text + line + "\nEOF"
}

// instructionOf is the instruction that made a layer; nil where that is not known.
func (e *examination) instructionOf(layer int) *Instruction {
	if layer < 0 || layer >= len(e.layers) {
		return nil
	}
	return e.layers[layer].instruction
}
