package skiff

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/skiff-build/skiff/internal/gobuild"
)

// koFile is ko's configuration, as far as it says something of images that skiff makes (ko.build/configuration). Of a word that
// is not served, unserved has the line.
type koFile struct {
	path      string
	base      string            // defaultBaseImage
	overrides map[string]string // baseImageOverrides, by import path in lower case, as ko has them
	platforms []string
	defaults  koFlags
	builds    []koBuild
	unserved  []string // "FILE:LINE: WORD"
}

// koFlags are for go build.
type koFlags struct{ env, flags, ldflags []string }

// koBuild is an entry of builds: how the main package in a folder is built.
type koBuild struct {
	koFlags
	dir, main string
}

// findKoFile reads $KO_CONFIG_PATH, a file or a folder, else the .ko.yaml in dir; nil where there is none.
func findKoFile(dir string) (*koFile, error) {
	path := filepath.Join(dir, ".ko.yaml")
	if named := os.Getenv("KO_CONFIG_PATH"); named != "" {
		st, err := os.Stat(named)
		if err != nil {
			return nil, fmt.Errorf("KO_CONFIG_PATH: %w", err)
		}
		if path = named; st.IsDir() {
			path = filepath.Join(named, ".ko.yaml")
		}
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ko's configuration: %w", err)
	}
	k, err := parseKoFile(path, text)
	if err != nil {
		return nil, fmt.Errorf("read ko's configuration: %w", err)
	}
	return k, nil
}

func parseKoFile(path string, text []byte) (*koFile, error) {
	k := &koFile{path: path, overrides: map[string]string{}}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(doc.Content) == 0 {
		return k, nil
	}
	err := k.each(doc.Content[0], func(key string, v *yaml.Node) error {
		switch key {
		case "defaultbaseimage":
			return v.Decode(&k.base)
		case "baseimageoverrides":
			given := map[string]string{}
			if err := v.Decode(&given); err != nil {
				return err
			}
			for pkg, base := range given {
				k.overrides[strings.ToLower(pkg)] = base
			}
			return nil
		case "defaultplatforms":
			return decodeList(v, &k.platforms)
		case "defaultenv":
			return decodeList(v, &k.defaults.env)
		case "defaultflags":
			return decodeWords(v, &k.defaults.flags)
		case "defaultldflags":
			return decodeList(v, &k.defaults.ldflags)
		case "builds":
			return k.readBuilds(v)
		}
		return errUnserved
	})
	return k, err
}

var errUnserved = errors.New("not served")

// each calls fn with the keys of a mapping, in lower case as ko reads them. An error has the line.
func (k *koFile) each(n *yaml.Node, fn func(key string, v *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: want KEY: VALUE", k.path, n.Line)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, v := n.Content[i], n.Content[i+1]
		for v.Kind == yaml.AliasNode {
			v = v.Alias
		}
		err := fn(strings.ToLower(key.Value), v)
		switch {
		case errors.Is(err, errUnserved):
			k.unserved = append(k.unserved, fmt.Sprintf("%s:%d: %s", k.path, key.Line, key.Value))
		case err != nil:
			return fmt.Errorf("%s:%d: %s: %w", k.path, key.Line, key.Value, err)
		}
	}
	return nil
}

func (k *koFile) readBuilds(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return errors.New("want a list")
	}
	for _, entry := range n.Content {
		var b koBuild
		err := k.each(entry, func(key string, v *yaml.Node) error {
			switch key {
			case "id":
				return nil
			case "dir":
				return v.Decode(&b.dir)
			case "main":
				return v.Decode(&b.main)
			case "env":
				return decodeList(v, &b.env)
			case "flags":
				return decodeWords(v, &b.flags)
			case "ldflags":
				return decodeList(v, &b.ldflags)
			}
			return errUnserved
		})
		if err != nil {
			return err
		}
		k.builds = append(k.builds, b)
	}
	return nil
}

// decodeList reads a list, or one string as a list of it.
func decodeList(n *yaml.Node, to *[]string) error {
	if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
		*to = []string{n.Value}
		return nil
	}
	return n.Decode(to)
}

// decodeWords reads a list, or one string as its words.
func decodeWords(n *yaml.Node, to *[]string) error {
	if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
		*to = strings.Fields(n.Value)
		return nil
	}
	return n.Decode(to)
}

// folder is where the main package of b lies, from the folder of ko's working directory.
func (b koBuild) folder(dir string) (string, error) {
	path := filepath.Join(dir, b.dir, b.main)
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !st.IsDir() {
		path = filepath.Dir(path)
	}
	return filepath.EvalSymlinks(path)
}

// koGroups deals the packages of a build out by what ko's configuration says of them: those of a group are built alike, on one
// base. Without a configuration there is one group, as it was asked for.
func koGroups(ctx context.Context, o BuildOptions, g GoOptions) ([]BuildOptions, []GoOptions, error) {
	dir, err := gobuild.Where(g.Packages)
	if err != nil {
		return nil, nil, err
	}
	k, err := findKoFile(dir)
	if k == nil || err != nil {
		return []BuildOptions{o}, []GoOptions{g}, err
	}
	if g.Warn != nil {
		for _, word := range k.unserved {
			g.Warn(word + " is not served; it counts for ko alone")
		}
	}
	if len(o.Platforms) == 0 {
		o.Platforms = k.platforms
	}
	if g.Base == "" {
		g.Base = k.base
	} else {
		k.overrides = nil
	}
	if len(k.overrides) == 0 && len(k.builds) == 0 {
		g, err := k.defaults.apply(g, dir)
		return []BuildOptions{o}, []GoOptions{g}, err
	}
	groups, err := k.deal(ctx, o, g, dir)
	if err != nil {
		return nil, nil, err
	}
	return slices.Repeat([]BuildOptions{o}, len(groups)), groups, nil
}

// deal makes groups of the main packages.
func (k *koFile) deal(ctx context.Context, o BuildOptions, g GoOptions, dir string) ([]GoOptions, error) {
	targets, err := goPlatforms(o.Platforms)
	if err != nil {
		return nil, option(err)
	}
	byFolder := map[string]int{}
	for i, b := range k.builds {
		folder, err := b.folder(dir)
		if err != nil {
			return nil, fmt.Errorf("%s: builds: entry %d: %w", k.path, i+1, err)
		}
		byFolder[folder] = i + 1
	}
	mains, where, err := gobuild.Mains(ctx, gobuild.Options{Packages: g.Packages, Platforms: targets[:1], Env: g.Env, Tags: g.Tags})
	if err != nil {
		return nil, err
	}
	type kind struct {
		build int // from 1; 0 is none
		base  string
	}
	var kinds []kind
	groups := map[kind]*GoOptions{}
	for _, m := range mains {
		folder, err := filepath.EvalSymlinks(m.Dir)
		if err != nil {
			return nil, err
		}
		in := kind{byFolder[folder], g.Base}
		if base, ok := k.overrides[strings.ToLower(m.ImportPath)]; ok {
			in.base = base
		}
		group := groups[in]
		if group == nil {
			flags := k.defaults
			if in.build > 0 {
				flags = k.builds[in.build-1].over(flags)
			}
			made, err := flags.apply(g, dir)
			if err != nil {
				return nil, err
			}
			made.Base, made.Packages = in.base, nil
			group = &made
			groups[in], kinds = group, append(kinds, in)
		}
		name := m.ImportPath
		if rel, err := filepath.Rel(where, m.Dir); err == nil && filepath.IsLocal(rel) {
			name = m.Dir
		}
		group.Packages = append(group.Packages, name)
	}
	var out []GoOptions
	for _, in := range kinds {
		out = append(out, *groups[in])
	}
	return out, nil
}

// over are the flags of a build: its own, or where it has none of a kind, the defaults.
func (b koBuild) over(defaults koFlags) koFlags {
	own := b.koFlags
	for _, f := range []struct{ own, other *[]string }{{&own.env, &defaults.env}, {&own.flags, &defaults.flags}, {&own.ldflags, &defaults.ldflags}} {
		if len(*f.own) == 0 {
			*f.own = *f.other
		}
	}
	return own
}

// apply adds the flags to what the command line says, which counts more.
func (f koFlags) apply(g GoOptions, dir string) (GoOptions, error) {
	data := koData{Env: map[string]string{}, Git: koGit{dir}}
	for _, kv := range slices.Concat(os.Environ(), f.env) {
		name, value, _ := strings.Cut(kv, "=")
		data.Env[name] = value
	}
	flags, err := data.expand(f.flags)
	if err != nil {
		return g, fmt.Errorf(".ko.yaml: flags: %w", err)
	}
	ldflags, err := data.expand(f.ldflags)
	if err != nil {
		return g, fmt.Errorf(".ko.yaml: ldflags: %w", err)
	}
	g.Env, g.flags = slices.Concat(f.env, g.Env), flags
	g.LDFlags = strings.TrimSpace(strings.Join(ldflags, " ") + " " + g.LDFlags)
	return g, nil
}

// koData is what templates in flags see.
type koData struct {
	Env map[string]string
	Git koGit
}

// Date is the time of the build. It is SOURCE_DATE_EPOCH: the same sources make the same image.
func (koData) Date() (string, error) {
	t, err := sourceDate()
	return t.Format(time.RFC3339), err
}

// Timestamp is Date in seconds since 1970.
func (koData) Timestamp() (int64, error) {
	t, err := sourceDate()
	return t.Unix(), err
}

func sourceDate() (time.Time, error) {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return time.Time{}, errors.New("the time of the build would make another image each time: set SOURCE_DATE_EPOCH, or take .Git.CommitDate")
	}
	return time.Unix(seconds, 0).UTC(), nil
}

func (d koData) expand(texts []string) ([]string, error) {
	var out []string
	for _, text := range texts {
		t, err := template.New("flags").Option("missingkey=error").Parse(text)
		if err != nil {
			return nil, err
		}
		var b strings.Builder
		if err := t.Execute(&b, d); err != nil {
			return nil, err
		}
		out = append(out, b.String())
	}
	return out, nil
}

// koGit asks git for what templates want to know of the repository.
type koGit struct{ dir string }

func (g koGit) run(args ...string) (string, error) {
	out, err := exec.Command("git", append([]string{"-C", g.dir}, args...)...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("git %s: %s", strings.Join(args, " "), strings.TrimSpace(string(exit.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}

// Branch is the name of the branch that is checked out.
func (g koGit) Branch() (string, error) { return g.run("rev-parse", "--abbrev-ref", "HEAD") }

// FullCommit is the whole hash of the commit.
func (g koGit) FullCommit() (string, error) {
	return g.run("show", "--no-patch", "--format=%H", "HEAD")
}

// ShortCommit is the short hash of the commit.
func (g koGit) ShortCommit() (string, error) {
	return g.run("show", "--no-patch", "--format=%h", "HEAD")
}

// Tag is that of the commit, or the last before it.
func (g koGit) Tag() (string, error) {
	tags, err := g.run("tag", "--points-at", "HEAD", "--sort", "-version:refname")
	if first, _, _ := strings.Cut(tags, "\n"); err != nil || first != "" {
		return first, err
	}
	return g.run("describe", "--tags", "--abbrev=0")
}

// CommitDate is when the commit was made.
func (g koGit) CommitDate() (string, error) {
	seconds, err := g.CommitTimestamp()
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339), err
}

// CommitTimestamp is CommitDate in seconds since 1970.
func (g koGit) CommitTimestamp() (int64, error) {
	text, err := g.run("show", "--no-patch", "--format=%ct", "HEAD")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}

// IsDirty tells whether files differ from the commit.
func (g koGit) IsDirty() (bool, error) {
	text, err := g.run("status", "--porcelain")
	return text != "", err
}

// IsClean is the contrary of IsDirty.
func (g koGit) IsClean() (bool, error) {
	dirty, err := g.IsDirty()
	return !dirty, err
}

// TreeState is "dirty" or "clean".
func (g koGit) TreeState() (string, error) {
	dirty, err := g.IsDirty()
	return map[bool]string{true: "dirty", false: "clean"}[dirty], err
}
