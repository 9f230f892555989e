package engine

import (
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
)

// Two stages: what the first one makes goes into the second, and a second build of the same does nothing at all.
func TestStages(t *testing.T) {
	b := newBench(t)
	b.write("main.txt", "source", "sub/more.txt", "more")
	ctx := llb.Local("context")
	builder := b.base().File(llb.Copy(ctx, "/", "/src", &llb.CopyInfo{CopyDirContentsOnly: true, CreateDestPath: true})).
		Dir("/src").Run(run("echo building ; copy main.txt /out ; ls /src")).Root()
	final := llb.Scratch().File(llb.Copy(builder, "/out", "/app"))

	first := b.must(final, "/app")
	if first.files["/app"] != "source" || !strings.Contains(first.log(), "building\n/src: main.txt sub\n") {
		t.Errorf("got %q\n%s", first.files, first.text())
	}
	if len(first.layers) != 1 || first.layers[0].Files != 6 {
		t.Errorf("layers: %+v", first.layers)
	}
	again := b.must(final)
	if again.child || again.ran("/bin/sh") != 0 {
		t.Errorf("an unchanged build did something:\n%s", again.text())
	}
	if again.layers[0].DiffID != first.layers[0].DiffID {
		t.Errorf("got %s, then %s", first.layers[0].DiffID, again.layers[0].DiffID)
	}
}
