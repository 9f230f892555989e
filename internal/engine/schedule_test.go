package engine

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
)

// copyFrom is a stage that takes one file of another.
func copyFrom(src llb.State, path string) llb.State {
	return llb.Scratch().File(llb.Copy(src, path, path))
}

func TestOnlyWhatIsNeededRuns(t *testing.T) {
	b := newBench(t)
	used := b.base().Run(run("write /used 1")).Root()
	_ = b.base().Run(run("exit 1")).Root() // another stage of the same file: it is not in the graph
	e := b.base().Run(run("write /two 2 ; write /m/x 3"), llb.AddMount("/m", llb.Scratch()))
	out := b.must(llb.Merge([]llb.State{copyFrom(used, "/used"), copyFrom(e.Root(), "/two")}), "/used", "/two")
	if out.files["/used"] != "1" || out.files["/two"] != "2" || strings.Contains(out.text(), "exit 1") {
		t.Errorf("got %q\n%s", out.files, out.text())
	}
}

// Two stages that wait for each other can only end when they run at once.
func TestStagesRunSideBySide(t *testing.T) {
	b := newBench(t)
	meet := llb.AddMount("/meet", llb.Scratch(), llb.AsPersistentCacheDir("meet", llb.CacheMountShared))
	one := b.base().Run(run("meet /meet a b ; write /a x"), meet).Root()
	two := b.base().Run(run("meet /meet b a ; write /b x"), meet).Root()
	b.must(llb.Merge([]llb.State{copyFrom(one, "/a"), copyFrom(two, "/b")}))
}

// An engine that rests runs what is asked of it nevertheless.
func TestRest(t *testing.T) {
	b := newBench(t)
	e := b.engine(nil)
	defer e.Close()
	e.Rest() // before anything ran
	for _, text := range []string{"one", "two"} {
		ref, err := solve(t, e, b.base().Run(run("write /out "+text)).Root())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ref.ReadFile(t.Context(), gwclient.ReadRequest{Filename: "/out"}); err != nil || string(got) != text {
			t.Errorf("%s: %q, %v", text, got, err)
		}
		if _, started := e.child.peek(); !started {
			t.Error("nothing ran")
		}
		e.Rest()
		if _, started := e.child.peek(); started {
			t.Error("the child did not end")
		}
	}
}

// A stage that ran again and gave the same files stops there.
func TestEqualContentStops(t *testing.T) {
	b := newBench(t)
	b.write("f", "one")
	build := func() outcome {
		stage := b.base().File(llb.Copy(llb.Local("context"), "f", "/in")).Run(run("write /out same ; random /noise")).Root()
		return b.must(b.base().File(llb.Copy(stage, "/out", "/got")).Run(run("copy /got /end")).Root(), "/end")
	}
	if first := build(); first.ran("copy /got /end") != 1 {
		t.Errorf("first:\n%s", first.text())
	}
	b.write("f", "two")
	second := build()
	if second.ran("random") != 1 || second.ran("copy /got /end") != 0 {
		t.Errorf("second:\n%s", second.text())
	}
	// And from now on the new definition is known as well.
	if third := build(); third.child {
		t.Errorf("third:\n%s", third.text())
	}
}

// The same for a mount that is only read, and for a file in a context of which others change.
func TestContentOfMountsAndContext(t *testing.T) {
	b := newBench(t)
	b.write("sub/f", "one", "other", "1")
	build := func() outcome {
		ctx := llb.Local("context")
		return b.must(b.base().Run(run("cat /ctx/f"), llb.AddMount("/ctx", ctx, llb.SourcePath("sub"), llb.Readonly)).Root().
			File(llb.Copy(ctx, "sub/f", "/f")))
	}
	build().wants(t, "/ctx/f: one")
	b.write("other", "2")
	if again := build(); again.child {
		t.Errorf("a file that nobody reads changed:\n%s", again.text())
	}
	b.write("sub/f", "two")
	build().wants(t, "/ctx/f: two")
}

// Times of files are no content.
func TestTimesDoNotCount(t *testing.T) {
	b := newBench(t)
	b.write("f", "x")
	st := b.base().File(llb.Copy(llb.Local("context"), "f", "/f"))
	b.must(st)
	b.write("f", "x")
	if again := b.must(st); again.child {
		t.Errorf("a touched file:\n%s", again.text())
	}
	if err := os.Chmod(b.context+"/f", 0o600); err != nil {
		t.Fatal(err)
	}
	if again := b.must(st); !again.child {
		t.Errorf("a file of another mode:\n%s", again.text())
	}
}

func TestNoCache(t *testing.T) {
	b := newBench(t)
	stage := func(o ...llb.RunOption) llb.State { return b.base().Run(append(o, run("random /out"))...).Root() }
	end := func(st llb.State) llb.State {
		return b.base().File(llb.Copy(st, "/out", "/got")).Run(run("copy /got /end")).Root()
	}
	first := b.must(end(stage()), "/end")
	// The stage alone is to run anew: what stands on it sees that.
	second := b.must(end(stage(llb.IgnoreCache)), "/end")
	if first.files["/end"] == second.files["/end"] {
		t.Error("a stage without cache did not run")
	}
	if third := b.must(end(stage()), "/end"); third.files["/end"] != second.files["/end"] {
		t.Error("the result was not stored")
	}
	b.options = func(o *Options) { o.NoCache = true }
	if all := b.must(end(stage()), "/end"); all.files["/end"] == second.files["/end"] || all.ran("mkdir /bin") == 0 {
		t.Errorf("a build without cache used it:\n%s", all.text())
	}
}

// Two engines, as two processes, do the work once.
func TestTwoBuildsAtOnce(t *testing.T) {
	b := newBench(t)
	st := b.base().Run(run("random /out ; sleep 300ms")).Root()
	b.must(b.base())
	outs := make([]outcome, 2)
	var wg sync.WaitGroup
	for i := range outs {
		wg.Go(func() { outs[i] = b.build(st, "/out") })
	}
	wg.Wait()
	if outs[0].err != nil || outs[1].err != nil || outs[0].files["/out"] != outs[1].files["/out"] {
		t.Errorf("got %v %v %q %q", outs[0].err, outs[1].err, outs[0].files, outs[1].files)
	}
	if n := outs[0].ran("random") + outs[1].ran("random"); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

// A layer that is gone is a miss, not a failure.
func TestLostLayer(t *testing.T) {
	b := newBench(t)
	st := b.base().Run(run("random /out")).Root()
	first := b.must(st, "/out")
	e := b.engine(nil)
	defer e.Close()
	if err := e.remove(t.Context(), []string{b.store.LayerDir(first.layers[1].ID)}); err != nil {
		t.Fatal(err)
	}
	second := b.must(st, "/out")
	if second.ran("random") != 1 || second.ran("mkdir /bin") != 0 {
		t.Errorf("got\n%s", second.text())
	}
}

func TestFailureEndsTheRest(t *testing.T) {
	b := newBench(t)
	b.must(b.base())
	slow := b.base().Run(run("sleep 60s")).Root()
	bad := b.base().Run(run("exit 3")).Root()
	out := b.build(llb.Merge([]llb.State{slow, bad}))
	var step *StepError
	if !errors.As(out.err, &step) || !strings.Contains(out.err.Error(), "exit code: 3") {
		t.Errorf("got %v\n%s", out.err, out.text())
	}
}

func TestErrorsHaveTheirSource(t *testing.T) {
	b := newBench(t)
	src := llb.NewSourceMap(nil, "Dockerfile", "", []byte("FROM x\nRUN false\n"))
	line := src.Location([]*pb.Range{{Start: &pb.Position{Line: 2}, End: &pb.Position{Line: 2}}})
	out := b.build(b.base().Run(run("exit 1"), line).Run(run("echo never")).Root())
	sources := errdefs.Sources(out.err)
	if len(sources) != 1 || sources[0].Info.Filename != "Dockerfile" || sources[0].Ranges[0].Start.Line != 2 {
		t.Fatalf("got %v of %v", sources, out.err)
	}
	var v *errdefs.VertexError
	if !errors.As(out.err, &v) {
		t.Errorf("no vertex in %v", out.err)
	}
}

func TestNothingIsEvaluatedBeforeItIsAsked(t *testing.T) {
	b := newBench(t)
	rec := &recorder{}
	e := b.engine(rec)
	defer e.Close()
	b.write("Dockerfile", "FROM scratch")
	ref, err := solve(t, e, llb.Local("context"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := ref.ReadFile(t.Context(), gwclient.ReadRequest{Filename: "Dockerfile", Range: &gwclient.FileRange{Offset: 5, Length: 4}})
	if err != nil || string(data) != "scra" {
		t.Errorf("got %q, %v", data, err)
	}
	if st, err := ref.StatFile(t.Context(), gwclient.StatRequest{Path: "/Dockerfile"}); err != nil || st.Size != 12 || st.Path != "Dockerfile" {
		t.Errorf("got %v, %v", st, err)
	}
	if list, err := ref.ReadDir(t.Context(), gwclient.ReadDirRequest{Path: "/", IncludePattern: "D*"}); err != nil || len(list) != 1 {
		t.Errorf("got %v, %v", list, err)
	}
	if _, err := ref.ReadFile(t.Context(), gwclient.ReadRequest{Filename: "none"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, started := e.child.peek(); started {
		t.Error("a child was started to read the context")
	}
}
