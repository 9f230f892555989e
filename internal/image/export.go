package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Exporter brings images to their destinations.
type Exporter struct {
	Library  *Library
	Registry *Registry // for type=registry and push=true
	Stdout   io.Writer
	Epoch    time.Time      // the time in archives; zero: 1970-01-01T00:00:00Z
	Log      func(string)   // messages for the user; nil drops them
	Progress func(Transfer) // of a push; nil for nobody
	Stored   func()         // called when the library has all that an archive needs, before that is written; nil for nobody
}

// Exported tells what an export made.
type Exported struct {
	v1.Descriptor          // of the manifest or index as it left, or is kept; zero for tar and local
	Pushed        []string // full names under which registries have that
}

// Export brings c to o. names are those of --tag; o.Names go before them.
func (x *Exporter) Export(ctx context.Context, c Content, names []string, o Output) (Exported, error) {
	if len(o.Names) > 0 {
		names = o.Names
	}
	names, err := canonicalNames(names)
	if err != nil {
		return Exported{}, err
	}
	switch o.Type {
	case "image", "registry":
		return x.image(ctx, c, names, o)
	case "oci", "docker":
		return x.archive(ctx, c, names, o)
	case "tar":
		return Exported{}, writeTo(o.Dest, x.Stdout, func(w io.Writer) error { return WriteTar(ctx, w, c) })
	case "local":
		return Exported{}, WriteLocal(ctx, o.Dest, c, x.Log)
	case "cacheonly":
		return Exported{}, nil
	}
	return Exported{}, fmt.Errorf("output type=%s is not known", o.Type)
}

func (x *Exporter) image(ctx context.Context, c Content, names []string, o Output) (Exported, error) {
	d, err := x.Library.Put(ctx, c, names...)
	if err != nil {
		return Exported{}, err
	}
	out := Exported{Descriptor: d}
	if !o.Push {
		return out, nil
	}
	if len(names) == 0 {
		return out, errors.New("push: the image has no name: give it one with --tag, or name= in --output")
	}
	reg := x.Registry
	if o.Insecure {
		if reg, err = reg.allowing(names); err != nil {
			return out, err
		}
	}
	for _, name := range names {
		if out.Descriptor, err = reg.pushed(ctx, c, name, PushOptions{Format: o.Format, Progress: x.Progress}); err != nil {
			return out, err
		}
		out.Pushed = append(out.Pushed, name)
	}
	return out, nil
}

// allowing returns a Registry that may speak plain http to the registries in names.
func (r *Registry) allowing(names []string) (*Registry, error) {
	o := r.o
	o.Insecure = append([]string{}, o.Insecure...)
	for _, name := range names {
		n, err := parseName(name)
		if err != nil {
			return nil, err
		}
		sources, err := r.sources(n)
		if err != nil {
			return nil, err
		}
		o.Insecure = append(o.Insecure, sources[len(sources)-1].repo.RegistryStr())
	}
	return NewRegistry(o)
}

func (x *Exporter) archive(ctx context.Context, c Content, names []string, o Output) (Exported, error) {
	f := o.Format
	write := WriteOCI
	if o.Type == "docker" {
		write = WriteDocker
		f.Docker = o.OCI == nil || !*o.OCI // as old daemons expect it
		if _, ok := c.(v1.ImageIndex); ok {
			return Exported{}, errors.New("output type=docker holds one platform: build for one, or use type=oci")
		}
		if f.Compression == "zstd" && o.OCI == nil {
			f.Docker = false
		}
	}
	c, err := x.Library.Convert(ctx, c, f)
	if err != nil {
		return Exported{}, err
	}
	d, err := describe(c)
	if err != nil {
		return Exported{}, err
	}
	out := Exported{Descriptor: d}
	if x.Stored != nil {
		x.Stored()
	}
	images := []Named{{c, names}}
	if o.Dir {
		return out, WriteLayout(ctx, o.Dest, images, x.Epoch)
	}
	return out, writeTo(o.Dest, x.Stdout, func(w io.Writer) error { return write(ctx, w, images, x.Epoch) })
}

// SaveOptions say how [Library.Save] writes images.
type SaveOptions struct {
	Dest   string // a file; "-" and "" are Stdout
	Stdout io.Writer
	OCI    bool   // an OCI archive instead of docker save's format
	Format Format // Compression "": as the layers lie in the store
	Epoch  time.Time
}

// Save writes images of the store into an archive, as `docker save` does. Each ref is a name or an ID; those
// of an ID have no name in the archive.
func (l *Library) Save(ctx context.Context, refs []string, o SaveOptions) error {
	var images []Named
	byDigest := map[v1.Hash]int{}
	for _, ref := range refs {
		rows, err := l.find(ctx, ref)
		if err != nil {
			return err
		}
		var names []string
		if n, err := parseName(ref); err == nil && n.String() == rows[0].Name {
			names = []string{rows[0].Name}
		}
		if i, ok := byDigest[rows[0].Digest]; ok {
			images[i].Names = append(images[i].Names, names...)
			continue
		}
		c, err := l.load(rows[0].desc)
		if err != nil {
			return err
		}
		if o.Format.Compression != "" {
			if c, err = l.Convert(ctx, c, o.Format); err != nil {
				return err
			}
		}
		byDigest[rows[0].Digest] = len(images)
		images = append(images, Named{c, names})
	}
	write := WriteDocker
	if o.OCI {
		write = WriteOCI
	}
	return writeTo(o.Dest, o.Stdout, func(w io.Writer) error { return write(ctx, w, images, o.Epoch) })
}
