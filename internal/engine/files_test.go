package engine

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"

	"github.com/skiff-build/skiff/internal/sandbox"
)

// TestFilesMode: where there are no namespaces files are copied all the same, and give the layers that they give elsewhere.
func TestFilesMode(t *testing.T) {
	var want []string
	for _, mode := range []sandbox.Mode{"", sandbox.ModeFiles} {
		b := newBench(t)
		b.options = func(o *Options) { o.Mode = mode }
		b.write("a", "1", "sub/b", "2", "old/d/e", "3", "run", "#!")
		if err := os.Chmod(filepath.Join(b.context, "a"), 0o4711); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(filepath.Join(b.context, "a"), filepath.Join(b.context, "hard")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("sub", filepath.Join(b.context, "link")); err != nil {
			t.Fatal(err)
		}
		context := llb.Local("context")
		all := &llb.CopyInfo{CopyDirContentsOnly: true, CreateDestPath: true}
		first := b.base().File(llb.Copy(context, "/", "/ctx", all, llb.WithUser("33:44"))).File(llb.Mkdir("/own", 0o2750, llb.WithUser("web")))
		st := first.
			File(llb.Copy(context, "a", "/ctx/a")).                                // the same text in the place of one of two linked files
			File(llb.Copy(context, "sub", "/ctx/old", all)).                       // beside what is there
			File(llb.Copy(context, "run", "/ctx/link/run", llb.WithUser("web"))).  // through a link
			File(llb.Rm("/ctx/old/d").Mkdir("/ctx/old/d", 0o700)).                 // a new folder in the place of another
			File(llb.Rm("/ctx/sub/b").Mkfile("/ctx/sub/b", 0o600, []byte("2"))).   // a new file
			File(llb.Mkdir("/ctx/old", 0o755, llb.WithParents(true))).             // nothing
			File(llb.Copy(first, "/ctx", "/again", all).Symlink("again", "/last")) // out of layers
		out := b.must(st)
		var got []string
		for _, l := range out.layers {
			got = append(got, l.DiffID)
		}
		if want == nil {
			want = got
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if mode != sandbox.ModeFiles {
			continue
		}
		var e *sandbox.Unavailable
		if out := b.build(st.Run(run("echo")).Root()); !errors.As(out.err, &e) {
			t.Errorf("a step: %v", out.err)
		}
	}
}

// TestRelativeContext: where the child works does not matter to what a relative folder is.
func TestRelativeContext(t *testing.T) {
	b := newBench(t)
	b.write("a", "1")
	t.Chdir(filepath.Dir(b.context))
	b.context = filepath.Base(b.context)
	e := b.engine(nil)
	defer e.Close()
	if dir := e.o.Locals["context"].Dir; !filepath.IsAbs(dir) {
		t.Errorf("the child is told %q", dir)
	}
	if out := b.must(llb.Scratch().File(llb.Copy(llb.Local("context"), "a", "/a")), "/a"); out.files["/a"] != "1" {
		t.Errorf("got %q", out.files)
	}
}

// TestWithoutSteps: a state goes on where what is on the disk has the same owners, and a new one begins.
func TestWithoutSteps(t *testing.T) {
	why := errors.New("none here")
	b := newBench(t)
	e := b.engine(nil)
	defer e.Close()
	if mode := e.withoutSteps(why); mode != sandbox.ModeFiles || !e.onlyFiles || e.noSteps != why || e.o.Mode != sandbox.ModeFiles {
		t.Errorf("a new state: mode %s, %+v", mode, e.noSteps)
	}
	root := os.Geteuid() == 0
	for last, goesOn := range map[sandbox.Mode]bool{sandbox.ModeRoot: root, sandbox.ModeOneID: !root, sandbox.ModeSubIDs: false} {
		if err := b.store.Put(kindMode, lastModeKey(), modeRecord{last}); err != nil {
			t.Fatal(err)
		}
		e := b.engine(nil)
		mode := e.withoutSteps(why)
		if mode != last || (e.noSteps != nil) != goesOn || e.onlyFiles || (e.assumed == last) == goesOn {
			t.Errorf("after %s: mode %s, noSteps %v, assumed %q", last, mode, e.noSteps, e.assumed)
		}
		e.Close()
	}
}
