package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sort"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Annotations of the descriptors in index.json. The first is image-spec's (image-layout.md, "index.json
// file"), which skopeo and umoci read; containerd and its tools look for the second.
const (
	annotationRefName   = "org.opencontainers.image.ref.name"
	annotationImageName = "io.containerd.image.name"
)

const ociLayout = `{"imageLayoutVersion":"1.0.0"}` + "\n"

// prepareLayout makes an OCI layout of ROOT/oci where files of it are missing.
func (s *Store) prepareLayout() error {
	for name, content := range map[string]string{"oci-layout": ociLayout, "index.json": emptyIndex()} {
		path := s.path("oci", name)
		if i, err := os.Lstat(path); err == nil && i.Size() > 0 {
			continue
		}
		unlock, err := s.lockFile("layout", true)
		if err != nil {
			return err
		}
		if i, serr := os.Lstat(path); serr != nil || i.Size() == 0 {
			err = s.writeFile(path, []byte(content))
		}
		unlock()
		if err != nil {
			return notWritable(s.root, err)
		}
	}
	return nil
}

func emptyIndex() string {
	b, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}})
	if err != nil {
		panic(err) // a constant
	}
	return string(b)
}

// Tag makes name mean the manifest or index that desc describes, in place of what it meant. The store must
// hold its blobs. Name is the canonical one ("docker.io/library/x:tag"); with "" an image that has no name is
// kept as one without, the first that Trim drops. Annotations of desc are kept beside the name.
func (s *Store) Tag(name string, desc v1.Descriptor) error {
	annotations := map[string]string{}
	for k, v := range desc.Annotations {
		annotations[k] = v
	}
	delete(annotations, annotationRefName)
	delete(annotations, annotationImageName)
	if name != "" {
		annotations[annotationRefName] = name
		annotations[annotationImageName] = name
	}
	desc.Annotations = annotations
	return s.updateIndex("tag "+name, func(ix *v1.IndexManifest) {
		if name == "" && slices.ContainsFunc(ix.Manifests, func(d v1.Descriptor) bool { return d.Digest == desc.Digest && NameOf(d) != "" }) {
			return
		}
		ix.Manifests = append(without(ix.Manifests, func(d v1.Descriptor) bool {
			if name == "" {
				return NameOf(d) == "" && d.Digest == desc.Digest
			}
			// An image that gets a name is no longer one without.
			return NameOf(d) == name || NameOf(d) == "" && d.Digest == desc.Digest
		}), desc)
	})
}

// Untag removes a name; [ErrMiss] when there is none such. The image's blobs stay until Trim.
func (s *Store) Untag(name string) error {
	return s.drop("untag "+name, func(d v1.Descriptor) bool { return name != "" && NameOf(d) == name })
}

// Forget removes every name of the manifest or index with this digest, and its entry without a name;
// [ErrMiss] when there is none.
func (s *Store) Forget(h v1.Hash) error {
	return s.drop("untag "+h.String(), func(d v1.Descriptor) bool { return d.Digest == h })
}

func (s *Store) drop(step string, match func(v1.Descriptor) bool) error {
	found := false
	err := s.updateIndex(step, func(ix *v1.IndexManifest) {
		before := len(ix.Manifests)
		ix.Manifests = without(ix.Manifests, match)
		found = len(ix.Manifests) < before
	})
	if err == nil && !found {
		return fmt.Errorf("%s: %w", step, ErrMiss)
	}
	return err
}

// Tags returns the descriptors of all images, in the order of names; [NameOf] gives the name of each.
func (s *Store) Tags() ([]v1.Descriptor, error) {
	ix, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	sort.SliceStable(ix.Manifests, func(i, j int) bool { return NameOf(ix.Manifests[i]) < NameOf(ix.Manifests[j]) })
	return ix.Manifests, nil
}

// Tagged returns the descriptor that name means, or [ErrMiss].
func (s *Store) Tagged(name string) (v1.Descriptor, error) {
	ix, err := s.readIndex()
	if err != nil {
		return v1.Descriptor{}, err
	}
	for _, d := range ix.Manifests {
		if name != "" && NameOf(d) == name {
			return d, nil
		}
	}
	return v1.Descriptor{}, fmt.Errorf("image %s: %w", name, ErrMiss)
}

// NameOf returns the name under which a descriptor stands in the store, "" for an image without one.
func NameOf(d v1.Descriptor) string {
	if n := d.Annotations[annotationRefName]; n != "" {
		return n
	}
	return d.Annotations[annotationImageName]
}

func (s *Store) readIndex() (*v1.IndexManifest, error) {
	var ix v1.IndexManifest
	b, err := os.ReadFile(s.path("oci", "index.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the list of images: %w", err)
	}
	if err != nil || json.Unmarshal(b, &ix) != nil {
		ix = v1.IndexManifest{} // missing, or cut short: the images can be built again
	}
	ix.SchemaVersion, ix.MediaType = 2, types.OCIImageIndex
	if ix.Manifests == nil {
		ix.Manifests = []v1.Descriptor{}
	}
	return &ix, nil
}

func (s *Store) updateIndex(step string, change func(*v1.IndexManifest)) error {
	unlock, err := s.Lock(context.Background(), "index.json")
	if err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	defer unlock()
	ix, err := s.readIndex()
	if err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	change(ix)
	b, err := json.MarshalIndent(ix, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	if err := s.prepareLayout(); err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	if err := s.writeFile(s.path("oci", "index.json"), b); err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	return nil
}

func without(ds []v1.Descriptor, match func(v1.Descriptor) bool) []v1.Descriptor {
	kept := make([]v1.Descriptor, 0, len(ds))
	for _, d := range ds {
		if !match(d) {
			kept = append(kept, d)
		}
	}
	return kept
}
