package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func commitLayer(t *testing.T, s *Store, name, content string) string {
	t.Helper()
	dir, release, err := s.TempDir("layer")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	write(t, filepath.Join(dir, "fs", name), content)
	id := s.NewID()
	if err := s.CommitLayer(dir, id); err != nil {
		t.Fatal(err)
	}
	return id
}

func putAged(t *testing.T, s *Store, k Key, age time.Duration, v any) {
	t.Helper()
	if err := s.Put("k", k, v); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-age)
	if err := os.Chtimes(s.recordPath("k", k), old, old); err != nil {
		t.Fatal(err)
	}
}

type refs struct {
	Layers []string  `json:"layers,omitempty"`
	Blobs  []v1.Hash `json:"blobs,omitempty"`
}

func trim(t *testing.T, s *Store, keep int64) Freed {
	t.Helper()
	f, err := s.Trim(t.Context(), keep, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f.Skipped {
		t.Fatal("trim was skipped")
	}
	return f
}

func TestTrimLeastRecentlyUsed(t *testing.T) {
	s := open(t, t.TempDir())
	big := strings.Repeat("x", 100_000)
	oldest, shared, newest := commitLayer(t, s, "f", big), commitLayer(t, s, "f", big), commitLayer(t, s, "f", big)
	blob := putBlob(t, s, big)
	putAged(t, s, Key{1}, 3*time.Hour, refs{Layers: []string{oldest, shared}, Blobs: []v1.Hash{blob}})
	putAged(t, s, Key{2}, 2*time.Hour, refs{Layers: []string{shared, newest}})

	if f := trim(t, s, math.MaxInt64); f != (Freed{}) {
		t.Errorf("with room enough it freed %+v", f)
	}
	f := trim(t, s, 300_000)
	if s.HasLayer(oldest) || !s.HasLayer(shared) || !s.HasLayer(newest) {
		t.Errorf("layers left: oldest %v, shared %v, newest %v", s.HasLayer(oldest), s.HasLayer(shared), s.HasLayer(newest))
	}
	if _, _, err := s.Blob(blob); !errors.Is(err, ErrMiss) {
		t.Errorf("the blob of the oldest record: %v", err)
	}
	if f.Records != 1 || f.Layers != 1 || f.Blobs != 1 || f.Bytes < 200_000 {
		t.Errorf("freed %+v", f)
	}
	var v refs
	if err := s.Get("k", Key{1}, &v); !errors.Is(err, ErrMiss) {
		t.Errorf("the oldest record: %v", err)
	}
	trim(t, s, 0)
	if s.HasLayer(shared) || s.HasLayer(newest) {
		t.Error("with nothing to keep, layers are left")
	}
	if s.LastTrim().IsZero() {
		t.Error("LastTrim is zero")
	}
	tmpEmpty(t, s)
}

func tmpEmpty(t *testing.T, s *Store) {
	t.Helper()
	entries, err := os.ReadDir(s.path("tmp"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("tmp/%s is left", e.Name())
	}
}

func TestTrimKeepsTaggedImages(t *testing.T) {
	s := open(t, t.TempDir())
	image := func(text string) (v1.Descriptor, []v1.Hash) {
		config, layer := putBlob(t, s, "config "+text), putBlob(t, s, "layer "+text)
		m, err := json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
			Config: v1.Descriptor{Digest: config}, Layers: []v1.Descriptor{{Digest: layer}}})
		if err != nil {
			t.Fatal(err)
		}
		h := putBlob(t, s, string(m))
		return v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: h, Size: int64(len(m))}, []v1.Hash{config, layer, h}
	}
	one, oneBlobs := image("one")
	two, twoBlobs := image("two")
	unnamed, unnamedBlobs := image("three")
	b, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{two}})
	if err != nil {
		t.Fatal(err)
	}
	index := putBlob(t, s, string(b))
	for name, d := range map[string]v1.Descriptor{
		"docker.io/library/one:1": one, "": unnamed,
		"docker.io/library/two:1": {MediaType: types.OCIImageIndex, Digest: index, Size: int64(len(b))},
	} {
		if err := s.Tag(name, d); err != nil {
			t.Fatal(err)
		}
	}
	orphan := putBlob(t, s, "nobody needs this")
	has := func(hs ...v1.Hash) int {
		n := 0
		for _, h := range hs {
			if _, _, err := s.Blob(h); err == nil {
				n++
			}
		}
		return n
	}
	trim(t, s, math.MaxInt64)
	if has(orphan) != 0 || has(unnamedBlobs...) != 3 {
		t.Errorf("with room: orphans %d, unnamed %d", has(orphan), has(unnamedBlobs...))
	}
	f := trim(t, s, 0)
	if has(oneBlobs...) != 3 || has(twoBlobs...) != 3 || has(index) != 1 || has(unnamedBlobs...) != 0 || f.Images != 1 {
		t.Errorf("one %d two %d index %d unnamed %d, %+v", has(oneBlobs...), has(twoBlobs...), has(index), has(unnamedBlobs...), f)
	}
	if err := s.Untag("docker.io/library/two:1"); err != nil {
		t.Fatal(err)
	}
	trim(t, s, 0)
	if has(twoBlobs...) != 0 || has(index) != 0 || has(oneBlobs...) != 3 {
		t.Error("blobs of an image without a name stay, or others went")
	}
}

func TestTrimSweeps(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	for _, name := range []string{"crashed/deep/file", "crashed.lock", "stray"} {
		write(t, s.path("tmp", name), "rubbish")
	}
	orphan := commitLayer(t, s, "f", "x")
	mine, release, err := s.TempDir("mine")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	write(t, filepath.Join(mine, "f"), "x")
	var removed []string
	if _, err := s.Trim(t.Context(), math.MaxInt64, func(ctx context.Context, paths []string) error {
		removed = append(removed, paths...)
		return removeAll(ctx, paths)
	}); err != nil {
		t.Fatal(err)
	}
	if len(removed) != 4 {
		t.Errorf("removed %q", removed)
	}
	if _, err := os.Stat(filepath.Join(mine, "f")); err != nil {
		t.Errorf("a folder in use: %v", err)
	}
	if s.HasLayer(orphan) {
		t.Error("a layer without a record stays")
	}
	release()
	tmpEmpty(t, s)
}

func TestTrimSkipsWhileOthersRun(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	other := open(t, root)
	orphan := putBlob(t, s, "x")
	for range 2 {
		f, err := s.Trim(t.Context(), 0, nil)
		if err != nil || !f.Skipped {
			t.Fatalf("%+v %v", f, err)
		}
	}
	if _, _, err := s.Blob(orphan); err != nil {
		t.Error(err)
	}
	// Both still hold their lock.
	if f, err := other.Trim(t.Context(), 0, nil); err != nil || !f.Skipped {
		t.Errorf("the other: %+v %v", f, err)
	}
	other.Close()
	trim(t, s, 0)
	open(t, root) // the lock is shared again
}

func TestTrimCaches(t *testing.T) {
	s := open(t, t.TempDir())
	for i, name := range []string{"old", "new"} {
		write(t, s.path("cache", name, "f"), strings.Repeat("x", 100_000))
		used := time.Now().Add(time.Duration(i-2) * time.Hour)
		if err := os.Chtimes(s.path("cache", name), used, used); err != nil {
			t.Fatal(err)
		}
	}
	u, err := s.DiskUsage()
	if err != nil || u.CacheCount != 2 || u.Caches < 200_000 || u.Total() < u.Caches {
		t.Errorf("usage %+v %v", u, err)
	}
	if f := trim(t, s, 150_000); f.Caches != 1 {
		t.Errorf("freed %+v", f)
	}
	if _, err := os.Stat(s.path("cache", "new", "f")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.path("cache", "old")); err == nil {
		t.Error("the old cache stays")
	}
}

// TestTrimTellsWhatIsMissed: what nobody named before, and caches that hold no modules, leave no step that has to run again. Who collects
// names Go's caches anew for the rest (issue 19, point 7).
func TestTrimTellsWhatIsMissed(t *testing.T) {
	s := open(t, t.TempDir())
	commitLayer(t, s, "f", "orphan")
	for name, file := range map[string]string{"npm": "f", "modules": "data/cache/download/example.com/@v/v1.0.0.zip"} {
		write(t, s.path("cache", name, file), "x")
	}
	if f := trim(t, s, math.MaxInt64); f.Layers != 1 || f.Orphans != 1 || f.Caches != 0 || f.Modules != 0 {
		t.Errorf("with room: freed %+v", f)
	}
	if err := s.Put("k", Key{1}, refs{Layers: []string{commitLayer(t, s, "f", "result")}}); err != nil {
		t.Fatal(err)
	}
	if f := trim(t, s, 0); f.Layers != 1 || f.Orphans != 0 || f.Caches != 2 || f.Modules != 1 {
		t.Errorf("without: freed %+v", f)
	}
}

func TestTrimDropsMisses(t *testing.T) {
	s := open(t, t.TempDir())
	layer := commitLayer(t, s, "f", "x")
	if err := s.Put("k", Key{1}, refs{Layers: []string{layer}}); err != nil {
		t.Fatal(err)
	}
	write(t, s.recordPath("k", Key{2}), "broken")
	if f := trim(t, s, math.MaxInt64); f.Records != 1 {
		t.Errorf("freed %+v", f)
	}
	if !s.HasLayer(layer) {
		t.Error("the layer of a good record is gone")
	}
}

func TestDiskUsage(t *testing.T) {
	s := open(t, t.TempDir())
	id := commitLayer(t, s, "f", strings.Repeat("x", 50_000))
	putBlob(t, s, strings.Repeat("y", 40_000))
	if err := s.Put("k", Key{}, 1); err != nil {
		t.Fatal(err)
	}
	u, err := s.DiskUsage()
	if err != nil {
		t.Fatal(err)
	}
	if u.LayerCount != 1 || u.BlobCount != 1 || u.RecordCount != 1 || u.Layers < 50_000 || u.Blobs < 40_000 || u.Records <= 0 {
		t.Errorf("usage %+v", u)
	}
	if err := s.NoteSize(id, 123); err != nil {
		t.Fatal(err)
	}
	if u, err := s.DiskUsage(); err != nil || u.Layers != 123 {
		t.Errorf("usage after NoteSize %+v %v", u, err)
	}
}

func TestCommitLayerRace(t *testing.T) {
	s := open(t, t.TempDir())
	id := commitLayer(t, s, "f", "first")
	dir, release, err := s.TempDir("layer")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "fs", "f"), "second")
	if err := s.CommitLayer(dir, id); err != nil {
		t.Errorf("losing the race: %v", err)
	}
	release()
	if b, _ := os.ReadFile(filepath.Join(s.LayerDir(id), "fs", "f")); string(b) != "first" {
		t.Errorf("the layer holds %q", b)
	}
	tmpEmpty(t, s)
	for _, bad := range []string{"", "..", "a/b", "."} {
		if err := s.CommitLayer(dir, bad); err == nil || s.HasLayer(bad) {
			t.Errorf("CommitLayer(%q): %v", bad, err)
		}
	}
}

func TestTags(t *testing.T) {
	s := open(t, t.TempDir())
	one, two := putBlob(t, s, "1"), putBlob(t, s, "2")
	steps := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	d := descriptor(one)
	d.Annotations = map[string]string{"built": "today"}
	steps(s.Tag("docker.io/library/b:1", descriptor(two)), s.Tag("docker.io/library/a:1", d),
		s.Tag("docker.io/library/a:2", d), s.Tag("docker.io/library/b:1", descriptor(one)), s.Tag("", descriptor(two)),
		s.Tag("", descriptor(one)))
	if got, want := listTags(t, s), fmt.Sprintf("=%[2]s docker.io/library/a:1=%[1]s docker.io/library/a:2=%[1]s docker.io/library/b:1=%[1]s", one, two); got != want {
		t.Errorf("tags\n%s, want\n%s", got, want)
	}
	if d, err := s.Tagged("docker.io/library/a:1"); err != nil || d.Annotations["built"] != "today" {
		t.Errorf("%v %v", d, err)
	}
	if _, err := s.Tagged(""); !errors.Is(err, ErrMiss) {
		t.Errorf("Tagged of no name: %v", err)
	}
	steps(s.Untag("docker.io/library/a:2"), s.Tag("docker.io/library/c:1", descriptor(two)))
	if err := s.Untag("docker.io/library/a:2"); !errors.Is(err, ErrMiss) {
		t.Errorf("Untag again: %v", err)
	}
	steps(s.Forget(one))
	if got, want := listTags(t, s), "docker.io/library/c:1="+two.String(); got != want {
		t.Errorf("tags\n%s, want\n%s", got, want)
	}
	if err := s.Forget(one); !errors.Is(err, ErrMiss) {
		t.Errorf("Forget again: %v", err)
	}
}

func listTags(t *testing.T, s *Store) string {
	t.Helper()
	ds, err := s.Tags()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range ds {
		out = append(out, NameOf(d)+"="+d.Digest.String())
	}
	return strings.Join(out, " ")
}

func TestBrokenIndexHeals(t *testing.T) {
	s := open(t, t.TempDir())
	write(t, s.path("oci", "index.json"), `{"manifests":[`)
	if ds, err := s.Tags(); err != nil || len(ds) != 0 {
		t.Errorf("%v %v", ds, err)
	}
	if err := s.Tag("docker.io/library/a:1", descriptor(putBlob(t, s, "1"))); err != nil {
		t.Error(err)
	}
	if ds, err := s.Tags(); err != nil || len(ds) != 1 {
		t.Errorf("%v %v", ds, err)
	}
}

// A build cache of Go loses what was used longest ago, and only as much as has to go. Other caches go as a whole.
func TestTrimAgesGoCaches(t *testing.T) {
	s := open(t, t.TempDir())
	data := s.path("cache", "go", "data")
	for b := range 256 {
		write(t, filepath.Join(data, fmt.Sprintf("%02x", b), "README"), "")
	}
	big := strings.Repeat("x", 1<<20)
	file := func(i int) string { return filepath.Join(data, fmt.Sprintf("%02x", i), "entry-d") }
	for i := range 10 {
		write(t, file(i), big)
		used := time.Now().Add(-time.Duration(10-i) * 24 * time.Hour)
		if err := os.Chtimes(file(i), used, used); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put("k", Key{1}, "recent"); err != nil {
		t.Fatal(err)
	}
	write(t, s.path("cache", "other", "data", "f"), big)
	ages := time.Now().Add(-30 * 24 * time.Hour)
	if err := os.Chtimes(s.path("cache", "other"), ages, ages); err != nil {
		t.Fatal(err)
	}
	f := trim(t, s, 6<<20) // the folders take 1 MB
	if f.Caches != 1 || f.Bytes < 6<<20 {
		t.Errorf("freed %+v", f)
	}
	for i := range 10 {
		_, err := os.Stat(file(i))
		if there := err == nil; there != (i >= 6) {
			t.Errorf("entry %d, %d days old, is there: %v", i, 10-i, there)
		}
	}
	var v string
	if err := s.Get("k", Key{1}, &v); err != nil {
		t.Errorf("a record that was used since is gone: %v", err)
	}
	if n := s.RoughSize(); n < 4<<20 || n > 7<<20 {
		t.Errorf("it takes %d bytes now", n)
	}
	trim(t, s, 0)
	if _, err := os.Stat(data); err == nil {
		t.Error("prune leaves the cache")
	}
}
