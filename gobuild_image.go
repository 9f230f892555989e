package skiff

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skiff-build/skiff/internal/doctor"
	"github.com/skiff-build/skiff/internal/envlist"
	"github.com/skiff-build/skiff/internal/gobuild"
	"github.com/skiff-build/skiff/internal/image"
	"github.com/skiff-build/skiff/internal/runimage"
)

// nonroot is the user of an image where nobody says otherwise; distroless images call 65532 so.
const nonroot = "65532:65532"

// check finds what is wrong with the options before anything runs.
func (g GoOptions) check() error {
	for _, kv := range g.ImageEnv {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" {
			return fmt.Errorf("image-env %q: want NAME=VALUE", kv)
		}
	}
	for _, e := range g.Expose {
		if !exposed.MatchString(e) {
			return fmt.Errorf("expose %q: want PORT or PORT/tcp, PORT/udp, PORT/sctp", e)
		}
	}
	for _, a := range g.Add {
		if a.Source == "" || !path.IsAbs(a.Target) {
			return fmt.Errorf("add %s:%s: want SOURCE:TARGET, TARGET an absolute path in the image", a.Source, a.Target)
		}
	}
	if g.Optimize != "" && g.Optimize != "size" {
		return fmt.Errorf("optimize %q: choose size", g.Optimize)
	}
	if g.WorkDir != "" && !path.IsAbs(g.WorkDir) {
		return fmt.Errorf("workdir %s: want an absolute path in the image", g.WorkDir)
	}
	if g.User != "" && strings.ContainsAny(g.User, " \t\n") {
		return fmt.Errorf("user %q: want USER or USER:GROUP", g.User)
	}
	return nil
}

var exposed = regexp.MustCompile(`^[0-9]{1,5}(-[0-9]{1,5})?(/(tcp|udp|sctp))?$`)

// goBaseImage is the image that a build starts from, for one platform.
type goBaseImage struct {
	name   string // in full, without digest
	digest v1.Hash
	raw    []byte // config
	config *v1.ConfigFile
	layers []image.Layer
	root   func() (doctor.Existing, error) // what is in it, read when it is asked for first
}

// onBase says that images stand on another one.
func (b *goBuild) onBase() bool { return b.g.Base != "" && b.g.Base != "scratch" }

// base finds the base image of a platform; nil where there is none.
func (b *goBuild) base(ctx context.Context, p gobuild.Platform) (*goBaseImage, error) {
	if !b.onBase() {
		return nil, nil
	}
	images, err := b.state.imagesFor(b.steps.note, b.o.Pull)
	if err != nil {
		return nil, err
	}
	platform := &v1.Platform{OS: p.OS, Architecture: p.Arch, Variant: p.Variant}
	registry := images.registry
	r, err := registry.Resolve(ctx, b.g.Base, platform, image.ResolveOptions{Pull: b.o.Pull == PullAlways})
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	name, _, _ := strings.Cut(r.Name, "@")
	img, err := registry.Image(ctx, name+"@"+r.Digest.String(), platform)
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	base := &goBaseImage{name: name, digest: r.Digest, raw: r.Config, root: sync.OnceValues(func() (doctor.Existing, error) { return openBaseRoot(ctx, name, img) })}
	if base.config, err = img.ConfigFile(); err != nil {
		return nil, fmt.Errorf("base %s: %w", b.g.Base, err)
	}
	if c := base.config; c.OS != p.OS || c.Architecture != p.Arch { // a name that means one image alone
		return nil, fmt.Errorf("base %s: it is for %s/%s, and there is none for %s", b.g.Base, c.OS, c.Architecture, p)
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("base %s: %w", b.g.Base, err)
	}
	for _, l := range layers {
		made, err := layerOf(l)
		if err != nil {
			return nil, fmt.Errorf("base %s: %w", b.g.Base, err)
		}
		base.layers = append(base.layers, made)
	}
	return base, nil
}

// layerOf is a layer of a base image, which passes as it is.
func layerOf(l v1.Layer) (out image.Layer, err error) {
	if out.DiffID, err = l.DiffID(); err != nil {
		return out, err
	}
	if out.Blob.Digest, err = l.Digest(); err != nil {
		return out, err
	}
	if out.Blob.Size, err = l.Size(); err != nil {
		return out, err
	}
	out.Blob.MediaType, err = l.MediaType()
	out.Open = l.Compressed
	return out, err
}

// platformImage makes the image of one platform.
func (b *goBuild) platformImage(ctx context.Context, img goImage, r gobuild.Result, annotations map[string]string) (v1.Image, error) {
	m := &goMaker{b: b, img: img, programs: r.Programs, platform: r.Platform, base: b.bases[r.Platform]}
	spec, err := m.spec(ctx)
	if err != nil {
		return nil, err
	}
	maps.Copy(spec.Annotations, annotations)
	return b.state.library.Assemble(ctx, spec)
}

// goMaker makes the image of one platform.
type goMaker struct {
	b        *goBuild
	img      goImage
	platform gobuild.Platform
	programs []gobuild.Program
	base     *goBaseImage // nil for none

	layers  []image.Layer // above the base's
	history []v1.History  // one for each of them
	env     []string      // that they ask for
}

// spec is what the image is assembled of: the base's layers, then what changes least often first.
func (m *goMaker) spec(ctx context.Context) (image.Spec, error) {
	for _, add := range []func(context.Context) error{m.addNeeds, m.addFiles} {
		if err := add(ctx); err != nil {
			return image.Spec{}, err
		}
	}
	for _, p := range m.programs {
		if err := m.add(p.Layer, p.Bytes, p.Size, "go build "+p.ImportPath); err != nil {
			return image.Spec{}, err
		}
	}
	config, err := json.Marshal(m.config())
	if err != nil {
		return image.Spec{}, err
	}
	spec := image.Spec{Config: config, Epoch: m.b.epoch, Annotations: m.annotations()}
	if m.base != nil {
		spec.Layers, spec.BaseConfig = m.base.layers, m.base.raw
	}
	spec.Layers = slices.Concat(spec.Layers, m.layers)
	return spec, nil
}

// addFiles adds what --add names, and the kodata of the programs.
func (m *goMaker) addFiles(ctx context.Context) error {
	var statics []gobuild.Static
	for _, a := range m.b.g.Add {
		statics = append(statics, gobuild.Static{Source: a.Source, Target: a.Target})
	}
	for _, p := range m.programs {
		data, ok, err := gobuild.KoData(p)
		if err != nil {
			return err
		}
		if ok {
			statics = append(statics, data)
			m.env = append(m.env, "KO_DATA_PATH="+gobuild.KoDataPath)
		}
	}
	if len(statics) == 0 {
		return nil
	}
	o := gobuild.FilesOptions{Store: m.b.state.store, Epoch: m.b.epoch, KeepTimes: m.b.o.KeepTimes}
	if m.base != nil {
		o.Folder, o.Below = m.base.folder, m.base.digest.String()
	}
	files, err := gobuild.WriteFiles(ctx, statics, o)
	if err != nil {
		return fmt.Errorf("add files: %w", err)
	}
	return m.add(files.Layer, files.Bytes, files.Size, "skiff build: files")
}

// add puts a layer, whose blob the store has, above the others. files are the bytes of the files in it.
func (m *goMaker) add(diffID v1.Hash, bytes, files int64, by string) error {
	m.layers = append(m.layers, image.Layer{DiffID: diffID, Size: bytes})
	m.history = append(m.history, v1.History{Created: v1.Time{Time: m.b.epoch}, CreatedBy: by, Comment: "skiff"})
	return m.b.state.library.NoteFiles(diffID, files)
}

// config is the image's config, without layers.
func (m *goMaker) config() *v1.ConfigFile {
	c := &v1.ConfigFile{}
	if m.base != nil {
		c = m.base.config.DeepCopy()
		//lint:ignore SA1019 bases have it
		c.Config.OnBuild, c.Config.Cmd, c.Container, c.DockerVersion = nil, nil, "", ""
	}
	c.OS, c.Architecture, c.Variant = m.platform.OS, m.platform.Arch, m.platform.Variant
	c.Created = v1.Time{Time: m.b.epoch}
	c.History = append(c.History, m.history...)
	c.RootFS = v1.RootFS{}
	g := m.b.g
	c.Config.Env = joinEnv(c.Config.Env, m.env, g.ImageEnv)
	c.Config.Entrypoint = m.entrypoint()
	c.Config.Cmd = g.Cmd
	if g.WorkDir != "" {
		c.Config.WorkingDir = g.WorkDir
	}
	c.Config.User = m.user(c.Config.User)
	for _, port := range g.Expose {
		if c.Config.ExposedPorts == nil {
			c.Config.ExposedPorts = map[string]struct{}{}
		}
		if !strings.Contains(port, "/") {
			port += "/tcp"
		}
		c.Config.ExposedPorts[port] = struct{}{}
	}
	labels := map[string]string{}
	maps.Copy(labels, c.Config.Labels)
	// What the base says of itself (its title, its version) is not true of this image.
	maps.DeleteFunc(labels, func(k, _ string) bool { return strings.HasPrefix(k, "org.opencontainers.image.") })
	maps.Copy(labels, m.labels())
	maps.Copy(labels, m.b.o.Labels)
	c.Config.Labels = labels
	return c
}

// user is the one that is asked for, else the base's unless that is root, else nonroot.
func (m *goMaker) user(base string) string {
	name, _, _ := strings.Cut(base, ":")
	switch {
	case m.b.g.User != "":
		return m.b.g.User
	case name != "" && name != "0" && name != "root":
		return base
	}
	return nonroot
}

// entrypoint is the program, or what was asked for in its place.
func (m *goMaker) entrypoint() []string {
	words := slices.Clone(m.b.g.Entrypoint)
	if len(words) == 0 {
		words = []string{m.img.entry}
	}
	for _, p := range m.programs {
		if words[0] == p.Name {
			words[0] = p.Path
		}
	}
	return words
}

// joinEnv joins lists of "NAME=VALUE": later ones replace earlier ones of the same name, in their place.
func joinEnv(lists ...[]string) []string {
	env := []string{}
	for _, kv := range slices.Concat(lists...) {
		name, _, _ := strings.Cut(kv, "=")
		i := slices.IndexFunc(env, func(have string) bool { return strings.HasPrefix(have, name+"=") })
		if i < 0 {
			env = append(env, kv)
		} else {
			env[i] = kv
		}
	}
	if !envlist.Has(env, "PATH") {
		env = append([]string{runimage.DefaultPath}, env...)
	}
	return env
}

// labels are what the program that the image starts says of itself (image-spec annotations.md), the same words as labels and as
// annotations.
func (m *goMaker) labels() map[string]string {
	l := map[string]string{}
	main := m.programs[0]
	for _, p := range m.programs {
		if p.Name == m.img.entry {
			main = p
		}
	}
	l[ocispecs.AnnotationTitle] = main.Name
	if url := sourceURL(main.Module.Path); url != "" {
		l[ocispecs.AnnotationSource] = url
	}
	if main.Module.Version != "" {
		l[ocispecs.AnnotationVersion] = main.Module.Version
	}
	if !m.b.g.LabelVCS || main.VCS.Revision == "" {
		return l
	}
	l[ocispecs.AnnotationRevision] = main.VCS.Revision
	if main.VCS.Modified {
		l[ocispecs.AnnotationRevision] += "-dirty"
	}
	if !main.VCS.Time.IsZero() {
		l[ocispecs.AnnotationCreated] = main.VCS.Time.UTC().Format("2006-01-02T15:04:05Z")
	}
	return l
}

// hosts are those whose repositories are addresses that a browser opens: HOST/OWNER/NAME.
var hosts = []string{"github.com", "gitlab.com", "bitbucket.org", "codeberg.org"}

// sourceURL is where the sources of a module are, as far as its path tells; "" where it does not.
func sourceURL(module string) string {
	parts := strings.Split(module, "/")
	if len(parts) < 3 || !slices.Contains(hosts, parts[0]) {
		return ""
	}
	return "https://" + strings.Join(parts[:3], "/")
}

// annotations are those of the manifest: the labels, and what the image stands on.
func (m *goMaker) annotations() map[string]string {
	a := m.labels()
	if m.base != nil {
		a[ocispecs.AnnotationBaseImageName] = m.base.name
		a[ocispecs.AnnotationBaseImageDigest] = m.base.digest.String()
	}
	return a
}
