package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// putImage stores an image of one layer and returns its descriptor, and its blobs: config, layer, manifest.
func putImage(t *testing.T, s *Store, text string) (v1.Descriptor, []v1.Hash) {
	t.Helper()
	config, layer := putBlob(t, s, "config "+text), putBlob(t, s, "layer "+text)
	m, err := json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config: v1.Descriptor{Digest: config}, Layers: []v1.Descriptor{{Digest: layer}}})
	if err != nil {
		t.Fatal(err)
	}
	h := putBlob(t, s, string(m))
	return v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: h, Size: int64(len(m))}, []v1.Hash{config, layer, h}
}

// Whatever happens to one of the two lists of images, no name is lost and none means another image.
func TestNamesSurviveDamage(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	want := map[string]v1.Hash{}
	for _, name := range []string{"docker.io/library/a:1", "docker.io/library/b:1"} {
		d, _ := putImage(t, s, name)
		if err := s.Tag(name, d); err != nil {
			t.Fatal(err)
		}
		want[name] = d.Digest
	}
	check := func(what string) {
		t.Helper()
		s, err := OpenWith(root, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		got, err := s.Tags()
		if err != nil || len(got) != len(want) {
			t.Fatalf("%s: %d images, %v", what, len(got), err)
		}
		for name, h := range want {
			if d, err := s.Tagged(name); err != nil || d.Digest != h {
				t.Fatalf("%s: %s means %v, %v", what, name, d.Digest, err)
			}
		}
	}
	for _, file := range []string{"oci/index.json", "names"} {
		path := filepath.Join(root, file)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(good); i += 3 {
			b := []byte(string(good))
			b[i] ^= 1 << (i % 8)
			write(t, path, string(b))
			check(file + " with a bit flipped")
			write(t, path, string(good))
		}
		for i := 0; i < len(good); i += 50 {
			write(t, path, string(good[:i]))
			check(file + " cut off")
			write(t, path, string(good))
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		check(file + " gone")
		write(t, path, string(good))
	}
	if err := os.RemoveAll(filepath.Join(root, "oci")); err != nil {
		t.Fatal(err)
	}
	check("the folder oci gone")
}

func TestDamagedIndexIsTold(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	d, _ := putImage(t, s, "x")
	if err := s.Tag("docker.io/library/x:1", d); err != nil {
		t.Fatal(err)
	}
	reopen := func() (warned string, names []string) {
		t.Helper()
		s, err := OpenWith(root, func(text string) { warned += text })
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		ds, err := s.Tags()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			names = append(names, NameOf(d))
		}
		return warned, names
	}
	if warned, _ := reopen(); warned != "" {
		t.Errorf("nothing is damaged: %s", warned)
	}
	index := filepath.Join(root, "oci", "index.json")
	write(t, index, "{broken")
	warned, names := reopen()
	if !strings.Contains(warned, "was damaged") || len(names) != 1 || names[0] != "docker.io/library/x:1" {
		t.Errorf("%q, %q", warned, names)
	}
	if b, err := os.ReadFile(filepath.Join(root, "oci", damagedIndex)); err != nil || string(b) != "{broken" {
		t.Errorf("what was damaged lies aside as %q, %v", b, err)
	}

	// What another tool wrote counts.
	other, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{d}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, index, string(other))
	if warned, names := reopen(); warned != "" || len(names) != 1 || names[0] != "" {
		t.Errorf("after another tool: %q, %q", warned, names)
	}

	// So does what an older skiff wrote, which keeps no copy: the same names for other images.
	kept, err := os.ReadFile(filepath.Join(root, "names"))
	if err != nil {
		t.Fatal(err)
	}
	_, kept, _ = bytes.Cut(kept, []byte{'\n'})
	y, _ := putImage(t, s, "y")
	write(t, index, strings.ReplaceAll(string(kept), d.Digest.Hex, y.Digest.Hex))
	if warned, _ := reopen(); warned != "" {
		t.Errorf("after an older skiff: %q", warned)
	}
	if got, err := s.Tagged("docker.io/library/x:1"); err != nil || got.Digest != y.Digest {
		t.Errorf("after an older skiff: %v, %v", got.Digest, err)
	}
	d = y

	// With both lists gone the images are found by their manifests.
	for _, f := range []string{index, filepath.Join(root, "names")} {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	warned, names = reopen()
	if !strings.Contains(warned, "was gone") || len(names) != 2 || names[0] != "" {
		t.Errorf("without both: %q, %q", warned, names)
	}
	trim(t, s, 1<<40)
	if _, err := s.BlobSize(d.Digest); err != nil {
		t.Errorf("its manifest is gone: %v", err)
	}
}

// Manifests and configs are kept twice. A damaged one is mended when it is opened, and a trim does not take it for one that needs
// no layers.
func TestSmallBlobsAreMended(t *testing.T) {
	s := open(t, t.TempDir())
	d, blobs := putImage(t, s, "x")
	if err := s.Tag("docker.io/library/x:1", d); err != nil {
		t.Fatal(err)
	}
	config, layer, manifest := blobs[0], blobs[1], blobs[2]
	for _, h := range []v1.Hash{config, manifest} {
		path, _ := s.blobPath(h)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"", string(good[:3]), "X" + string(good[1:])} {
			write(t, path, bad)
			trim(t, s, 0)
			if got := readBlob(t, s, h); got != string(good) {
				t.Errorf("%q instead of %q", got, good)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		trim(t, s, 0)
		if got := readBlob(t, s, h); got != string(good) {
			t.Errorf("gone: %q instead of %q", got, good)
		}
	}
	if got := readBlob(t, s, layer); got != "layer x" {
		t.Errorf("the layer is %q", got)
	}
	// A second copy that is damaged is none.
	write(t, s.recordPath(kindSpare, blobKey(config)), "damaged")
	path, _ := s.blobPath(config)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenBlob(config); !errors.Is(err, ErrMiss) {
		t.Errorf("both are gone: %v", err)
	}
	if err := s.Untag("docker.io/library/x:1"); err != nil {
		t.Fatal(err)
	}
	trim(t, s, 0)
	if u, err := s.DiskUsage(); err != nil || u.BlobCount != 0 || u.RecordCount != 0 {
		t.Errorf("after the last name: %+v, %v", u, err)
	}
}

// An unchanged build names its image once more: that writes nothing, and the time of the build stays.
func TestTagAgainWritesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	d, _ := putImage(t, s, "x")
	d.Annotations = map[string]string{"built": "then"}
	if err := s.Tag("docker.io/library/x:1", d); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(s.path("oci", "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	d.Annotations = map[string]string{"built": "now"}
	if err := s.Tag("docker.io/library/x:1", d); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(s.path("oci", "index.json"))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written again: %v", err)
	}
	if got, err := s.Tagged("docker.io/library/x:1"); err != nil || got.Annotations["built"] != "then" {
		t.Errorf("%v, %v", got.Annotations, err)
	}
}

func TestDamagedVersionIsMended(t *testing.T) {
	root := t.TempDir()
	open(t, root).Close()
	path := filepath.Join(root, "version")
	i, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range 2 {
		for bit := range 8 {
			b := []byte("1\n")
			b[at] ^= 1 << bit
			write(t, path, string(b))
			if err := os.Chtimes(path, time.Time{}, i.ModTime()); err != nil {
				t.Fatal(err)
			}
			s, err := Open(root)
			if err != nil {
				t.Fatalf("%q: %v", b, err)
			}
			s.Close()
			if b, err := os.ReadFile(path); err != nil || string(b) != "1\n" {
				t.Errorf("it says %q, %v", b, err)
			}
			if i, err = os.Stat(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A newer skiff was here, and wrote it.
	write(t, path, "2\n")
	var ve *VersionError
	if _, err := Open(root); !errors.As(err, &ve) {
		t.Errorf("a newer version: %v", err)
	}
}

func TestStateOfAnotherUser(t *testing.T) {
	root := t.TempDir()
	if err := checkOwner(root, os.Geteuid()+1); err != nil {
		t.Errorf("an empty folder: %v", err)
	}
	open(t, root)
	for _, gone := range []string{"", "version", "records"} {
		if gone != "" {
			if err := os.RemoveAll(filepath.Join(root, gone)); err != nil {
				t.Fatal(err)
			}
		}
		var oe *OwnerError
		err := checkOwner(root, os.Geteuid()+1)
		if !errors.As(err, &oe) || !strings.Contains(err.Error(), "--root") || oe.Owner != os.Geteuid() {
			t.Errorf("without %q: %v", gone, err)
		}
		if err := checkOwner(root, os.Geteuid()); err != nil {
			t.Errorf("one's own: %v", err)
		}
	}
}

func TestLeftoversAreOfDeadProcesses(t *testing.T) {
	root := t.TempDir()
	s, other := open(t, root), open(t, root)
	dead, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	var living, gone []string
	for _, x := range []*Store{s, other, dead} {
		f, err := x.createTemp("blob")
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		dir, release, err := x.TempDir("work")
		if err != nil {
			t.Fatal(err)
		}
		if x == dead {
			gone = append(gone, f.Name(), dir, dir+".lock")
			// As a kill leaves it: the locks are free, the files are there.
			lock := dir + ".lock"
			os.Rename(dir, dir+".kept")
			release()
			os.Rename(dir+".kept", dir)
			write(t, lock, "")
			x.lock.Close()
			x.alive.Close()
			continue
		}
		t.Cleanup(release)
		living = append(living, f.Name(), dir)
	}
	write(t, s.path("tmp", "left", "x"), "by somebody who takes no lock")
	if old := s.Leftovers(); len(old) != 1 || old[0] != s.path("tmp", "left") {
		t.Errorf("what was locked a moment ago is left alone, not %v", old)
	}
	hour := time.Now().Add(-time.Hour)
	for _, dir := range []string{"tmp", "locks"} {
		entries, _ := os.ReadDir(filepath.Join(root, dir))
		for _, e := range entries {
			os.Chtimes(filepath.Join(root, dir, e.Name()), hour, hour)
		}
	}
	write(t, s.path("tmp", "damaged-x", "f"), "a mount may show it")
	write(t, s.path("tmp", draftPrefix+"x"), "it may be continued")
	old := strings.Join(s.Leftovers(), "\n")
	for _, p := range gone {
		if !strings.Contains(old, p) {
			t.Errorf("%s stays", p)
		}
	}
	for _, p := range append(living, "damaged-x", draftPrefix) {
		if strings.Contains(old, p) {
			t.Errorf("%s goes", p)
		}
	}
}

func TestFutureIsNotYoung(t *testing.T) {
	for since, want := range map[time.Duration]bool{-time.Hour: false, -time.Second: true, time.Second: true, 2 * time.Hour: false} {
		if got := younger(time.Now().Add(-since), time.Hour); got != want {
			t.Errorf("%v ago: %v", since, got)
		}
	}
	s := open(t, t.TempDir())
	write(t, s.path("trimmed"), "")
	future := time.Now().Add(1000 * time.Hour)
	if err := os.Chtimes(s.path("trimmed"), future, future); err != nil {
		t.Fatal(err)
	}
	if !s.TrimDue(time.Minute) {
		t.Error("a trim in the future puts all others off")
	}
	trim(t, s, 0)
	if s.TrimDue(time.Minute) {
		t.Error("it is due at once again")
	}
}
