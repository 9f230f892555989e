package doctor

import (
	"archive/tar"
	"context"
	"encoding/json"
	"io"
	"slices"
	"sort"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/rootfs"
	"github.com/skiff-build/skiff/internal/store"
)

// Of a large tar in the store the notes are kept, so that an image with one that was seen before, or with a tar that is made of parts
// of one, is examined without its contents being read once more. Kept are those that say something; all other files of the
// tar have a note that says nothing. A file is known by where its content begins in the tar. Parts are cut between files, so what
// lies in one with its header is the file that it was.

// Notes keeps notes by the digest of a tar. Any error is a miss.
type Notes interface {
	Load(tar v1.Hash) ([]byte, error)
	Save(tar v1.Hash, notes []byte) error
	// Parts says what a tar is made of; of one that lies as a whole, an error.
	Parts(tar v1.Hash) ([]store.Part, error)
	// Open opens a tar, verified at its end.
	Open(tar v1.Hash) (io.ReadCloser, error)
}

// notedBytes is the least size of a tar of which notes are kept.
const notedBytes = 4 << 20

// keptNote is a note and where it belongs.
type keptNote struct {
	Offset  int64   `json:"offset"`
	Kind    kind    `json:"kind,omitempty"`
	ELF     elfHead `json:"elf,omitzero"`
	Shebang string  `json:"shebang,omitempty"`
	Secret  string  `json:"secret,omitempty"`
	CA      bool    `json:"ca,omitempty"`
	Text    []byte  `json:"text,omitempty"`
}

// kindNotes are the notes of most files, which tell a kind alone. They are made once.
var kindNotes = func() (list [kindPE + 1]any) {
	for k := range list {
		list[k] = note{kind: kind(k)}
	}
	return list
}()

// kindAlone returns the one note of all files of which nothing but their kind was found.
func (n note) kindAlone() (any, bool) {
	if int(n.kind) >= len(kindNotes) || n.elf != (elfHead{}) || n.shebang != "" || n.secret != "" || n.ca || n.text != nil {
		return nil, false
	}
	return kindNotes[n.kind], true
}

func (n note) saysNothing() bool {
	_, ok := n.kindAlone()
	return ok && n.kind == kindOther
}

// noted is what is known of the files of a layer.
type noted struct {
	parts []store.Part
	ends  []int64
	tars  map[v1.Hash]map[int64]keptNote // by offset
}

// noted returns what is known of a tar, nil if it has to be read.
func (e *examination) noted(ctx context.Context, tar v1.Hash) *noted {
	if e.o.Notes == nil {
		return nil
	}
	k := &noted{tars: map[v1.Hash]map[int64]keptNote{}}
	var err error
	whole := false
	if k.parts, err = e.o.Notes.Parts(tar); err != nil {
		k.parts, whole = []store.Part{{Blob: tar, Size: 1 << 62}}, true
	}
	size := int64(0)
	for _, p := range k.parts {
		size += p.Size
		k.ends = append(k.ends, size)
		if p.Blob == (v1.Hash{}) || k.tars[p.Blob] != nil {
			continue
		}
		list, ok := e.loadNotes(p.Blob)
		if !ok && !whole {
			list, err = e.survey(ctx, p.Blob)
			ok = err == nil
		}
		if !ok {
			return nil
		}
		k.tars[p.Blob] = list
	}
	return k
}

func (e *examination) loadNotes(tar v1.Hash) (map[int64]keptNote, bool) {
	data, err := e.o.Notes.Load(tar)
	var list []keptNote
	if err != nil || json.Unmarshal(data, &list) != nil {
		return nil, false
	}
	by := make(map[int64]keptNote, len(list))
	for _, n := range list {
		by[n.Offset] = n
	}
	return by, true
}

// survey reads a tar for its notes alone, and keeps them.
func (e *examination) survey(ctx context.Context, layer v1.Hash) (map[int64]keptNote, error) {
	r, err := e.o.Notes.Open(layer)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	list := map[int64]keptNote{}
	err = rootfs.EachEntry(ctx, r, func(f rootfs.Entry, content io.Reader) error {
		if f.Typeflag != tar.TypeReg {
			return nil
		}
		n, err := look(f.Header, content)
		noteIn(list, f, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, e.saveNotes(layer, list)
}

func noteIn(list map[int64]keptNote, f rootfs.Entry, n note) {
	if !n.saysNothing() && f.Size > 0 && !f.Sparse {
		list[f.Offset] = keptNote{f.Offset, n.kind, n.elf, n.shebang, n.secret, n.ca, n.text}
	}
}

func (e *examination) saveNotes(tar v1.Hash, by map[int64]keptNote) error {
	list := make([]keptNote, 0, len(by))
	for _, n := range by {
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b keptNote) int { return int(min(1, max(-1, a.Offset-b.Offset))) })
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return e.o.Notes.Save(tar, data)
}

// of returns the note of a file, if it is known.
func (k *noted) of(f rootfs.Entry) (note, bool) {
	if k == nil || f.Size == 0 || f.Sparse {
		return note{}, false
	}
	const header = 512 // bytes before the content
	i := sort.Search(len(k.ends), func(i int) bool { return k.ends[i] > f.Offset })
	if i == len(k.ends) {
		return note{}, false
	}
	p, start := k.parts[i], k.ends[i]-k.parts[i].Size
	if p.Blob == (v1.Hash{}) || f.Offset-header < start || f.Size > k.ends[i]-f.Offset {
		return note{}, false
	}
	n := k.tars[p.Blob][p.Offset+f.Offset-start]
	return note{kind: n.Kind, elf: n.ELF, shebang: n.Shebang, secret: n.Secret, ca: n.CA, text: n.Text}, true
}
