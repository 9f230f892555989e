package rootfs_test

import (
	"archive/tar"
	"io"
	"path"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/skiff-build/skiff/internal/rootfs"
	"github.com/skiff-build/skiff/internal/skifftest"
)

// FuzzLayers: of any two layers comes an error, or a root filesystem whose files have clean names, are found by them, and hold as much
// as they say.
func FuzzLayers(f *testing.F) {
	for _, seed := range [][2][]entry{
		{{{Name: "bin/"}, {Name: "bin/app", Body: "program"}, {Name: "bin/also", Hard: "bin/app"}}, {{Name: "bin/.wh.app"}, {Name: "bin/.wh..wh..opq"}}},
		{{{Name: "lib", Link: "usr/lib"}, {Name: "lib/c.so", Body: "c"}}, {{Name: "usr/lib/c.so", Body: "d"}, {Name: "lib/"}}},
		{{{Name: "a", Link: "b"}, {Name: "b", Link: "a"}, {Name: "a/x", Body: "x"}}, {{Name: "b", Link: "/../.."}, {Name: "b/../y", Body: "y"}}},
		{{{Name: "x", Body: "x"}}, {{Name: "x/y", Body: "y"}, {Name: "./x/", Mode: 0o700}, {Name: ".", Link: "x"}}},
	} {
		f.Add(skifftest.ReadAll(f, skifftest.Layer(f, seed[0]...).Uncompressed), skifftest.ReadAll(f, skifftest.Layer(f, seed[1]...).Uncompressed))
	}
	f.Fuzz(func(t *testing.T, low, high []byte) {
		img := skifftest.Image(t, v1.Config{}, static.NewLayer(low, types.OCIUncompressedLayer), static.NewLayer(high, types.OCIUncompressedLayer))
		fs, err := rootfs.Open(t.Context(), img, rootfs.Options{Look: look})
		if err != nil {
			return
		}
		var regular []rootfs.File
		bytes := int64(0)
		err = fs.Walk(func(file rootfs.File) error {
			if !path.IsAbs(file.Path) || path.Clean(file.Path) != file.Path {
				t.Errorf("%q is no clean name", file.Path)
			}
			found, err := fs.FindLink(file.Path)
			if err != nil || !found.Same(file) || found.Path != file.Path {
				t.Errorf("%q is not found by its name: %q, %v", file.Path, found.Path, err)
			}
			if file.IsRegular() {
				regular = append(regular, file)
				bytes += file.Header.Size
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if bytes > 1<<20 {
			return // holes, which would take long to read
		}
		read := 0
		err = fs.Contents(t.Context(), regular, func(file rootfs.File, c rootfs.Content) error {
			read++
			n, err := io.Copy(io.Discard, io.NewSectionReader(c, 0, c.Size))
			if n != file.Header.Size || c.Size != n {
				t.Errorf("%q has %d bytes, and %d were read", file.Path, file.Header.Size, n)
			}
			return err
		})
		if err != nil || read != len(regular) {
			t.Errorf("%d of %d files were read: %v", read, len(regular), err)
		}
		err = rootfs.Flatten(t.Context(), img, func(h *tar.Header, content io.Reader) error {
			if path.IsAbs(h.Name) || path.Clean(h.Name) != h.Name || h.Name == ".." || strings.HasPrefix(h.Name, "../") {
				t.Errorf("%q is no name within the root", h.Name)
			}
			_, err := io.Copy(io.Discard, content)
			return err
		})
		if err != nil {
			t.Errorf("flatten: %v", err)
		}
	})
}
