package gobase

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"mvdan.cc/sh/v3/syntax"

	"github.com/skiff-build/skiff/internal/gnumake"
)

// withMake in [Identity].With, with a version behind it, puts make into a base whose image has it at a step that calls it.
const withMake = "make-"

// makeIn is the version of make in a base with the given commands on request; empty: it has none.
func makeIn(with []string) string {
	for _, w := range with {
		if version, ok := strings.CutPrefix(w, withMake); ok {
			return version
		}
	}
	return ""
}

// maxWays bounds the ways through a Makefile that are looked at; each condition over something unknown doubles them.
const maxWays = 64

// unknownParam stands in the text of a recipe for what is known only when make runs.
const unknownParam = "skiff_unknown_text"

// hasMake reports whether the image has make at this step.
func (s *step) hasMake() bool {
	if s.t.base.tag.Variant == Debian {
		return true
	}
	for _, p := range []string{"make", "build-base", "alpine-sdk"} {
		if s.t.packages[p] {
			return true
		}
	}
	return false
}

// make judges a call of make: the Makefile is read as make reads it, all that is to be made is taken for old, and each command that it
// would run is judged in the place of running it. A condition over something unknown is taken both ways.
func (s *step) make(args []value, text string) {
	if !s.hasMake() {
		s.refuse(text, "make is not in the built-in base"+without["make"])
		return
	}
	version := makeVersion(s.t.base.tag, s.t.base.release)
	words, all := known(args)
	switch {
	case version == "":
		s.refuse(text, "make is not in the built-in base for this image"+without["make"])
		return
	case !all:
		s.refuse(text, "what make is asked for is known only when it runs")
		return
	case !s.cwd.known:
		s.refuse(text, "where make works is known only when it runs")
		return
	}
	if s.depth++; s.depth > maxShells {
		s.refuse(text, "makes are nested too deep")
		return
	}
	defer func() { s.depth-- }()
	s.t.base.with[withMake+version] = true
	seen := map[string]bool{}
	ways := [][]bool{nil}
	for n := 0; len(ways) > 0; n++ {
		if n == maxWays {
			s.refuse(text, "the Makefile has too many conditions over what is known only when it runs")
			return
		}
		way := ways[len(ways)-1]
		ways = ways[:len(ways)-1]
		w := &makeWay{s: s, text: text, seen: seen, answers: way}
		if !w.walk(words, version) {
			return
		}
		// Each answer that this way gave for itself leaves the other one to be looked at.
		for i := len(way); i < len(w.answers); i++ {
			ways = append(ways, append(slices.Clone(w.answers[:i]), !w.answers[i]))
		}
	}
}

// makeWay is one way through a Makefile.
type makeWay struct {
	s       *step
	text    string
	seen    map[string]bool // jobs that were judged
	answers []bool
	asked   int
	refused bool
}

// walk reads the Makefile. It reports false where make is not served.
func (w *makeWay) walk(words []string, version string) bool {
	s := w.s
	s.needNative(strings.Join(words, " "), "make reads every variable of its environment")
	var env []string
	for name, v := range s.env {
		if s.exported[name] == never {
			continue
		}
		text := v.text
		if !v.known || s.exported[name] == maybe {
			text = gnumake.Unknown
		}
		env = append(env, name+"="+text)
	}
	slices.Sort(env)
	files := contextFiles{s: s}
	var errs strings.Builder
	m := &gnumake.Make{
		Version: version, Args: append([]string{"-B"}, words...), Env: env, Dir: s.cwd.text, Files: &files, Runner: w,
		Stdout: io.Discard, Stderr: &errs,
		Judge: &gnumake.Judge{
			Shell: w.output,
			Choose: func() bool {
				if w.asked++; w.asked > len(w.answers) {
					w.answers = append(w.answers, true)
				}
				return w.answers[w.asked-1]
			},
			Refuse: func(where gnumake.Location, why string) { w.refuse(fmt.Sprintf("%s: %s", where, why)) },
		},
	}
	code, err := m.Run(context.Background())
	last := strings.TrimSpace(errs.String())
	last = last[strings.LastIndexByte(last, '\n')+1:]
	switch {
	case w.refused:
	case err != nil:
		w.refuse("make is not served: " + err.Error())
	case code != 0 && len(w.answers) == 0:
		// It fails there, too, or it does not because of files that are not of the context.
		w.refuse("make is not served, since it would end by an error: " + last)
	case files.itself:
		w.refuse("make is not served: the Makefile asks which make it is")
	}
	if files.git && s.hasGit() && len(s.t.repos) > 0 {
		before := len(s.t.base.refusals)
		s.needGit(w.text, "git is used, and .git is in the build context: that needs a git on this machine")
		w.refused = w.refused || len(s.t.base.refusals) > before
	}
	return !w.refused
}

func (w *makeWay) refuse(why string) {
	w.refused = true
	w.s.refuse(w.text, why)
}

// Run judges what a recipe would run.
func (w *makeWay) Run(_ context.Context, j *gnumake.Job) (gnumake.Exit, error) {
	w.job(j)
	return gnumake.Exit{}, nil
}

// output judges what $(shell …) would run. A few outputs are known.
func (w *makeWay) output(j *gnumake.Job) string {
	w.job(j)
	s := w.s
	switch strings.Join(j.Argv, " ") {
	case "pwd", "/bin/sh -c pwd", "/bin/sh -c echo $PWD":
		return j.Dir
	case "go env GOPATH":
		return path.Dir(s.goBin())
	}
	return gnumake.Unknown
}

// job judges one command in its environment.
func (w *makeWay) job(j *gnumake.Job) {
	key := j.Dir + "\x00" + strings.Join(j.Argv, "\x00") + "\x00" + strings.Join(j.Env, "\x00")
	if w.seen[key] {
		return
	}
	w.seen[key] = true
	s := w.s
	outer, variant, bodies := s.flow, s.variant, s.bodies
	defer func() {
		outer.goEnv = s.goEnv
		s.flow, s.variant, s.bodies = outer, variant, bodies
	}()
	s.flow = flow{env: map[string]value{}, exported: map[string]certainty{}, funcs: map[string]bool{}, cwd: value{j.Dir, true}, goEnv: s.goEnv}
	s.variant, s.bodies = "", map[string][]*syntax.Stmt{}
	for _, kv := range j.Env {
		name, text, _ := strings.Cut(kv, "=")
		s.exported[name] = surely
		s.env[name] = value{text, !strings.Contains(text, gnumake.Unknown)}
	}
	s.env[unknownParam], s.exported[unknownParam] = value{}, surely
	words := make([]value, len(j.Argv))
	for i, word := range j.Argv {
		words[i] = value{word, !strings.Contains(word, gnumake.Unknown)}
		if j.Shell && i == len(j.Argv)-1 {
			words[i] = value{strings.ReplaceAll(word, gnumake.Unknown, "${"+unknownParam+"}"), true}
		}
	}
	before := len(s.t.base.refusals)
	shown := strings.ReplaceAll(j.Text, gnumake.Unknown, "…")
	s.command(words, shown)
	for _, r := range s.t.base.refusals[before:] {
		if !strings.Contains(r.Why, "called by make, ") {
			r.Why += " (called by make, " + j.Where.String() + ")"
		}
	}
	w.refused = w.refused || len(s.t.base.refusals) > before
}

// contextFiles are the files of a stage as far as they were copied from local sources.
type contextFiles struct {
	s      *step
	git    bool // a Makefile speaks of git
	itself bool // a Makefile asks for make's version or host

	// What was found: make asks for the same names thousands of times where it looks for implicit rules.
	infos map[string]fs.FileInfo // nil: there is none
	dirs  map[string][]fs.DirEntry
}

var (
	gitWord    = regexp.MustCompile(`\bgit[ \t]+[a-z-]`)
	itselfWord = regexp.MustCompile(`MAKE_VERSION|MAKE_HOST|\.FEATURES`)
)

// places are the files of local sources that a name of the stage may be, the last copied first.
func (f *contextFiles) places(name string, do func(files fs.FS, name string) bool) {
	copies := f.s.t.copies
	for i := len(copies) - 1; i >= 0; i-- {
		c := copies[i]
		l := f.s.j.open(c.local)
		if l.files == nil {
			continue
		}
		from := strings.TrimPrefix(c.from, "/")
		rest, ok := below(name, c.to)
		if !ok {
			continue
		}
		var found string
		if strings.ContainsAny(from, "*?[") {
			if match, err := path.Match(path.Base(from), path.Base(name)); err != nil || !match || strings.Contains(rest, "/") || rest == "" {
				continue
			}
			found = path.Join(path.Dir(from), rest)
		} else if info, err := fs.Stat(l.files, orDot(from)); err != nil {
			continue
		} else if info.IsDir() {
			found = path.Join(from, rest)
		} else if rest == "" || rest == path.Base(from) {
			found = from
		} else {
			continue
		}
		if found != "" && found != "." && !selected(c, found) {
			continue
		}
		if do(l.files, orDot(found)) {
			return
		}
	}
}

// Stat finds a file, or a folder that a copy or a WORKDIR made.
func (f *contextFiles) Stat(name string) (fs.FileInfo, error) {
	info, ok := f.infos[name]
	if !ok {
		if f.infos == nil {
			f.infos = map[string]fs.FileInfo{}
		}
		info = f.find(name)
		f.infos[name] = info
	}
	if info == nil {
		return nil, fs.ErrNotExist
	}
	return info, nil
}

func (f *contextFiles) find(name string) (info fs.FileInfo) {
	err := fs.ErrNotExist
	f.places(name, func(files fs.FS, at string) bool {
		info, err = fs.Stat(files, at)
		return err == nil
	})
	if err == nil {
		return info
	}
	if _, ok := below(f.s.cwd.text, name); ok {
		return folderInfo(path.Base(name))
	}
	for _, c := range f.s.t.copies {
		if rest, ok := below(c.to, name); ok && rest != "" {
			return folderInfo(path.Base(name))
		}
	}
	return nil
}

// ReadFile reads a Makefile.
func (f *contextFiles) ReadFile(name string) (data []byte, err error) {
	err = fs.ErrNotExist
	f.places(name, func(files fs.FS, at string) bool {
		var info fs.FileInfo
		if info, err = fs.Stat(files, at); err == nil && info.Size() > maxMakefile {
			err = fmt.Errorf("more than %d bytes", maxMakefile)
			return true
		}
		data, err = fs.ReadFile(files, at)
		return err == nil
	})
	f.git = f.git || gitWord.Match(data)
	f.itself = f.itself || itselfWord.Match(data)
	return data, err
}

// maxMakefile bounds the Makefiles of a context in bytes.
const maxMakefile = 16 << 20

// ReadDir lists what the copies brought into a folder.
func (f *contextFiles) ReadDir(name string) ([]fs.DirEntry, error) {
	if all, ok := f.dirs[name]; ok {
		return all, nil
	}
	var all []fs.DirEntry
	seen := map[string]bool{}
	add := func(entries []fs.DirEntry) {
		for _, e := range entries {
			if _, err := f.Stat(path.Join(name, e.Name())); err == nil && !seen[e.Name()] {
				seen[e.Name()] = true
				all = append(all, e)
			}
		}
	}
	for _, c := range f.s.t.copies {
		l := f.s.j.open(c.local)
		rest, ok := below(name, c.to)
		if l.files == nil || !ok {
			continue
		}
		dir := strings.TrimPrefix(c.from, "/")
		if info, err := fs.Stat(l.files, orDot(dir)); err != nil || !info.IsDir() {
			dir = path.Dir("/" + dir)[1:]
		}
		if entries, err := fs.ReadDir(l.files, orDot(path.Join(dir, rest))); err == nil {
			add(entries)
		}
	}
	if f.dirs == nil {
		f.dirs = map[string][]fs.DirEntry{}
	}
	f.dirs[name] = all
	return all, nil
}

// Real is the name itself, where there is such a file.
func (f *contextFiles) Real(name string) (string, error) {
	_, err := f.Stat(name)
	return name, err
}

// Write, Touch and Remove change nothing.
func (*contextFiles) Write(string, []byte, bool) error { return nil }

// Touch changes nothing.
func (*contextFiles) Touch(string, time.Time) error { return nil }

// Remove changes nothing.
func (*contextFiles) Remove(string) error { return nil }

// folderInfo is a folder that is known by its name alone.
type folderInfo string

func (f folderInfo) Name() string     { return string(f) }
func (folderInfo) Size() int64        { return 0 }
func (folderInfo) Mode() fs.FileMode  { return fs.ModeDir | 0o755 }
func (folderInfo) ModTime() time.Time { return time.Unix(1, 0) }
func (folderInfo) IsDir() bool        { return true }
func (folderInfo) Sys() any           { return nil }
