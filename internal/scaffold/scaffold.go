// Package scaffold writes the Dockerfile and the .dockerignore of a Go module or workspace, as a Go developer would: from what `go list`
// says of its programs, their sources, and instructions that somebody who looked at the finished programs (the doctor) asks for. It runs
// nothing and writes no file.
package scaffold

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/version"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
	"golang.org/x/mod/modfile"
)

// Fields are those of a [Package] that `go list -json` is asked for.
const Fields = "Dir,ImportPath,Name,Standard,Module,GoFiles,CgoFiles,CFiles,CXXFiles,HFiles,SFiles,SysoFiles,EmbedFiles,CgoPkgConfig"

// Package is a package as `go list` prints it.
type Package struct {
	Dir, ImportPath, Name                                                                    string
	Standard                                                                                 bool
	Module                                                                                   *struct{ Main bool }
	GoFiles, CgoFiles, CFiles, CXXFiles, HFiles, SFiles, SysoFiles, EmbedFiles, CgoPkgConfig []string
}

// ReadPackages reads what `go list -json` printed.
func ReadPackages(r io.Reader) ([]Package, error) {
	var all []Package
	for dec := json.NewDecoder(r); ; {
		var p Package
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read go list: %w", err)
		}
		all = append(all, p)
	}
}

// own says that a package is one of the module, or of the workspace.
func (p Package) own() bool { return !p.Standard && p.Module != nil && p.Module.Main }

// Project is a module or workspace that Dockerfiles are written for.
type Project struct {
	Root      string // folder of go.mod, or of go.work
	GoVersion string // of the image: "1.26"
	// Downloads says that modules are fetched in a step of their own, which needs nothing but go.mod and go.sum.
	Downloads bool
	HasSum    bool
	Patterns  []string  // of go list, for all packages
	Programs  []Program // by name, one at least
}

// Program is a main package.
type Program struct {
	Name    string // as go build names its file
	Package string // "./cmd/app", from the project's root
	Cgo     bool
	Needs   []string // packages of pkg-config that its C parts are compiled with
	Ports   []string // "8080", "53/udp": those that it listens on by a constant
	files   []string // that it is compiled from, from the root, with slashes
}

// Open reads go.mod (and go.work) in the folder root. local is the version of the go command at hand, "go1.26.8".
func Open(root, local string) (*Project, error) {
	p := &Project{Root: root, HasSum: exists(filepath.Join(root, "go.sum")), Patterns: []string{"./..."}}
	text, err := os.ReadFile(filepath.Join(root, "go.work"))
	if err == nil {
		return p, p.openWork(text, local)
	}
	text, err = os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, err
	}
	mod, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		return nil, err
	}
	toolchain, language := "", ""
	if mod.Toolchain != nil {
		toolchain = mod.Toolchain.Name
	}
	if mod.Go != nil {
		language = mod.Go.Version
	}
	p.GoVersion = imageVersion(language, toolchain, local)
	p.Downloads = len(mod.Require) > 0 && !exists(filepath.Join(root, "vendor", "modules.txt"))
	for _, r := range mod.Replace {
		if r.New.Version != "" {
			continue
		}
		if err := inside(root, r.New.Path); err != nil {
			return nil, fmt.Errorf("go.mod replaces %s by %s: %w", r.Old.Path, r.New.Path, err)
		}
		p.Downloads = false // that folder's go.mod would have to be there, too
	}
	return p, nil
}

func (p *Project) openWork(text []byte, local string) error {
	work, err := modfile.ParseWork("go.work", text, nil)
	if err != nil {
		return err
	}
	toolchain, language := "", ""
	if work.Toolchain != nil {
		toolchain = work.Toolchain.Name
	}
	if work.Go != nil {
		language = work.Go.Version
	}
	p.GoVersion = imageVersion(language, toolchain, local)
	p.Patterns = nil
	for _, u := range work.Use {
		p.Patterns = append(p.Patterns, "./"+path.Join(filepath.ToSlash(u.Path), "..."))
		if err := inside(p.Root, u.Path); err != nil {
			return fmt.Errorf("go.work uses %s: %w", u.Path, err)
		}
	}
	return nil
}

// inside refuses a folder that lies outside of the build context.
func inside(root, dir string) error {
	if filepath.IsAbs(dir) {
		return errors.New("an absolute path is not in the build context; name the folder relative to the file")
	}
	if rel, err := filepath.Rel(root, filepath.Join(root, dir)); err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return errors.New("it lies outside of the build context; run skiff init in a folder above both, with a go.work there")
	}
	return nil
}

// oldest is the first version of Go that chooses toolchains by go.mod. What a go.mod below it says is a minimum that nobody has to keep.
const oldest = "go1.21"

// imageVersion is the version in the tag of the golang image: that of go.mod without its patch level, as the tag then means the latest.
func imageVersion(language, toolchain, local string) string {
	v := "go" + language
	if version.IsValid(toolchain) && version.Compare(toolchain, v) > 0 {
		v = toolchain
	}
	if language == "" || version.Compare(v, oldest) < 0 {
		v = local
		if !version.IsValid(v) {
			v = oldest
		}
	}
	return strings.TrimPrefix(version.Lang(v), "go")
}

// Add adds the program whose packages, all that it imports among them, are deps. The main package comes last, as go list has it.
func (p *Project) Add(deps []Package) error {
	main := deps[len(deps)-1]
	rel, err := filepath.Rel(p.Root, main.Dir)
	if err != nil {
		return err
	}
	program := Program{Name: programName(main.ImportPath), Package: "./" + filepath.ToSlash(rel)}
	if rel == "." {
		program.Package = "."
	}
	var ports []string
	for _, d := range deps {
		if !d.Standard && len(d.CgoFiles) > 0 {
			program.Cgo = true
			program.Needs = append(program.Needs, d.CgoPkgConfig...)
		}
		if !d.own() {
			continue
		}
		for _, f := range slices.Concat(d.GoFiles, d.CgoFiles, d.CFiles, d.CXXFiles, d.HFiles, d.SFiles, d.SysoFiles, d.EmbedFiles) {
			if rel, err := filepath.Rel(p.Root, filepath.Join(d.Dir, f)); err == nil {
				program.files = append(program.files, filepath.ToSlash(rel))
			}
		}
		more, err := portsOf(d)
		if err != nil {
			return err
		}
		ports = append(ports, more...)
	}
	slices.Sort(program.Needs)
	program.Needs = slices.Compact(program.Needs)
	slices.SortFunc(ports, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
	program.Ports = slices.Compact(ports)
	p.Programs = append(p.Programs, program)
	return nil
}

// programName is the name that go build gives a program: the last element of its path that is no version.
func programName(importPath string) string {
	dir, name := path.Split(importPath)
	if majorVersion.MatchString(name) && dir != "" {
		name = path.Base(dir)
	}
	return name
}

var majorVersion = regexp.MustCompile(`^v([2-9]|[1-9][0-9]+)$`)

// Shipped are those of the packages that images are made of: the program of the root, and those in cmd, where there are such; else all.
// What is left out (tools, examples) comes second. Both are folders from the root, as [Program.Package].
func Shipped(packages []string) (shipped, rest []string) {
	for _, p := range packages {
		if p == "." || strings.HasPrefix(p, "./cmd/") || strings.Contains(p, "/cmd/") && !strings.Contains(p, "/internal/") {
			shipped = append(shipped, p)
		} else {
			rest = append(rest, p)
		}
	}
	if len(shipped) == 0 {
		return rest, nil
	}
	return shipped, rest
}

// ignored is what no program is compiled from, as a rule.
var ignored = []string{
	".git", ".github", ".gitlab-ci.yml", ".idea", ".vscode", ".dockerignore", "Dockerfile", "**/.DS_Store",
	".env", ".env.*", "*.md", "bin", "dist", "**/*_test.go", "**/testdata",
}

// Dockerignore is the text of .dockerignore: nothing that go build reads is left out.
func (p *Project) Dockerignore() (string, error) {
	m, err := patternmatcher.New(ignored)
	if err != nil {
		return "", err
	}
	var kept []string
	for _, program := range p.Programs {
		for _, f := range program.files {
			out, err := m.MatchesOrParentMatches(filepath.FromSlash(f))
			if err != nil {
				return "", err
			}
			if out {
				kept = append(kept, f)
			}
		}
	}
	var b strings.Builder
	b.WriteString("# What go build does not read: a change of it builds nothing again, and none of it can ship.\n")
	for _, i := range ignored {
		b.WriteString(i + "\n")
	}
	if len(kept) > 0 {
		slices.Sort(kept)
		b.WriteString("\n# These are compiled in.\n")
		for _, f := range slices.Compact(kept) {
			b.WriteString("!" + escapePattern(f) + "\n")
		}
	}
	return b.String(), nil
}

// escapePattern lets a name stand for itself in a pattern.
func escapePattern(name string) string {
	return regexp.MustCompile(`[\\*?\[\]]`).ReplaceAllString(name, `\$0`)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
