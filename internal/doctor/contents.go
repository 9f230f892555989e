package doctor

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/docker/go-units"

	"github.com/skiff-build/skiff/internal/rootfs"
)

// pile is what of one kind ships: files, with where they lie.
type pile struct {
	files []rootfs.File
	roots []string // the folders that are of that kind as a whole, else the files
	bytes int64
}

func (p *pile) add(f rootfs.File, root string) {
	p.files = append(p.files, f)
	p.bytes += f.Header.Size
	if !slices.Contains(p.roots, root) {
		p.roots = append(p.roots, root)
	}
}

// contents reports what ships that a program does not need to run.
func (e *examination) contents() {
	piles := map[string]*pile{}
	for _, id := range []string{IDSources, IDVCS, IDCache, IDToolchain, IDPackageIndex, IDTestData, IDSetuid} {
		piles[id] = &pile{}
	}
	places := e.places()
	_ = e.fs.Walk(func(f rootfs.File) error { // the function returns no error
		if !f.IsRegular() {
			return nil
		}
		if id, root := places.sort(f); id != "" {
			piles[id].add(f, root)
		}
		if f.Header.Mode&0o6000 != 0 || f.Header.PAXRecords["SCHILY.xattr.security.capability"] != "" {
			piles[IDSetuid].add(f, f.Path)
		}
		return nil
	})
	e.ships(piles[IDSources], Finding{
		ID: IDSources, Severity: Warning, Message: "Go sources ship",
		Remedy: e.programAlone(mostly(piles[IDSources].files)),
	})
	e.ships(piles[IDVCS], Finding{
		ID: IDVCS, Severity: Warning, Message: "version control data ships, with all that was ever committed",
		Remedy: append(e.programAlone(mostly(piles[IDVCS].files)), "add .git to .dockerignore"),
	})
	e.ships(piles[IDCache], Finding{
		ID: IDCache, Severity: Warning, Message: "Go's module or build cache ships",
		Remedy: e.programAlone(mostly(piles[IDCache].files)),
	})
	e.ships(piles[IDToolchain], Finding{
		ID: IDToolchain, Severity: e.ifProgram(Warning, Info), Message: "the Go toolchain ships",
		Remedy: e.programAlone(mostly(piles[IDToolchain].files)),
	})
	e.ships(piles[IDPackageIndex], Finding{
		ID: IDPackageIndex, Severity: ifLarge(piles[IDPackageIndex]), Message: "indexes and caches of a package manager ship",
		Remedy: e.withoutIndex(mostly(piles[IDPackageIndex].files)),
	})
	e.ships(piles[IDTestData], Finding{
		ID: IDTestData, Severity: Info, Message: "test data ships", Remedy: e.programAlone(mostly(piles[IDTestData].files)),
	})
	e.setuid(piles[IDSetuid])
}

// ifProgram is a severity for images that start a Go program, and one for others: an image of tools is made to hold them.
func (e *examination) ifProgram(yes, no Severity) Severity {
	if len(e.programs) > 0 && e.rank(e.programs[0]) == 0 && path.Base(e.programs[0].path) != "go" {
		return yes
	}
	return no
}

func ifLarge(p *pile) Severity {
	if p.bytes > 1<<20 {
		return Warning
	}
	return Info
}

// withoutIndex are the remedies for what a package manager keeps: its RUN, with what leaves that out.
func (e *examination) withoutIndex(layer int) []string {
	var again string
	if in := e.instructionOf(layer); in != nil && in.Name == "RUN" {
		switch {
		case strings.Contains(in.Text, "apk add") && !strings.Contains(in.Text, "--no-cache"):
			again = becomes(*in, strings.ReplaceAll(in.Text, "apk add", "apk add --no-cache"))
		case strings.Contains(in.Text, "apt-get "):
			again = becomes(*in, in.Text+" && rm -rf /var/lib/apt/lists/* /var/cache/apt/*")
		}
	}
	return remedies(again, "have apk leave it out by --no-cache; remove /var/lib/apt/lists in the RUN that made it")
}

// sourceOf is the path that a file had in the stage that it was copied from, as far as the instruction tells.
func (e *examination) sourceOf(name string) string {
	f, err := e.fs.Find(name)
	if err != nil || f.Layer < 0 || e.layers[f.Layer].instruction == nil {
		return name
	}
	i := e.layers[f.Layer].instruction
	if len(i.Sources) != 1 {
		return name
	}
	source := i.Sources[0]
	rel := path.Base(name) // below a folder that is relative to WORKDIR, as far as it can be told
	switch dest := path.Clean(i.Dest); {
	case path.Clean(name) == dest || path.Base(source) == rel:
		return source
	case path.IsAbs(dest) && below(name, dest):
		rel = relativeTo(name, dest)
	}
	return path.Join(source, rel)
}

// ships reports a pile, if there is one: with its bytes, its largest places and the instruction that most of it came by.
func (e *examination) ships(p *pile, f Finding) {
	if len(p.files) == 0 {
		return
	}
	f.Bytes, f.Path = p.bytes, p.roots[0]
	many := "files"
	if len(p.files) == 1 {
		many = "file"
	}
	f.Message += fmt.Sprintf(": %d %s, %s", len(p.files), many, human(p.bytes))
	f.Evidence = shorten(p.roots)
	f.Source = e.bringing(mostly(p.files))
	e.find(f)
}

// mostly is the layer that most bytes of files are in.
func mostly(files []rootfs.File) int {
	bytes := map[int]int64{}
	best := -1
	for _, f := range files {
		bytes[f.Layer] += f.Header.Size + 1
		if best < 0 || bytes[f.Layer] > bytes[best] {
			best = f.Layer
		}
	}
	return best
}

// shorten lists some of many paths.
func shorten(paths []string) []string {
	const most = 4
	if len(paths) <= most+1 {
		return []string{strings.Join(paths, ", ")}
	}
	return []string{fmt.Sprintf("%s and %d more", strings.Join(paths[:most], ", "), len(paths)-most)}
}

func (e *examination) setuid(p *pile) {
	if len(p.files) == 0 {
		return
	}
	many := "files run"
	if len(p.files) == 1 {
		many = "file runs"
	}
	e.find(Finding{
		ID: IDSetuid, Severity: Info, Path: p.roots[0], Source: e.bringing(mostly(p.files)),
		Message:  fmt.Sprintf("%d %s with the rights of their owner or group, or with capabilities", len(p.files), many),
		Evidence: shorten(p.roots),
		Remedy:   remedies(e.withoutSetuid(p), "run it with --security-opt no-new-privileges"),
	})
}

// withoutSetuid is the RUN that takes the bits away; "" where that is not all there is to it.
func (e *examination) withoutSetuid(p *pile) string {
	if len(p.files) > 12 || slices.ContainsFunc(p.files, func(f rootfs.File) bool { return f.Header.Mode&0o6000 == 0 }) {
		return ""
	}
	return e.asRoot("chmod a-s " + strings.Join(p.roots, " "))
}

// places are the folders by which files are sorted.
type places struct {
	toolchains, caches, vcs, mods []string
}

// places looks for what marks such folders.
func (e *examination) places() *places {
	p := &places{}
	there := func(name string) bool { _, err := e.fs.Find(name); return err == nil }
	_ = e.fs.Walk(func(f rootfs.File) error { // the function returns no error
		dir := path.Dir(f.Path)
		switch base := path.Base(f.Path); {
		case f.IsDir() && base == "compile" || f.IsRegular() && base == "compile":
			if root, ok := strings.CutSuffix(path.Dir(dir), "/pkg/tool"); ok && there(root+"/VERSION") {
				p.toolchains = append(p.toolchains, root)
			}
		case f.IsDir() && base == "download" && strings.HasSuffix(dir, "/pkg/mod/cache"):
			p.caches = append(p.caches, path.Dir(dir))
		case f.IsRegular() && base == "trim.txt" && there(dir+"/00"), f.IsRegular() && base == "README" && path.Base(dir) == "go-build":
			p.caches = append(p.caches, dir)
		case f.IsDir() && base == ".git" && there(f.Path+"/HEAD"), f.IsDir() && base == ".hg" && there(f.Path+"/requires"),
			f.IsDir() && base == ".svn" && there(f.Path+"/wc.db"), f.IsDir() && base == ".bzr" && there(f.Path+"/README"):
			p.vcs = append(p.vcs, f.Path)
		case f.IsRegular() && base == "go.mod":
			p.mods = append(p.mods, dir)
		}
		return nil
	})
	return p
}

// sort says what kind of thing a file is, "" for none, and which folder (or the file itself) to name for it.
func (p *places) sort(f rootfs.File) (id, root string) {
	for _, known := range []struct {
		id   string
		dirs []string
	}{{IDToolchain, p.toolchains}, {IDCache, p.caches}, {IDVCS, p.vcs}, {IDPackageIndex, packageIndexes}} {
		for _, dir := range known.dirs {
			if below(f.Path, dir) && f.Header.Size > 0 {
				return known.id, dir
			}
		}
	}
	if before, _, ok := strings.Cut(f.Path, "/testdata/"); ok && p.project(f.Path) {
		return IDTestData, before + "/testdata"
	}
	base := path.Base(f.Path)
	switch {
	case path.Ext(base) == ".go", base == "go.mod", base == "go.sum", base == "go.work", base == "go.work.sum":
		return IDSources, f.Path
	case p.project(f.Path) && (base == "Dockerfile" || base == ".dockerignore" || base == "Makefile" || base == ".gitignore" || base == ".golangci.yml"):
		return IDSources, f.Path
	}
	return "", ""
}

// project says that a file lies in a folder of a Go module, or below one.
func (p *places) project(name string) bool {
	return slices.ContainsFunc(p.mods, func(dir string) bool { return below(name, dir) })
}

func below(name, dir string) bool {
	return dir == "/" || strings.HasPrefix(name, dir+"/")
}

// packageIndexes are what package managers keep and no program needs.
var packageIndexes = []string{
	"/var/lib/apt/lists", "/var/cache/apt", "/var/cache/apk", "/etc/apk/cache", "/var/cache/dnf", "/var/cache/yum", "/var/cache/zypp",
	"/var/cache/libdnf5", "/root/.cache/pip", "/root/.npm/_cacache",
}

func human(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
