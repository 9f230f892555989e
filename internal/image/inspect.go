package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/store"
)

// Inspection is what `docker image inspect` tells, in its words.
type Inspection struct {
	ID           string          `json:"Id"`
	RepoTags     []string        `json:"RepoTags"`
	RepoDigests  []string        `json:"RepoDigests"`
	Comment      string          `json:"Comment"`
	Created      string          `json:"Created"`
	Author       string          `json:"Author"`
	Config       json.RawMessage `json:"Config"` // as in the image's config
	Architecture string          `json:"Architecture"`
	Variant      string          `json:"Variant,omitempty"`
	Os           string          `json:"Os"`
	OsVersion    string          `json:"OsVersion,omitempty"`
	Size         int64           `json:"Size"` // bytes of the regular files in all layers
	RootFS       RootFS          `json:"RootFS"`
	Metadata     Metadata        `json:"Metadata"`
	Descriptor   v1.Descriptor   `json:"Descriptor"` // of the manifest or index
	Platforms    []string        `json:"Platforms,omitempty"`
}

// RootFS lists the diff IDs of an image's layers, lowest first.
type RootFS struct {
	Type   string    `json:"Type"`
	Layers []v1.Hash `json:"Layers"`
}

// Metadata is what the store knows beside the image.
type Metadata struct {
	LastTagTime string `json:"LastTagTime"` // when the image was built, pulled or loaded; RFC 3339
}

// Inspect describes the image that ref means; of an index, the image for p (nil: this machine's).
func (l *Library) Inspect(ctx context.Context, ref string, p *v1.Platform) (*Inspection, error) {
	rows, err := l.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	c, err := l.load(rows[0].desc)
	if err != nil {
		return nil, err
	}
	img, err := imageFor(c, p)
	if err != nil {
		return nil, err
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	var parts struct {
		Config  json.RawMessage `json:"config"`
		Comment string          `json:"comment"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return nil, err
	}
	id, err := img.ConfigName()
	if err != nil {
		return nil, err
	}
	in := &Inspection{
		ID: id.String(), RepoTags: []string{}, RepoDigests: []string{}, Comment: parts.Comment,
		Created: cf.Created.UTC().Format(time.RFC3339Nano), Author: cf.Author, Config: parts.Config,
		Architecture: cf.Architecture, Variant: cf.Variant, Os: cf.OS, OsVersion: cf.OSVersion,
		RootFS:   RootFS{Type: "layers", Layers: cf.RootFS.DiffIDs},
		Metadata: Metadata{LastTagTime: rows[0].Built.UTC().Format(time.RFC3339Nano)},
	}
	if len(in.Config) == 0 {
		in.Config = json.RawMessage("{}")
	}
	if n := len(cf.History); in.Comment == "" && n > 0 {
		in.Comment = cf.History[n-1].Comment // as Docker does
	}
	if in.Size, err = l.UnpackedSize(ctx, img); err != nil {
		return nil, err
	}
	if in.Descriptor, err = describe(c); err != nil {
		return nil, err
	}
	if _, ok := c.(v1.ImageIndex); ok {
		in.Platforms = rows[0].Platforms
	}
	return in, l.addNames(ctx, in, rows[0])
}

// addNames fills in all names of the image, and the digests under which registries have it.
func (l *Library) addNames(ctx context.Context, in *Inspection, row Row) error {
	all, err := l.List(ctx)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.ID == row.ID && r.Name != "" {
			in.RepoTags = append(in.RepoTags, FamiliarName(r.Name))
		}
	}
	sort.Strings(in.RepoTags)
	var o origin
	if err := l.st.Get(recordOrigin, originKey(row.Digest), &o); err == nil {
		for _, d := range o.Digests {
			in.RepoDigests = append(in.RepoDigests, FamiliarName(d))
		}
	}
	sort.Strings(in.RepoDigests)
	return nil
}

// inRegistry is the digest that the image of a manifest in the store has in the repository of a full name, as far as that is known: it
// was pushed there, or pulled. It is another one than in the store where layers were compressed on their way.
func (l *Library) inRegistry(manifest v1.Hash, name string) (v1.Hash, bool) {
	n, err := parseName(name)
	var o origin
	if err != nil || l.st.Get(recordOrigin, originKey(manifest), &o) != nil {
		return v1.Hash{}, false
	}
	for _, full := range slices.Backward(o.Digests) {
		if repository, digest, _ := strings.Cut(full, "@"); repository == n.Name() {
			h, err := v1.NewHash(digest)
			return h, err == nil
		}
	}
	return v1.Hash{}, false
}

// origin is a record of where registries have the image of a manifest in the store.
type origin struct {
	Digests []string `json:"digests"` // "docker.io/library/x@sha256:…", without doubles; the last is the newest
}

const recordOrigin = store.KindOrigin

func originKey(manifest v1.Hash) store.Key {
	return sha256.Sum256([]byte("origin\n" + manifest.String()))
}

// noteOrigin remembers that the image of a manifest stands in a registry under name, with digest.
func (l *Library) noteOrigin(manifest v1.Hash, name string, digest v1.Hash) error {
	n, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return err
	}
	full := reference.TrimNamed(n).Name() + "@" + digest.String()
	var o origin
	l.st.Get(recordOrigin, originKey(manifest), &o) // none yet: an empty one
	if n := len(o.Digests); n > 0 && o.Digests[n-1] == full {
		return nil
	}
	o.Digests = append(slices.DeleteFunc(o.Digests, func(d string) bool { return d == full }), full)
	return l.st.Put(recordOrigin, originKey(manifest), o)
}
