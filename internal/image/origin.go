package image

import (
	"crypto/sha256"
	"slices"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/store"
)

// blobOrigin is a record of the repositories that have a blob, as far as we know: it was fetched from there, or sent there. A
// registry takes a blob from one of its repositories into another without being sent it.
type blobOrigin struct {
	Repos []string `json:"repos"` // "docker.io/library/alpine"; the last one first
}

const (
	recordBlobOrigin = store.KindBlobOrigin
	maxOrigins       = 8 // that are kept of a blob
	maxMountFrom     = 4 // repositories that one push asks to read from
)

func blobOriginKey(digest string) store.Key { return sha256.Sum256([]byte("blob origin\n" + digest)) }

// noteBlobOrigin remembers that the repository of n has a blob.
func (l *Library) noteBlobOrigin(digest string, n reference.Named) error {
	var o blobOrigin
	key, repo := blobOriginKey(digest), reference.TrimNamed(n).Name()
	l.st.Get(recordBlobOrigin, key, &o) // none yet: an empty one
	if slices.Contains(o.Repos, repo) {
		return nil
	}
	o.Repos = append([]string{repo}, o.Repos...)
	o.Repos = o.Repos[:min(len(o.Repos), maxOrigins)]
	return l.st.Put(recordBlobOrigin, key, o)
}

// findOrigins looks up from which repositories of the registry the blobs of a push can come. from is the manifest as it lies
// in the store.
func (p *push) findOrigins(images []v1.Image, from v1.Hash) {
	p.origins = map[v1.Hash]string{}
	var used []string
	use := func(h v1.Hash, repos []string) {
		for _, full := range repos {
			repo, err := name.NewRepository(full, p.r.nameOptions(p.target.repo.RegistryStr(), false)...)
			if err != nil || repo.Registry != p.target.repo.Registry || repo == p.target.repo {
				continue
			}
			path := repo.RepositoryStr()
			if !slices.Contains(used, path) {
				if len(used) == maxMountFrom {
					continue
				}
				used = append(used, path)
			}
			p.origins[h] = path
			return
		}
	}
	// Images that were pulled or pushed before blobs were noted one by one.
	var o origin
	var whole []string
	if p.r.o.Store.Get(recordOrigin, originKey(from), &o) == nil {
		for _, d := range o.Digests {
			if n, err := reference.ParseNormalizedNamed(d); err == nil {
				whole = append(whole, n.Name())
			}
		}
	}
	for _, img := range images {
		layers, err := img.Layers()
		if err != nil {
			return
		}
		config, err := configLayer(img)
		if err != nil {
			return
		}
		for _, layer := range append(layers, config) {
			if h, ok := p.leavesAs(layer); ok {
				var b blobOrigin
				p.r.o.Store.Get(recordBlobOrigin, blobOriginKey(h.String()), &b) // none: an empty one
				use(h, append(b.Repos, whole...))
			}
		}
	}
}

// leavesAs returns the digest that a layer has in the format of the push, where that is known.
func (p *push) leavesAs(layer v1.Layer) (v1.Hash, bool) {
	mt, err := layer.MediaType()
	if err != nil {
		return v1.Hash{}, false
	}
	if mt.IsConfig() || p.format.passes(mt) {
		h, err := layer.Digest()
		return h, err == nil
	}
	diffID, err := layer.DiffID()
	if err != nil {
		return v1.Hash{}, false
	}
	c, ok := p.r.lib.compressedAs(compressedKey(diffID, p.format))
	return c.Digest, ok
}
