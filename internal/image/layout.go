package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// WriteLayout writes images into the folder dir as an OCI layout. What is there already stays, but for the
// entries of the same names. The index is replaced last, by a rename.
func WriteLayout(ctx context.Context, dir string, images []Named, epoch time.Time) error {
	if epoch.IsZero() {
		epoch = time.Unix(0, 0)
	}
	if err := writeLayout(ctx, dir, images, epoch); err != nil {
		return fmt.Errorf("write OCI layout: %s: %w", dir, err)
	}
	return nil
}

func writeLayout(ctx context.Context, dir string, images []Named, epoch time.Time) error {
	a, err := collect(images, epoch)
	if err != nil {
		return err
	}
	there, err := readLayoutIndex(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o777); err != nil {
		return err
	}
	var names []string
	for name := range a.blobs {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := writeLayoutFile(filepath.Join(dir, filepath.FromSlash(name)), a.blobs[name]); err != nil {
			return err
		}
	}
	if err := writeLayoutFile(filepath.Join(dir, "oci-layout"), inMemory([]byte(`{"imageLayoutVersion":"1.0.0"}`))); err != nil {
		return err
	}
	a.index.Manifests = append(withoutSameNames(there, a.index.Manifests), a.index.Manifests...)
	b, err := json.MarshalIndent(a.index, "", "  ")
	if err != nil {
		return err
	}
	return writeTo(filepath.Join(dir, "index.json"), nil, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// readLayoutIndex returns the entries of the layout in dir, none where dir is empty or not there. A folder
// with other things is an error.
func readLayoutIndex(dir string) ([]v1.Descriptor, error) {
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(dir)
		if err == nil && len(entries) > 0 {
			return nil, errors.New("the folder is neither empty nor an OCI layout")
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := parseIndex(b)
	if err != nil {
		return nil, err
	}
	return m.Manifests, nil
}

func withoutSameNames(old, add []v1.Descriptor) []v1.Descriptor {
	var kept []v1.Descriptor
	for _, o := range old {
		replaced := false
		for _, n := range add {
			name := n.Annotations[annotationImageName]
			replaced = replaced || name == o.Annotations[annotationImageName] && (name != "" || o.Digest == n.Digest)
		}
		if !replaced {
			kept = append(kept, o)
		}
	}
	return kept
}

func writeLayoutFile(path string, b archived) error {
	if i, err := os.Stat(path); err == nil && i.Mode().IsRegular() && i.Size() == b.size {
		return nil
	}
	return writeTo(path, nil, b.writeTo)
}
