package doctor_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/skiff-build/skiff/internal/doctor"
	"github.com/skiff-build/skiff/internal/rootfs"
	"github.com/skiff-build/skiff/internal/skifftest"
	"github.com/skiff-build/skiff/internal/store"
)

// keptNotes keeps notes in memory, and counts what is read of tars.
type keptNotes struct {
	st   *store.Store
	by   map[v1.Hash][]byte
	read int64 // bytes
}

func (k *keptNotes) Load(tar v1.Hash) ([]byte, error) {
	if b, ok := k.by[tar]; ok {
		return b, nil
	}
	return nil, errors.New("none")
}

func (k *keptNotes) Save(tar v1.Hash, b []byte) error {
	k.by[tar] = b
	return nil
}

func (k *keptNotes) Parts(tar v1.Hash) ([]store.Part, error) { return k.st.Parts(tar) }

func (k *keptNotes) Open(tar v1.Hash) (io.ReadCloser, error) {
	r, err := k.st.OpenBlob(tar)
	return counting{r, k}, err
}

func (k *keptNotes) plain(tar v1.Hash) (rootfs.ReaderAtCloser, error) {
	r, err := k.st.OpenBlobAt(tar)
	return countingAt{r, k}, err
}

type counting struct {
	io.ReadCloser
	k *keptNotes
}

func (c counting) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.k.read += int64(n)
	return n, err
}

type countingAt struct {
	store.BlobAt
	k *keptNotes
}

func (c countingAt) ReadAt(p []byte, at int64) (int, error) {
	n, err := c.BlobAt.ReadAt(p, at)
	c.k.read += int64(n)
	return n, err
}

// tarLayer is an uncompressed layer in the store.
type tarLayer struct {
	k    *keptNotes
	h    v1.Hash
	size int64
}

func (l tarLayer) Digest() (v1.Hash, error)             { return l.h, nil }
func (l tarLayer) DiffID() (v1.Hash, error)             { return l.h, nil }
func (l tarLayer) Compressed() (io.ReadCloser, error)   { return l.k.Open(l.h) }
func (l tarLayer) Uncompressed() (io.ReadCloser, error) { return l.k.Open(l.h) }
func (l tarLayer) Size() (int64, error)                 { return l.size, nil }
func (l tarLayer) MediaType() (types.MediaType, error)  { return types.OCIUncompressedLayer, nil }

func tarOf(t *testing.T, entries []entry) []byte {
	return skifftest.ReadAll(t, skifftest.Layer(t, entries...).Uncompressed)
}

// TestNotes examines an image whose layer was just written or seen before, and one whose layer is made of parts of it: the reports
// are those of an examination that reads everything, and hardly anything is read.
func TestNotes(t *testing.T) {
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	k := &keptNotes{st: st, by: map[v1.Hash][]byte{}}
	token := "ghp_" + strings.Repeat("a1B2", 9)
	entries := []entry{
		{Name: "a/"}, {Name: "a/large", Body: strings.Repeat("nothing to see ", 400_000)}, {Name: "a/token", Body: token},
		{Name: "app", Mode: 0o755, Body: "#!/bin/none\n"}, {Name: "b/"}, {Name: "b/changes", Body: "harmless"},
		{Name: "b/empty"}, {Name: "etc/passwd", Body: "root:x:0:0::/root:/bin/none\n"}, {Name: "lib", Mode: 0o755, Body: "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 900)},
		{Name: "x/" + strings.Repeat("long", 60), Body: token + " in a file with a long name"}, {Name: "z", Body: "last"},
	}
	first := tarOf(t, entries)
	base, _, err := st.WriteBlob(t.Context(), bytes.NewReader(first), v1.Hash{}, -1)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(body string) v1.Hash {
		now := append([]entry{}, entries...)
		now[5].Body = body
		b := tarOf(t, now)
		front, back := 0, 0
		for front+512 <= min(len(first), len(b)) && bytes.Equal(first[front:front+512], b[front:front+512]) {
			front += 512
		}
		for back+512 <= min(len(first), len(b))-front && bytes.Equal(first[len(first)-back-512:len(first)-back], b[len(b)-back-512:len(b)-back]) {
			back += 512
		}
		c, err := st.Compose(t.Context())
		if err == nil {
			err = c.Keep(base, 0, int64(front))
		}
		if err == nil {
			_, err = c.Write(b[front : len(b)-back])
		}
		if err == nil {
			err = c.Keep(base, int64(len(first)-back), int64(back))
		}
		if err != nil {
			t.Fatal(err)
		}
		h, _, err := c.Commit()
		if err != nil || h.Hex != fmt.Sprintf("%x", sha256.Sum256(b)) {
			t.Fatal(h, err)
		}
		return h
	}
	examine := func(h v1.Hash, o doctor.Options) *doctor.Report {
		size, err := st.BlobSize(h)
		if err != nil {
			t.Fatal(err)
		}
		k.read = 0
		r, err := doctor.Examine(t.Context(), skifftest.Image(t, v1.Config{Entrypoint: []string{"/app"}}, tarLayer{k, h, size}), o)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	// A tar whose digest was just made is not read for it once more.
	want := examine(base, doctor.Options{Plain: k.plain})
	if got := examine(base, doctor.Options{Plain: k.plain, Verified: st.Made}); !reflect.DeepEqual(got, want) || k.read > int64(len(first)/2) {
		t.Errorf("just written: %d of %d bytes were read; got %+v, want %+v", k.read, len(first), got, want)
	}
	with := doctor.Options{Plain: k.plain, Notes: k}
	for _, c := range []struct {
		name string
		tar  v1.Hash
		all  bool // is read
	}{
		{"first", base, true},
		{"again", base, false},
		{"same size", changed("HARMLESS"), false},
		{"a secret", changed("my token is " + token), false},
		{"shorter", changed(""), false},
	} {
		want := examine(c.tar, doctor.Options{Plain: k.plain})
		got := examine(c.tar, with)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", c.name, got, want)
		}
		if all := k.read > int64(len(first)/2); all != c.all {
			t.Errorf("%s: %d of %d bytes were read", c.name, k.read, len(first))
		}
	}
	if n := len(k.by); n != 1 {
		t.Errorf("notes of %d tars are kept, want 1", n)
	}
	// Where the notes of what a tar is made of are gone, that is read once.
	clear(k.by)
	tar := changed("other")
	want = examine(tar, doctor.Options{Plain: k.plain})
	for i := range 2 {
		if got := examine(tar, with); !reflect.DeepEqual(got, want) || (k.read > int64(len(first)/2)) != (i == 0) {
			t.Errorf("without notes, %d: %d bytes read, %+v", i, k.read, got)
		}
	}
}
