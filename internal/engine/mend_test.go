package engine

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
)

// Layers below the one that a step writes, or copies from, are damaged between two builds. Whatever was done to them, the result is
// that of a state that never was damaged.
func TestDamagedLayersAreMadeAgain(t *testing.T) {
	b := newBench(t)
	states := func(n int) (base, middle, copied llb.State) {
		base = b.base()
		middle = base.Run(run("mkdir /d ; write /d/a A ; write /d/b B")).Root().Run(run("write /e E")).Root()
		copied = base.File(llb.Copy(middle, "/d", "/", &llb.CopyInfo{CreateDestPath: true}))
		change := run(fmt.Sprintf("write /n %d ; cat /d/a ; cat /d/b", n))
		return base, middle.Run(change).Root(), copied.Run(change).Root()
	}
	n := 0
	check := func(what string) {
		t.Helper()
		n++
		_, middle, copied := states(n)
		for _, st := range []llb.State{middle, copied, copied.File(llb.Copy(middle, "/", "/all"))} {
			out := b.must(st, "/d/a", "/d/b")
			if out.files["/d/a"] != "A" || out.files["/d/b"] != "B" {
				t.Fatalf("%s: got %q\n%s", what, out.files, out.text())
			}
		}
	}
	check("at first")
	for what, damage := range map[string]func(fs string) error{
		"a file of each layer is gone": func(fs string) error {
			for _, name := range []string{"d/a", "e", "etc/group"} {
				_ = os.Remove(filepath.Join(fs, name)) // of those that have it
			}
			return nil
		},
		"the files of each layer are gone": func(fs string) error { return os.RemoveAll(fs) },
		"a byte of each file": func(top string) error {
			return filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
				if err != nil || !e.Type().IsRegular() {
					return err
				}
				data, err := os.ReadFile(path)
				if err != nil || len(data) == 0 {
					return err
				}
				data[0] ^= 1
				return os.WriteFile(path, data, 0)
			})
		},
		"the seals":  func(fs string) error { return os.Truncate(filepath.Join(filepath.Dir(fs), "seal"), 20) },
		"all layers": func(fs string) error { return os.RemoveAll(filepath.Dir(fs)) },
	} {
		all, err := filepath.Glob(filepath.Join(b.store.Root(), "layers", "*", "fs"))
		if err != nil || len(all) < 4 {
			t.Fatalf("%d layers: %v", len(all), err)
		}
		for _, dir := range all {
			if err := damage(dir); err != nil {
				t.Fatal(err)
			}
		}
		check(what)
	}
	// An image of what is known is packed of layers that are looked at, too.
	_, middle, _ := states(n)
	e := b.engine(nil)
	defer e.Close()
	for _, dir := range []string{"records/pack", "oci/blobs"} {
		if err := os.RemoveAll(filepath.Join(b.store.Root(), dir)); err != nil {
			t.Fatal(err)
		}
	}
	all, _ := filepath.Glob(filepath.Join(b.store.Root(), "layers", "*", "fs"))
	for _, dir := range all {
		_ = os.Remove(filepath.Join(dir, "d/a"))
	}
	out := b.must(middle, "/d/a")
	if out.files["/d/a"] != "A" || !strings.Contains(out.text(), "state is damaged") {
		t.Errorf("packed: %q\n%s", out.files, out.text())
	}
}
