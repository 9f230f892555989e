package skiff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"golang.org/x/sync/errgroup"

	"github.com/skiff-build/skiff/internal/engine"
	"github.com/skiff-build/skiff/internal/image"
)

// evaluate runs the steps of all platforms. Those that they share run once.
func (b *build) evaluate(ctx context.Context, parts []built) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range parts {
		if p.ref != nil {
			g.Go(func() error { return p.ref.Evaluate(ctx) })
		}
	}
	return g.Wait()
}

// export makes the image and everything that was asked for of it. The parts have been evaluated.
func (b *build) export(ctx context.Context, parts []built) (*BuildResult, error) {
	var forget errgroup.Group
	forget.Go(b.engine.ForgetLocals)
	defer forget.Wait()
	res := &BuildResult{Built: time.Now(), Warnings: b.df.Warnings()}
	var made content
	var reports func() error
	err := b.steps.run(ctx, "exporting", func(ctx context.Context, st *step) (err error) {
		if made, err = b.assemble(ctx, parts); err == nil {
			err = forget.Wait() // the memory is needed for what follows
		}
		if err != nil {
			return err
		}
		b.engine.Rest() // what leaves lies in the store now
		st.did("exporting layers")
		d := &delivery{state: b.state, o: b.o, steps: b.steps, doctor: b.doctor, stored: b.state.sync}
		reports, err = d.deliver(ctx, st, made, res)
		return err
	})
	if err != nil {
		return nil, err
	}
	b.state.sync()
	if err := reports(); err != nil {
		return nil, err
	}
	return res, b.measure(ctx, parts, made, res)
}

// content is an image, or an index of several, as it lies in the store.
type content struct {
	image.Content
	id     string // digest of the config, or of the index
	images []v1.Image
	epoch  time.Time
}

// part is what the image of one platform is made of.
type part struct {
	id       string // of the platform, as annotations name it
	platform v1.Platform
	image    func(ctx context.Context, annotations map[string]string) (v1.Image, error)
}

// assemble makes the image of each platform, and with multi an index of them.
func (o *BuildOptions) assemble(ctx context.Context, parts []part, multi bool) (content, error) {
	var images []image.PlatformImage
	var c content
	index := map[string]string{}
	for _, p := range parts {
		a, err := annotations(o.Annotations, p.id)
		if err != nil {
			return c, err
		}
		if !multi && (len(a.Index) > 0 || len(a.ManifestDescriptor) > 0) {
			return c, errNoIndex
		}
		img, err := p.image(ctx, a.Manifest)
		if err != nil {
			return c, err
		}
		images = append(images, image.PlatformImage{Platform: p.platform, Image: img, Annotations: a.ManifestDescriptor})
		maps.Copy(index, a.Index)
		c.images = append(c.images, img)
	}
	if !multi {
		h, err := images[0].Image.ConfigName()
		c.Content, c.id = images[0].Image, h.String()
		return c, err
	}
	ix, err := image.AssembleIndex(images, index)
	if err != nil {
		return c, err
	}
	h, err := ix.Digest()
	c.Content, c.id = ix, h.String()
	return c, err
}

// assemble makes the image of all platforms.
func (b *build) assemble(ctx context.Context, all []built) (content, error) {
	epoch, err := epochOf(all[0]) // it is the build's, not a platform's
	if err != nil {
		return content{}, err
	}
	var parts []part
	for _, p := range all {
		parts = append(parts, part{p.id, *platformOf(&p.plat.Platform), func(ctx context.Context, annotations map[string]string) (v1.Image, error) {
			return b.image(ctx, p, epoch, annotations)
		}})
	}
	c, err := b.o.assemble(ctx, parts, b.multi)
	c.epoch = epoch
	return c, err
}

// epochOf is SOURCE_DATE_EPOCH as the frontend understood it, 1970 where there is none.
func epochOf(p built) (time.Time, error) {
	if p.epoch == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(p.epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q: %w", p.epoch, err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// image is the image of one platform.
func (b *build) image(ctx context.Context, p built, epoch time.Time, annotations map[string]string) (v1.Image, error) {
	layers, err := b.engine.Layers(ctx, p.ref, engine.LayerOptions{Epoch: epoch.Unix(), KeepTimes: b.o.KeepTimes})
	if err != nil {
		return nil, err
	}
	spec := image.Spec{Config: p.config, BaseConfig: p.base, Annotations: annotations, Epoch: epoch}
	for _, l := range layers {
		made, err := b.layer(ctx, l)
		if err != nil {
			return nil, err
		}
		spec.Layers = append(spec.Layers, made)
	}
	img, err := b.state.library.Assemble(ctx, spec)
	if err != nil || !b.o.AddMissing {
		return img, err
	}
	return b.doctor.complete(ctx, img, spec)
}

// layer is an engine's layer as an image has it: a base's as it came, compressed, others as a tar.
func (b *build) layer(ctx context.Context, l engine.Layer) (image.Layer, error) {
	diffID, err := v1.NewHash(l.DiffID)
	if err != nil {
		return image.Layer{}, fmt.Errorf("layer %s: %w", l.ID, err)
	}
	out := image.Layer{DiffID: diffID, Size: l.Size, Open: func() (io.ReadCloser, error) { return l.Open(ctx) }}
	if l.Base != nil {
		out.Blob, out.Open = l.Base.Descriptor, func() (io.ReadCloser, error) { return l.Base.Open(ctx) }
	}
	return out, b.state.library.NoteFiles(diffID, l.Files)
}

// delivery brings an image where a build's options ask for it.
type delivery struct {
	state  *State
	o      BuildOptions
	steps  *steps
	doctor *checkup
	stored func() // called before the last archive is written, when nothing but the report is added to the state any more; may be nil
}

// deliver examines an image and makes everything that was asked for of it. Both at once, but nothing leaves of an image that
// findings may refuse. The reports are in res when the function that it returns has returned. After an error nothing runs on: the
// doctor writes records, and the state may be closed next.
func (d *delivery) deliver(ctx context.Context, st *step, made content, res *BuildResult) (reports func() error, err error) {
	examine, stop := context.WithCancel(ctx)
	examined := d.doctor.start(examine, made.images)
	defer func() {
		if err != nil {
			stop()
			_, _ = examined()
		}
	}()
	reports = func() (err error) {
		defer stop()
		res.Reports, err = examined()
		return err
	}
	if d.doctor.strict() {
		if err := reports(); err != nil {
			return nil, err
		}
	}
	return reports, d.outputs(ctx, st, made, res)
}

// outputs makes everything that was asked for of an image.
func (d *delivery) outputs(ctx context.Context, st *step, made content, res *BuildResult) (err error) {
	list := d.o.Outputs
	if len(list) == 0 || d.o.Load {
		list = append([]Output{{Type: "image"}}, list...)
	}
	registry, err := d.state.registryFor(d.steps.note, nil)
	if err != nil {
		return err
	}
	stdout := d.o.Stdout
	if stdout == nil {
		stdout = os.Stdout
	}
	x := &image.Exporter{
		Library: d.state.library, Registry: registry, Stdout: stdout, Epoch: made.epoch, Log: d.steps.note,
		Progress: func(t image.Transfer) { showPush(st, t) },
	}
	for i, o := range list {
		if i == len(list)-1 && !d.o.Load {
			x.Stored = d.stored
		}
		if err := d.output(ctx, st, x, o, made, res); err != nil {
			return err
		}
	}
	if d.o.Load {
		return d.loadWhereDocker(ctx, st, made)
	}
	return nil
}

// showPush shows how far a blob is. One that is sent while it is compressed goes by its diff ID, which is known.
func showPush(st *step, t image.Transfer) {
	what := "pushing layer " + cmp.Or(t.Layer, t.Digest)
	if t.Exists {
		what = "layer " + t.Digest + " is already there"
	}
	st.progress(what, t.Done, t.Total)
}

// output makes one thing of an image.
func (d *delivery) output(ctx context.Context, st *step, x *image.Exporter, o Output, made content, res *BuildResult) error {
	names := d.o.Tags
	if len(o.Names) > 0 {
		var err error
		if names, err = canonical(o.Names); err != nil {
			return err
		}
	}
	docker := o.Type == "docker" && o.Dest == ""
	res.StdoutUsed = res.StdoutUsed || o.Dest == "-" || o.Type == "oci" && o.Dest == "" || o.Type == "tar" && o.Dest == ""
	if o.Type != "local" && o.Type != "tar" {
		res.ID, res.Tags = made.id, names
	}
	var err error
	var out image.Exported
	if docker {
		_, err = image.LoadIntoDocker(ctx, []image.Named{{Content: made.Content, Names: names}}, made.epoch)
		if err == nil {
			out.Descriptor, err = describe(made)
		}
	} else {
		out, err = x.Export(ctx, made.Content, names, o)
	}
	if err != nil {
		return err
	}
	res.Kept = res.Kept || o.Type == "image" || o.Type == "registry"
	res.note(o, out)
	if o.Type == "image" || o.Type == "registry" {
		st.did("writing image " + made.id)
	}
	for _, n := range names {
		if res.ID != "" {
			st.did("naming to " + n)
		}
	}
	return nil
}

// note keeps what an output made. Of several digests that of a registry counts, since others go by it; else the first.
func (r *BuildResult) note(o Output, out image.Exported) {
	if out.Size == 0 {
		return
	}
	r.Outputs = append(r.Outputs, Made{Type: o.Type, Dest: o.Dest, Descriptor: out.Descriptor})
	if r.Descriptor.Size == 0 || len(r.Pushed) == 0 && len(out.Pushed) > 0 {
		r.Descriptor = out.Descriptor
	}
	for _, name := range out.Pushed {
		r.Pushed = append(r.Pushed, Moved{Name: name, Digest: out.Digest.String()})
	}
	if r.Descriptor.MediaType.IsIndex() {
		r.ID = r.Descriptor.Digest.String()
	}
}

// loadWhereDocker gives the image to the Docker daemon, if one answers: what --load asks for beside keeping it.
func (d *delivery) loadWhereDocker(ctx context.Context, st *step, made content) error {
	_, err := image.LoadIntoDocker(ctx, []image.Named{{Content: made.Content, Names: d.o.Tags}}, made.epoch)
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		d.steps.note("no Docker daemon answers: the image is kept here alone")
		return nil
	}
	if err == nil {
		st.did("loading into the Docker daemon")
	}
	return err
}

// measure fills in what the result weighs, and what all that it was made from does.
func (b *build) measure(ctx context.Context, parts []built, made content, res *BuildResult) error {
	for _, img := range made.images {
		n, err := b.state.library.UnpackedSize(ctx, img)
		if err != nil {
			return err
		}
		res.Size += n
	}
	var refs []gwclient.Reference
	for _, p := range parts {
		if p.ref != nil {
			refs = append(refs, p.ref)
		}
	}
	left, err := b.engine.LeftBehind(ctx, refs...)
	res.StageBytes = left + res.Size
	for _, r := range res.Reports {
		r.StageBytes = res.StageBytes
	}
	return err
}
