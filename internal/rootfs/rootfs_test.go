package rootfs_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/rootfs"
	"github.com/skiff-build/skiff/internal/skifftest"
)

type entry = skifftest.Entry

// look notes the first bytes of each file.
func look(_ int, _ rootfs.Entry, content io.Reader) (any, error) {
	head, err := io.ReadAll(io.LimitReader(content, 2))
	return string(head), err
}

func testImage(t *testing.T) v1.Image {
	return skifftest.Image(t, v1.Config{},
		skifftest.Layer(t,
			entry{Name: "bin/"}, entry{Name: "bin/app", Body: "program", Mode: 0o755}, entry{Name: "bin/also", Hard: "bin/app"},
			entry{Name: "usr/lib/"}, entry{Name: "lib", Link: "usr/lib"}, entry{Name: "lib/c.so", Body: "library"},
			entry{Name: "gone", Body: "x"}, entry{Name: "out", Link: "../../../etc/hosts"}, entry{Name: "loop", Link: "loop"}),
		skifftest.Layer(t,
			entry{Name: ".wh.gone"}, entry{Name: "etc/hosts", Body: "localhost"}, entry{Name: "bin/app2", Body: "other", Mode: 0o4755}))
}

func TestFiles(t *testing.T) {
	f, err := rootfs.Open(t.Context(), testImage(t), rootfs.Options{Look: look})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	if err := f.Walk(func(file rootfs.File) error { names = append(names, file.Path); return nil }); err != nil {
		t.Fatal(err)
	}
	want := strings.Fields("/bin /bin/also /bin/app /bin/app2 /etc /etc/hosts /lib /loop /out /usr /usr/lib /usr/lib/c.so")
	if !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	for name, want := range map[string]string{
		"bin/app": "/bin/app", "/lib/c.so": "/usr/lib/c.so", "/out": "/etc/hosts", "/bin/../lib/./c.so": "/usr/lib/c.so", "/lib/../lib": "/usr/lib",
		"/../bin": "/bin", "/": "/", "/gone": "", "/loop": "", "/bin/app/x": "", "/nowhere/../bin": "",
	} {
		file, err := f.Find(name)
		if want == "" && !errors.Is(err, fs.ErrNotExist) || want != "" && (err != nil || file.Path != want) {
			t.Errorf("%s: %s, %v; want %s", name, file.Path, err, want)
		}
	}
	app, err := f.Find("/bin/app")
	if err != nil {
		t.Fatal(err)
	}
	also, err := f.Find("/bin/also")
	if err != nil || !app.Same(also) || app.Note != "pr" || app.Layer != 0 {
		t.Errorf("%+v %+v %v", app, also, err)
	}
	if link, err := f.FindLink("/lib"); err != nil || link.Header.Linkname != "usr/lib" {
		t.Errorf("%+v, %v", link, err)
	}
}

// TestContents reads files out of layers that lie as plain files, and out of others.
func TestContents(t *testing.T) {
	img := testImage(t)
	plain := func(diffID v1.Hash) (rootfs.ReaderAtCloser, error) {
		layer, err := img.LayerByDiffID(diffID)
		if err != nil {
			return nil, err
		}
		r, err := layer.Uncompressed()
		if err != nil {
			return nil, err
		}
		return r.(*os.File), nil // as skifftest makes them
	}
	for name, o := range map[string]rootfs.Options{"copied": {}, "in place": {Plain: plain}} {
		f, err := rootfs.Open(t.Context(), img, o)
		if err != nil {
			t.Fatal(err)
		}
		var files []rootfs.File
		for _, path := range []string{"/bin/also", "/lib/c.so", "/etc/hosts", "/bin/app2", "/bin"} {
			file, err := f.Find(path)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
		got := map[string]string{}
		err = f.Contents(t.Context(), files, func(file rootfs.File, c rootfs.Content) error {
			text, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size))
			got[file.Path] = string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"/bin/also": "program", "/usr/lib/c.so": "library", "/etc/hosts": "localhost", "/bin/app2": "other"}
		for path, text := range want {
			if got[path] != text {
				t.Errorf("%s: %s is %q, want %q", name, path, got[path], text)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestReadFile(t *testing.T) {
	f, err := rootfs.Open(t.Context(), testImage(t), rootfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if text, err := f.ReadFile(t.Context(), "/out", 9); err != nil || string(text) != "localhost" {
		t.Errorf("%q, %v", text, err)
	}
	for _, name := range []string{"/bin", "/nowhere"} {
		if _, err := f.ReadFile(t.Context(), name, 9); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	if _, err := f.ReadFile(t.Context(), "/out", 8); err == nil {
		t.Error("a file larger than allowed was read")
	}
}

func TestHostile(t *testing.T) {
	for name, e := range map[string]entry{
		"climbs":           {Name: "../x", Body: "x"},
		"hard link out":    {Name: "x", Hard: "../../etc/passwd"},
		"hard link to dir": {Name: "x", Hard: "."},
	} {
		_, err := rootfs.Open(t.Context(), skifftest.Image(t, v1.Config{}, skifftest.Layer(t, e)), rootfs.Options{})
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := rootfs.Open(ctx, testImage(t), rootfs.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
