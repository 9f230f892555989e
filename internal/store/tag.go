package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"sort"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Annotations of the descriptors in index.json. The first is image-spec's (image-layout.md, "index.json
// file"), which skopeo and umoci read; containerd and its tools look for the second.
const (
	annotationRefName   = "org.opencontainers.image.ref.name"
	annotationImageName = "io.containerd.image.name"
)

const ociLayout = `{"imageLayoutVersion":"1.0.0"}` + "\n"

// prepareLayout makes an OCI layout of ROOT/oci where files of it are missing or damaged.
func (s *Store) prepareLayout() error {
	path := s.path("oci", "oci-layout")
	if b, err := os.ReadFile(path); err != nil || string(b) != ociLayout {
		if err := s.writeFile(path, []byte(ociLayout)); err != nil {
			return notWritable(s.root, err)
		}
	}
	if _, err := os.Lstat(s.path("oci", "index.json")); errors.Is(err, fs.ErrNotExist) {
		if _, err := s.readIndex(); err != nil { // which makes it
			return notWritable(s.root, err)
		}
	}
	return nil
}

// Tag makes name mean the manifest or index that desc describes, in place of what it meant. The store must
// hold its blobs. A name that means it already stays as it is, with what is beside it. Name is the canonical one ("docker.io/library/x:tag"); with "" an image that has no name is
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
	if err := s.keepSpare(desc); err != nil {
		return fmt.Errorf("tag %s: %w", name, err)
	}
	return s.updateIndex("tag "+name, func(ix *v1.IndexManifest) {
		if slices.ContainsFunc(ix.Manifests, func(d v1.Descriptor) bool { return name != "" && NameOf(d) == name && d.Digest == desc.Digest }) {
			return
		}
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

func (s *Store) updateIndex(step string, change func(*v1.IndexManifest)) error {
	unlock, err := s.Lock(context.Background(), "index.json")
	if err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	defer unlock()
	ix, err := s.mendIndex()
	if err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	before := slices.Clone(ix.Manifests)
	change(ix)
	if reflect.DeepEqual(before, ix.Manifests) {
		return nil
	}
	if err := s.writeIndex(ix); err != nil {
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
