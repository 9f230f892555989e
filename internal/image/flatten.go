package image

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/rootfs"
)

// WriteTar writes the root filesystem of an image to w as a tar. Of an index, it has the image of each platform
// in a folder "linux_amd64".
func WriteTar(ctx context.Context, w io.Writer, c Content) error {
	tw := tar.NewWriter(w)
	err := eachRoot(c, func(prefix string, img v1.Image) error {
		if prefix != "" {
			if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: prefix + "/", Mode: 0o755}); err != nil {
				return err
			}
		}
		return rootfs.Flatten(ctx, img, func(h *tar.Header, content io.Reader) error {
			return writeTarEntry(tw, prefix, h, content)
		})
	})
	if err != nil {
		return fmt.Errorf("write tar: %w", err)
	}
	return tw.Close()
}

func writeTarEntry(tw *tar.Writer, prefix string, h *tar.Header, content io.Reader) error {
	out := *h
	out.Format = tar.FormatUnknown // the least that holds it
	out.PAXRecords = nil
	for k, v := range h.PAXRecords { // the others are about how the member was stored
		if strings.HasPrefix(k, "SCHILY.xattr.") {
			if out.PAXRecords == nil {
				out.PAXRecords = map[string]string{}
			}
			out.PAXRecords[k] = v
		}
	}
	out.Name = path.Join(prefix, h.Name)
	if h.Typeflag == tar.TypeDir {
		out.Name += "/"
	}
	if h.Typeflag == tar.TypeLink {
		out.Linkname = path.Join(prefix, h.Linkname)
	}
	if err := tw.WriteHeader(&out); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	if _, err := io.Copy(tw, content); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	return nil
}

// eachRoot calls fn for an image with the prefix "", and for those of an index with their platforms.
func eachRoot(c Content, fn func(prefix string, img v1.Image) error) error {
	ix, ok := c.(v1.ImageIndex)
	if !ok {
		img, err := imageFor(c, nil)
		if err != nil {
			return err
		}
		return fn("", img)
	}
	children, err := childrenOf(ix)
	if err != nil {
		return err
	}
	for _, child := range children {
		img, ok := child.Content.(v1.Image)
		if !ok || !isRunnable(child.desc) {
			continue
		}
		cf, err := img.ConfigFile()
		if err != nil {
			return err
		}
		p := cf.Platform()
		prefix := strings.Trim(strings.Join([]string{p.OS, p.Architecture, p.Variant}, "_"), "_")
		if err := fn(strings.ReplaceAll(prefix, "/", "_"), img); err != nil {
			return err
		}
	}
	return nil
}
