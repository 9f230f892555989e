package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The names of images cannot be made again, so they are kept twice: in oci/index.json, which other tools read and may write, and in
// ROOT/names, the same bytes behind a checksum. Manifests and configs of images that have a name are kept twice as well, the second
// time in records: with those and the layers an image is whole.
//
// An index.json that differs from the copy was written by another tool, or an older skiff, if it parses and has another length, or
// differs in as many bytes as a digest has. Else it is damaged; it is moved aside, and the copy takes its place.

const (
	namesMagic   = "skiff-names 1 "
	damagedIndex = "index.json.damaged"

	// maxSpare bounds in bytes what is kept twice. Registries accept manifests of up to 4 MiB.
	maxSpare = 4 << 20
)

func namesLine(index []byte) []byte {
	return fmt.Appendf(nil, "%s%x\n", namesMagic, sha256.Sum256(index))
}

// namesCopy returns what index.json was when it was written last, nil where nobody knows.
func (s *Store) namesCopy() []byte {
	b, err := os.ReadFile(s.path("names"))
	if err != nil {
		return nil
	}
	n := min(len(b), len(namesMagic)+2*sha256.Size+1)
	if !bytes.Equal(b[:n], namesLine(b[n:])) {
		return nil
	}
	return b[n:]
}

// readIndex returns the list of images.
func (s *Store) readIndex() (*v1.IndexManifest, error) {
	ix, err := s.soundIndex()
	if ix != nil || err != nil {
		return ix, err
	}
	unlock, err := s.Lock(context.Background(), "index.json")
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s.mendIndex()
}

// soundIndex returns the list of images if nothing is wrong with it, else nil.
func (s *Store) soundIndex() (*v1.IndexManifest, error) {
	b, err := os.ReadFile(s.path("oci", "index.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the list of images: %w", err)
	}
	ix, perr := parseIndex(b)
	kept := s.namesCopy()
	if perr != nil || err != nil || kept != nil && damaged(b, kept) {
		return nil, nil
	}
	return ix, nil
}

// fewBytes is less than any writer changes who gives a name to another image: of a digest's 64 digits about 60 differ.
const fewBytes = 32

// damaged reports whether b is what was kept, but for a few bytes.
func damaged(b, kept []byte) bool {
	if len(b) != len(kept) {
		return false
	}
	n := 0
	for i := range b {
		if b[i] != kept[i] {
			n++
		}
	}
	return n > 0 && n < fewBytes
}

func parseIndex(b []byte) (*v1.IndexManifest, error) {
	var ix v1.IndexManifest
	if err := json.Unmarshal(b, &ix); err != nil {
		return nil, err
	}
	ix.SchemaVersion, ix.MediaType = 2, types.OCIImageIndex
	if ix.Manifests == nil {
		ix.Manifests = []v1.Descriptor{}
	}
	return &ix, nil
}

// mendIndex returns the list of images, after it was made sound. The caller holds the lock of index.json.
func (s *Store) mendIndex() (*v1.IndexManifest, error) {
	ix, err := s.soundIndex() // it may have been written meanwhile
	if ix != nil || err != nil {
		return ix, err
	}
	path := s.path("oci", "index.json")
	i, err := os.Lstat(path)
	there := err == nil && i.Size() > 0
	if there {
		if err := rename(path, s.path("oci", damagedIndex)); err != nil {
			return nil, fmt.Errorf("move the damaged list of images aside: %w", err)
		}
	}
	if kept := s.namesCopy(); kept != nil {
		ix, err = parseIndex(kept)
	}
	if ix == nil || err != nil {
		ix = s.imagesHere()
	}
	switch {
	case there && len(ix.Manifests) > 0:
		s.warnf("%s was damaged: it lies beside it as %s now, and the list was made again, with %d entries", path, damagedIndex, len(ix.Manifests))
	case there:
		s.warnf("%s was damaged, and no image is left: it lies beside it as %s now", path, damagedIndex)
	case len(ix.Manifests) > 0:
		s.warnf("%s was gone: the list was made again, with %d entries", path, len(ix.Manifests))
	}
	return ix, s.writeIndex(ix)
}

// imagesHere lists the images whose manifests are among the blobs, as ones without a name: the names are lost with both lists.
func (s *Store) imagesHere() *v1.IndexManifest {
	ix, _ := parseIndex([]byte("{}"))
	inner := map[string]bool{}
	_ = eachEntry(s.path("oci", "blobs", "sha256"), func(e fs.DirEntry) {
		i, err := e.Info()
		if err != nil || i.Size() > maxSpare {
			return
		}
		h := v1.Hash{Algorithm: "sha256", Hex: e.Name()}
		raw, err := s.readSmall(h)
		if err != nil {
			return
		}
		var m manifest
		if json.Unmarshal(raw, &m) != nil || !(m.MediaType.IsImage() || m.MediaType.IsIndex()) {
			return
		}
		for _, c := range m.Manifests {
			inner[c.Digest.String()] = true
		}
		ix.Manifests = append(ix.Manifests, v1.Descriptor{MediaType: m.MediaType, Digest: h, Size: int64(len(raw))})
	})
	ix.Manifests = without(ix.Manifests, func(d v1.Descriptor) bool { return inner[d.Digest.String()] })
	return ix
}

// manifest is what is read of a manifest or an index.
type manifest struct {
	MediaType types.MediaType
	Config    *v1.Descriptor
	Layers    []v1.Descriptor
	Manifests []v1.Descriptor
}

// writeIndex writes the list of images and its copy. Both are on the disk before they take the place of what was there: an empty file
// after a power cut would be the end of all names.
func (s *Store) writeIndex(ix *v1.IndexManifest) error {
	b, err := json.MarshalIndent(ix, "", "  ")
	if err != nil {
		return err
	}
	if err := s.writeSynced(s.path("oci", "index.json"), b); err != nil {
		return err
	}
	return s.writeSynced(s.path("names"), append(namesLine(b), b...))
}

// keepSpare keeps the manifests and configs that an image or index needs a second time.
func (s *Store) keepSpare(d v1.Descriptor) error {
	for _, h := range s.smallBlobs(d) {
		if _, err := os.Lstat(s.recordPath(kindSpare, blobKey(h))); err == nil {
			continue
		}
		raw, err := s.readSmall(h)
		if err != nil {
			continue // of another platform than was pulled
		}
		if err := s.PutData(kindSpare, blobKey(h), struct{}{}, raw); err != nil {
			return err
		}
	}
	return nil
}

func blobKey(h v1.Hash) (k Key) {
	hex.Decode(k[:], []byte(h.Hex)) // it is a digest
	return k
}

// restore writes a blob again of which there is a second copy, and reports whether it did.
func (s *Store) restore(h v1.Hash) bool {
	raw, err := s.GetData(kindSpare, blobKey(h))
	if err != nil {
		return false
	}
	_, _, err = s.writeBlob(context.Background(), bytes.NewReader(raw), h, int64(len(raw)))
	return err == nil
}

// readSmall returns the content of a blob of at most maxSpare bytes, which is verified.
func (s *Store) readSmall(h v1.Hash) ([]byte, error) {
	for again := true; ; again = false {
		path, size, err := s.plainBlob(h)
		if err != nil {
			return nil, err
		}
		if size > maxSpare {
			return nil, fmt.Errorf("blob %s has %d bytes", h, size)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("blob %s: %w", h, err)
		}
		sum := sha256.Sum256(b)
		got := hex.EncodeToString(sum[:])
		if got == h.Hex {
			return b, nil
		}
		if err := removeDamaged(path, h, got, int64(len(b))); !again {
			return nil, err
		}
	}
}

// smallBlobs lists the manifests, indexes and configs that an image or index needs, its own manifest first.
func (s *Store) smallBlobs(d v1.Descriptor) []v1.Hash {
	var list []v1.Hash
	s.visit(d, func(h v1.Hash, small bool) {
		if small {
			list = append(list, h)
		}
	})
	return list
}

// visit tells of all blobs that an image or index needs, its own included, each once.
func (s *Store) visit(d v1.Descriptor, tell func(h v1.Hash, small bool)) {
	seen := map[v1.Hash]bool{}
	once := func(h v1.Hash, small bool) bool {
		if seen[h] {
			return false
		}
		seen[h] = true
		tell(h, small)
		return true
	}
	var visit func(d v1.Descriptor, depth int)
	visit = func(d v1.Descriptor, depth int) {
		if depth > 4 || !once(d.Digest, d.MediaType.IsImage() || d.MediaType.IsIndex()) || !(d.MediaType.IsImage() || d.MediaType.IsIndex()) {
			return
		}
		raw, err := s.readSmall(d.Digest)
		var m manifest
		if err != nil || json.Unmarshal(raw, &m) != nil {
			return
		}
		if m.Config != nil {
			once(m.Config.Digest, true)
		}
		for _, l := range m.Layers {
			once(l.Digest, false)
		}
		for _, c := range m.Manifests {
			visit(c, depth+1)
		}
	}
	visit(d, 0)
}
