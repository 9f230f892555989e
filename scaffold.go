package skiff

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/skiff-build/skiff/internal/dockerfile"
	"github.com/skiff-build/skiff/internal/doctor"
	"github.com/skiff-build/skiff/internal/gobuild"
	"github.com/skiff-build/skiff/internal/scaffold"
)

// Scaffold is a Dockerfile and a .dockerignore for a Go module or workspace.
type Scaffold struct {
	Root         string // folder that they are for: that of go.mod or go.work
	Dockerfile   string
	Dockerignore string
	Targets      []string // names of the stages that ship; none where there is one program
	Programs     []string // names of the programs
	Notes        []string // what a reader has to know or to do, a sentence each
}

// NewScaffold writes the Dockerfile of the module or workspace that folder belongs to: of its programs, where folder is its root, else of the
// program in folder alone. Each is compiled for Linux with the machine's go command, and the doctor says of the finished program what it
// needs of an image. Where go fails the error is a [*GoExitError].
func NewScaffold(ctx context.Context, folder string) (*Scaffold, error) {
	g := goTool{ctx: ctx, dir: folder}
	project, rest, err := g.project(folder)
	if err != nil {
		return nil, err
	}
	s := &Scaffold{Root: project.Root}
	for _, r := range rest {
		s.Notes = append(s.Notes, fmt.Sprintf("%s is left out; skiff init %s writes the files for it", r, r))
	}
	extras := make([][]scaffold.Extra, len(project.Programs))
	for i, program := range project.Programs {
		s.Programs = append(s.Programs, program.Name)
		if stage := project.Stage(i); stage != "" {
			s.Targets = append(s.Targets, stage)
		}
		findings, err := g.findings(project, i)
		if err != nil {
			return nil, err
		}
		for _, f := range findings {
			if len(f.Remedy) > 0 && instruction.MatchString(f.Remedy[0]) {
				extras[i] = append(extras[i], scaffold.Extra{Why: why(f), Text: f.Remedy[0]})
			} else {
				s.Notes = append(s.Notes, fmt.Sprintf("%s: %s: %s", f.ID, f.Message, strings.Join(f.Remedy, "; ")))
			}
		}
		if len(program.Needs) > 0 {
			s.Notes = append(s.Notes, fmt.Sprintf("%s is compiled with the C libraries %s: add the packages that have them to the line with apk add",
				program.Name, strings.Join(program.Needs, ", ")))
		}
	}
	s.Dockerfile = project.Dockerfile(extras)
	s.Dockerignore, err = project.Dockerignore()
	return s, err
}

// instruction is how a remedy begins that can be pasted.
var instruction = regexp.MustCompile(`^(COPY|ENV|RUN|USER|WORKDIR) `)

// reasons are those of what the doctor asks for, as comments.
var reasons = map[string]string{
	doctor.IDCA:    "It verifies TLS certificates, and scratch has none to check them with.",
	doctor.IDZones: "It loads time zones.",
	doctor.IDUsers: "It looks users up.",
	doctor.IDTemp:  "It makes temporary files.",
	doctor.IDHome:  "It asks for its home directory.",
}

func why(f Finding) string {
	if text := reasons[f.ID]; text != "" {
		return text
	}
	return f.Message + "."
}

// NoModuleError says that a folder is in no module.
type NoModuleError struct{ Folder string }

func (e *NoModuleError) Error() string {
	return fmt.Sprintf("%s belongs to no Go module: there is no go.mod", e.Folder)
}

// goTool runs the machine's go command for a scaffold.
type goTool struct {
	ctx context.Context
	dir string
}

func (g goTool) run(env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(g.ctx, "go", args...)
	cmd.Dir, cmd.Env = g.dir, append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case g.ctx.Err() != nil:
		return nil, context.Cause(g.ctx)
	case errors.Is(err, exec.ErrNotFound):
		return nil, gobuild.ErrNoGo
	case errors.As(err, &exit):
		return nil, &GoExitError{Verb: args[0], Code: exit.ExitCode(), Output: stderr.Bytes()}
	case err != nil:
		return nil, fmt.Errorf("go %s: %w", args[0], err)
	}
	return stdout.Bytes(), nil
}

// linux are the variables by which go looks at packages as in an image. cgo counts, though the machine may have no C compiler: what
// needs it has to be known.
var linux = []string{"GOOS=linux", "GOARCH=" + runtime.GOARCH, "CGO_ENABLED=1"}

// project finds the programs. rest are those that no image is made of.
func (g *goTool) project(folder string) (p *scaffold.Project, rest []string, err error) {
	if st, err := os.Stat(folder); err != nil {
		return nil, nil, err
	} else if !st.IsDir() {
		return nil, nil, fmt.Errorf("%s: not a folder", folder)
	}
	out, err := g.run(nil, "env", "GOMOD", "GOWORK", "GOVERSION")
	if err != nil {
		return nil, nil, err
	}
	values := strings.Split(strings.ReplaceAll(string(out), "\r", ""), "\n")
	file := values[1] // the workspace, which the module is a part of
	if file == "" || file == "off" {
		file = values[0]
	}
	if file == "" || file == os.DevNull {
		return nil, nil, &NoModuleError{folder}
	}
	root := filepath.Dir(file)
	if p, err = scaffold.Open(root, values[2]); err != nil {
		return nil, nil, err
	}
	here, err := realPath(folder)
	if err != nil {
		return nil, nil, err
	}
	if root, err = realPath(root); err != nil {
		return nil, nil, err
	}
	g.dir, p.Root = root, root
	packages, rest, err := g.mains(p, here)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range packages {
		out, err := g.run(linux, "list", "-deps", "-json="+scaffold.Fields, "--", name)
		if err != nil {
			return nil, nil, err
		}
		deps, err := scaffold.ReadPackages(bytes.NewReader(out))
		if err != nil {
			return nil, nil, err
		}
		if err := p.Add(deps); err != nil {
			return nil, nil, err
		}
	}
	return p, rest, nil
}

// realPath is a folder as the go command names it: go resolves the links of its working directory.
func realPath(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// mains are the folders of the main packages that images are made of, as ./FOLDER from the root.
func (g goTool) mains(p *scaffold.Project, here string) (packages, rest []string, err error) {
	patterns := p.Patterns
	if here != p.Root {
		rel, err := filepath.Rel(p.Root, here)
		if err != nil {
			return nil, nil, err
		}
		patterns = []string{"./" + filepath.ToSlash(rel)}
	}
	out, err := g.run(linux, append([]string{"list", "-f", `{{if eq .Name "main"}}{{.Dir}}{{end}}`, "--"}, patterns...)...)
	if err != nil {
		return nil, nil, err
	}
	var all []string
	for dir := range strings.Lines(string(out)) {
		if dir = strings.TrimSpace(dir); dir == "" {
			continue
		}
		rel, err := filepath.Rel(p.Root, dir)
		if err != nil {
			return nil, nil, err
		}
		if name := "./" + filepath.ToSlash(rel); rel != "." {
			all = append(all, name)
		} else {
			all = append(all, ".")
		}
	}
	if len(all) == 0 {
		return nil, nil, &NoMainError{Packages: patterns}
	}
	slices.Sort(all)
	if here != p.Root {
		return all, nil, nil
	}
	packages, rest = scaffold.Shipped(all)
	return packages, rest, nil
}

// findings are what the doctor says of a program in an image that has nothing else.
func (g goTool) findings(p *scaffold.Project, i int) ([]Finding, error) {
	temp, err := os.MkdirTemp("", "skiff-init-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	program := p.Programs[i]
	env, flags := []string{"CGO_ENABLED=0"}, "-s -w"
	if program.Cgo {
		env, flags = []string{"CGO_ENABLED=1"}, `-s -w -extldflags "-static"`
	}
	out := filepath.Join(temp, "program")
	if _, err := g.run(append(slices.Clone(linux), env...), "build", "-ldflags", flags, "-o", out, "--", program.Package); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(out)
	if err != nil {
		return nil, err
	}
	img, err := imageOf(program.Path(), text)
	if err != nil {
		return nil, err
	}
	from := &origin{File: "Dockerfile", Target: p.Stage(i), Text: []byte(p.Dockerfile(nil))}
	report, err := doctor.Examine(g.ctx, img, doctor.Options{Dockerfile: from.dockerfile()})
	if err != nil {
		return nil, err
	}
	return report.Findings, nil
}

// imageOf is an image for Linux with one program.
func imageOf(name string, program []byte) (v1.Image, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, Config: v1.Config{Entrypoint: []string{name}, User: "65532:65532"},
	})
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(img, static.NewLayer(b.Bytes(), types.OCIUncompressedLayer))
}

// OutlineDockerfile names the stages and the build arguments of a Dockerfile.
func OutlineDockerfile(text []byte) (stages, args []string, err error) {
	return dockerfile.Outline(text)
}
