package engine

import (
	"context"
	"fmt"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/buildkit/solver/pb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// settleOCI: an image in an OCI image layout, a directory that the build was given. Its name there is REF@DIGEST, as
// buildx makes it of oci-layout://PATH.
func (n *node) settleOCI(ctx context.Context, op *pb.SourceOp) (*settledSource, error) {
	_, name := splitIdentifier(op.Identifier)
	p := n.e.platformOf(n.v.Op.Platform)
	img, dir, dgst, err := n.e.openLayout(name, op.Attrs[pb.AttrOCILayoutStoreID], &p)
	if err != nil {
		return nil, err
	}
	k, err := n.saltedKey(ctx, "image")
	if err != nil {
		return nil, err
	}
	k.line("digest", dgst)
	k.line("platform", p.OS, p.Architecture, p.Variant)
	return &settledSource{key: k.sum(), make: func(ctx context.Context, n *node) ([]result, error) {
		return n.unpackImage(ctx, img, origin{OCI: dir, Digest: dgst.String(), Platform: &p})
	}}, nil
}

// openLayout opens an image of a layout by name, which may have a tag, a digest or both, and returns the directory and
// the digest of the manifest or index that was named.
func (e *Engine) openLayout(name, storeID string, p *ocispecs.Platform) (img v1.Image, dir string, dgst v1.Hash, err error) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, "", dgst, fmt.Errorf("oci layout %s: %w", name, err)
	}
	if storeID == "" {
		storeID = reference.FamiliarName(ref)
	}
	dir, ok := e.o.OCILayouts[storeID]
	if !ok {
		return nil, "", dgst, fmt.Errorf("oci layout %s: no such layout was given to the build", name)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, "", dgst, fmt.Errorf("oci layout %s: %w", dir, err)
	}
	dgst, err = pickDescriptor(index, ref)
	if err != nil {
		return nil, "", dgst, fmt.Errorf("oci layout %s: %w", dir, err)
	}
	img, err = imageOf(index, dgst, p)
	if err != nil {
		return nil, "", dgst, fmt.Errorf("oci layout %s: %w", dir, err)
	}
	return img, dir, dgst, nil
}

func pickDescriptor(index v1.ImageIndex, ref reference.Named) (v1.Hash, error) {
	if d, ok := ref.(reference.Digested); ok {
		return v1.NewHash(d.Digest().String())
	}
	m, err := index.IndexManifest()
	if err != nil {
		return v1.Hash{}, err
	}
	if t, ok := ref.(reference.Tagged); ok {
		for _, d := range m.Manifests {
			if d.Annotations[ocispecs.AnnotationRefName] == t.Tag() {
				return d.Digest, nil
			}
		}
	}
	if len(m.Manifests) == 1 {
		return m.Manifests[0].Digest, nil
	}
	return v1.Hash{}, fmt.Errorf("it holds %d images, and %s names none of them", len(m.Manifests), ref)
}

// imageOf finds the image of a digest, and of an index the one for the platform.
func imageOf(index v1.ImageIndex, dgst v1.Hash, p *ocispecs.Platform) (v1.Image, error) {
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Manifests {
		if d.Digest != dgst {
			continue
		}
		if !d.MediaType.IsIndex() {
			return index.Image(dgst)
		}
		inner, err := index.ImageIndex(dgst)
		if err != nil {
			return nil, err
		}
		return platformImage(inner, p)
	}
	return index.Image(dgst) // not listed at the top: by digest alone
}

func platformImage(index v1.ImageIndex, p *ocispecs.Platform) (v1.Image, error) {
	want := match.Platforms(v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Manifests {
		if d.Platform != nil && want(d) && (d.MediaType == types.OCIManifestSchema1 || d.MediaType == types.DockerManifestSchema2) {
			return index.Image(d.Digest)
		}
	}
	return nil, fmt.Errorf("no image for %s/%s", p.OS, p.Architecture)
}
