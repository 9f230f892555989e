package gobuild

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
)

// maxInputs bounds what is remembered of a build: a stat of so many files takes longer than go list.
const maxInputs = 300_000

// grapher collects the inputs of a build from what go list said.
type grapher struct {
	b      *build
	inputs map[string]*input // by kind and path
	local  map[string]string // folders of modules that are not in the module cache, by module path
}

// remember collects all that go list read, and go build will read, for list. Nil: this build is one of those for which go is
// asked each time.
func (b *build) remember(list []listed) (*memory, error) {
	if b.volatile(list) {
		return nil, nil
	}
	g := &grapher{b: b, inputs: map[string]*input{}, local: map[string]string{}}
	if err := g.modules(list); err != nil {
		return nil, nil // a go.mod that cannot be read is go's to complain of
	}
	g.toolchain()
	for _, p := range b.patterns {
		if err := g.pattern(p, list); err != nil {
			return nil, err
		}
	}
	m := &memory{flags: b.flags, env: b.added, dirty: true}
	files := make([][]*input, len(list)) // of each package, what goes into it
	for i, p := range list {
		var err error
		if files[i], err = g.pkg(p); err != nil {
			return nil, err
		}
	}
	if len(g.inputs) > maxInputs {
		return nil, nil
	}
	g.freeze(m)
	if err := m.look(); err != nil {
		return nil, err
	}
	return m, m.addPackages(list, files)
}

// volatile tells whether go list does not say all that the binaries depend on.
func (b *build) volatile(list []listed) bool {
	user, err := splitQuoted(b.goenv.GOFLAGS)
	if err != nil || b.o.VCS {
		return true
	}
	all := slices.Concat(user, b.flags)
	for _, f := range all {
		name, value := flagOf(f)
		switch name {
		case "toolexec", "overlay", "modfile", "compiler", "pkgdir", "exec", "race", "msan", "asan", "cover", "coverpkg", "linkshared", "a", "n":
			return true
		case "pgo":
			return value != "off"
		case "buildvcs":
			if value != "false" && value != "0" {
				return true
			}
		case "ldflags":
			for _, external := range []string{"linkmode", "extld", "tmpdir", "importcfg"} {
				if strings.Contains(value, external) {
					return true
				}
			}
		case "buildmode":
			if value != "exe" && value != "default" {
				return true
			}
		}
	}
	for _, p := range b.patterns {
		if _, ok := folderOf(p); !ok && (strings.Contains(p, "...") || !strings.Contains(p, "/") || strings.HasSuffix(p, ".go")) {
			return true // all, std, a tree of import paths
		}
	}
	for _, p := range list {
		if p.Error != nil || p.Incomplete || len(p.CgoFiles)+len(p.SwigFiles)+len(p.SwigCXXFiles) > 0 {
			return true
		}
		if strings.Contains(p.ImportPath, " ") { // a variant that was compiled for one program, by its profile
			return true
		}
		if _, err := os.Stat(filepath.Join(p.Dir, "default.pgo")); err == nil && p.Name == "main" {
			return true
		}
	}
	return false
}

func (g *grapher) add(path string, kind inputKind) *input {
	key := string(rune('0'+kind)) + filepath.Clean(path)
	in := g.inputs[key]
	if in == nil {
		in = &input{path: filepath.Clean(path), kind: kind}
		g.inputs[key] = in
	}
	return in
}

// toolchain adds the go command and its tools.
func (g *grapher) toolchain() {
	env := g.b.goenv
	exe := ".exe"
	if filepath.Ext(g.b.golang) != exe {
		exe = ""
	}
	for _, path := range []string{
		g.b.golang, filepath.Join(env.GOROOT, "bin", "go"+exe), filepath.Join(env.GOROOT, "VERSION"),
		filepath.Join(env.GOTOOLDIR, "compile"+exe), filepath.Join(env.GOTOOLDIR, "link"+exe), filepath.Join(env.GOTOOLDIR, "asm"+exe),
	} {
		g.add(path, tool)
	}
	g.add(filepath.Join(env.GOROOT, "go.env"), setting)
	if env.GOENV != "" && env.GOENV != "off" {
		g.add(env.GOENV, setting)
	}
}

// modules adds what says which modules there are: the go.mod and go.work that count, those that would count if they were there,
// and the modules in folders of this machine.
func (g *grapher) modules(list []listed) error {
	env := g.b.goenv
	work := ""
	if env.GOWORK != "" && env.GOWORK != "off" {
		work = env.GOWORK
	}
	for dir := g.b.dir; ; dir = filepath.Dir(dir) {
		g.add(filepath.Join(dir, "go.mod"), setting)
		if os.Getenv("GOWORK") == "" {
			g.add(filepath.Join(dir, "go.work"), setting)
		}
		if filepath.Dir(dir) == dir {
			break
		}
	}
	if work != "" {
		if err := g.workspace(work); err != nil {
			return err
		}
	}
	for _, p := range list {
		for m := p.Module; m != nil; m = m.Replace {
			if m.Main || m.Version == "" && m.Dir != "" {
				g.local[p.Module.Path] = cmp.Or(m.Dir, g.local[p.Module.Path])
			}
		}
	}
	// A main module's own replacements, in use or not.
	for _, dir := range sortedValues(g.local) {
		if err := g.replacements(filepath.Join(dir, "go.mod")); err != nil {
			return err
		}
	}
	for _, dir := range sortedValues(g.local) {
		for _, name := range []string{"go.mod", "go.sum", "vendor/modules.txt"} {
			g.add(filepath.Join(dir, name), setting)
		}
	}
	return nil
}

func sortedValues(m map[string]string) []string {
	var out []string
	for _, v := range m {
		out = append(out, v)
	}
	slices.Sort(out)
	return out
}

func (g *grapher) workspace(work string) error {
	content, err := os.ReadFile(work)
	if err != nil {
		return err
	}
	f, err := modfile.ParseWork(work, content, nil)
	if err != nil {
		return err
	}
	dir := filepath.Dir(work)
	for _, name := range []string{work, work + ".sum", filepath.Join(dir, "vendor", "modules.txt")} {
		g.add(name, setting)
	}
	for _, u := range f.Use {
		used := absolute(dir, u.Path)
		mod, err := os.ReadFile(filepath.Join(used, "go.mod"))
		if err != nil {
			return err
		}
		g.local[modfile.ModulePath(mod)] = used
	}
	g.replace(dir, f.Replace)
	return nil
}

func (g *grapher) replacements(mod string) error {
	content, err := os.ReadFile(mod)
	if err != nil {
		return err
	}
	f, err := modfile.ParseLax(mod, content, nil)
	if err != nil {
		return err
	}
	g.replace(filepath.Dir(mod), f.Replace)
	return nil
}

func (g *grapher) replace(dir string, list []*modfile.Replace) {
	for _, r := range list {
		if r.New.Version == "" {
			g.local[r.Old.Path] = absolute(dir, r.New.Path)
		}
	}
}

func absolute(dir, path string) string {
	path = filepath.FromSlash(path)
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// pattern adds the folders that a pattern looks through, and the heads of Go files in them that are of no package that it found:
// they may be the first that is.
func (g *grapher) pattern(p string, list []listed) error {
	dir, ok := folderOf(p)
	if !ok || !strings.Contains(p, "...") {
		return nil
	}
	found := map[string]bool{}
	for _, l := range list {
		found[l.Dir] = true
	}
	return filepath.WalkDir(absolute(g.b.dir, dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if path != absolute(g.b.dir, dir) && !walked(d) {
			return fs.SkipDir
		}
		if len(g.inputs) > maxInputs {
			return fs.SkipAll
		}
		g.add(path, folder)
		if found[path] {
			return nil
		}
		return g.files(path, nil)
	})
}

// files adds the files of a folder that count, but for those in compiled, by their heads.
func (g *grapher) files(dir string, compiled map[string]bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() && counts(e.Name()) && e.Name() != "go.mod" && !compiled[e.Name()] {
			g.add(filepath.Join(dir, e.Name()), aside)
		}
	}
	return nil
}

// pkg adds what a package is made of, and returns what of it ends in the binary.
func (g *grapher) pkg(p listed) ([]*input, error) {
	if p.ImportPath == "unsafe" {
		return nil, nil
	}
	names := slices.Concat(p.GoFiles, p.CFiles, p.CXXFiles, p.MFiles, p.HFiles, p.FFiles, p.SFiles, p.SysoFiles)
	kind := source
	if g.isFixed(p.Dir) {
		kind = fixed
		g.add(p.Dir, fixed)
	} else {
		compiled := map[string]bool{}
		for _, n := range names {
			compiled[n] = true
		}
		g.add(p.Dir, folder)
		if err := g.files(p.Dir, compiled); err != nil {
			return nil, err
		}
		g.boundaries(p.Dir)
	}
	g.alternatives(p)
	var out []*input
	for _, n := range slices.Concat(names, p.EmbedFiles) {
		out = append(out, g.add(filepath.Join(p.Dir, n), kind))
	}
	if kind == source {
		for _, pattern := range p.EmbedPatterns {
			if err := g.embedded(p.Dir, pattern); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// isFixed tells whether a folder is of the toolchain or the module cache.
func (g *grapher) isFixed(dir string) bool {
	return within(g.b.goenv.GOROOT, dir) || within(g.b.goenv.GOMODCACHE, dir)
}

func within(root, dir string) bool {
	return root != "" && (dir == root || strings.HasPrefix(dir, root+string(filepath.Separator)))
}

// boundaries adds the go.mod files that are not there between a package and the root of its module: one would make a module of
// its own of it.
func (g *grapher) boundaries(dir string) {
	root := ""
	for _, r := range g.local {
		if within(r, dir) && len(r) > len(root) {
			root = r
		}
	}
	for root != "" && dir != root {
		g.add(filepath.Join(dir, "go.mod"), setting)
		dir = filepath.Dir(dir)
	}
}

// alternatives adds the folders of modules on this machine in which the package would be looked for as well.
func (g *grapher) alternatives(p listed) {
	if p.Standard {
		return
	}
	for path, dir := range g.local {
		rest, ok := strings.CutPrefix(p.ImportPath, path)
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		if other := filepath.Join(dir, filepath.FromSlash(rest)); other != p.Dir {
			g.add(other, folder)
		}
	}
}

// embedded adds the folders that a pattern of //go:embed looks through (cmd/go/internal/load, resolveEmbed).
func (g *grapher) embedded(dir, pattern string) error {
	pattern = strings.TrimPrefix(pattern, "all:")
	at := []string{dir}
	for _, elem := range strings.Split(pattern, "/") {
		var next []string
		for _, d := range at {
			if !strings.ContainsAny(elem, `*?[\`) {
				next = append(next, filepath.Join(d, elem))
				continue
			}
			g.add(d, tree)
			entries, err := os.ReadDir(d)
			if err != nil {
				continue // it is no folder: the pattern ends here
			}
			for _, e := range entries {
				if ok, err := filepath.Match(elem, e.Name()); ok && err == nil {
					next = append(next, filepath.Join(d, e.Name()))
				}
			}
		}
		at = next
	}
	for _, found := range at {
		err := filepath.WalkDir(found, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				g.add(path, tree)
			}
			if len(g.inputs) > maxInputs {
				return fs.SkipAll
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("embed %s: %w", pattern, err)
		}
	}
	return nil
}

// freeze puts the inputs in order.
func (g *grapher) freeze(m *memory) {
	for _, in := range g.inputs {
		m.inputs = append(m.inputs, *in)
	}
	slices.SortFunc(m.inputs, func(a, b input) int { return cmp.Or(strings.Compare(a.path, b.path), cmp.Compare(a.kind, b.kind)) })
}

// look takes the state of all inputs.
func (m *memory) look() error {
	errs := make([]error, len(m.inputs))
	eachOf(len(m.inputs), func(i int) { m.inputs[i].state, errs[i] = m.inputs[i].look() })
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("%s: %w", m.inputs[i].path, err)
		}
	}
	return nil
}

// before tells whether all inputs are as they were at a moment: none was written to since, or shortly before.
func (m *memory) before(at time.Time) bool {
	return !slices.ContainsFunc(m.inputs, func(in input) bool { return !in.stamp.settled(at) })
}

// addPackages fills in packages and programs; files are the inputs of each package in list.
func (m *memory) addPackages(list []listed, files [][]*input) error {
	order := make([]int, 0, len(list))
	for i := range list {
		order = append(order, i)
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(list[a].ImportPath, list[b].ImportPath) })
	index := map[string]uint64{}
	for n, i := range order {
		index[list[i].ImportPath] = uint64(n)
	}
	for n, i := range order {
		l := list[i]
		p := pkg{path: l.ImportPath, extra: l.extra()}
		for _, in := range files[i] {
			at, ok := slices.BinarySearchFunc(m.inputs, in, func(a input, b *input) int {
				return cmp.Or(strings.Compare(a.path, b.path), cmp.Compare(a.kind, b.kind))
			})
			if !ok {
				return fmt.Errorf("%s: not among the inputs", in.path)
			}
			p.files = append(p.files, uint64(at))
		}
		for _, path := range l.Imports {
			if mapped := l.ImportMap[path]; mapped != "" {
				path = mapped
			}
			if j, ok := index[path]; ok {
				p.imports = append(p.imports, j)
			}
		}
		m.packages = append(m.packages, p)
		if !l.DepOnly && l.Name == "main" {
			m.mains = append(m.mains, mainPackage{path: l.ImportPath, dir: l.Dir, index: uint64(n)})
		}
	}
	return nil
}

// extra is what go list says of a package that its files do not.
func (p listed) extra() string {
	b := appendStrings(nil, p.Dir, p.DefaultGODEBUG)
	for m := p.Module; m != nil; m = m.Replace {
		b = appendStrings(b, m.Path, m.Version, m.GoVersion)
	}
	return string(b)
}

// goPath is the go command that PATH names, without links.
func goPath() (string, error) {
	path, err := exec.LookPath("go")
	if err != nil {
		return "", ErrNoGo
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", err
	}
	return path, nil
}
