package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/skiff-build/skiff/internal/graph"
	"github.com/skiff-build/skiff/internal/sandbox"
	"github.com/skiff-build/skiff/internal/skifftest"
)

// Merging puts layers over each other; one that comes twice stays where it is topmost.
func TestMerge(t *testing.T) {
	b := newBench(t)
	base := llb.Scratch().File(llb.Mkfile("/f", 0o644, []byte("base")).Mkfile("/gone", 0o644, nil))
	one := base.File(llb.Mkfile("/f", 0o644, []byte("one")))
	two := base.File(llb.Rm("/gone"))
	out := b.must(llb.Merge([]llb.State{one, two}), "/f")
	if out.files["/f"] != "base" || len(out.layers) != 3 {
		t.Errorf("got %q, %d layers", out.files, len(out.layers))
	}
	if again := b.must(llb.Merge([]llb.State{one, two})); again.child {
		t.Error("a merge that is known started a child")
	}
	linked := b.must(llb.Merge([]llb.State{base, copyFrom(one, "/f")}), "/f", "/gone")
	if linked.files["/f"] != "one" {
		t.Errorf("got %q", linked.files)
	}
}

func TestLastOnly(t *testing.T) {
	for _, c := range [][2]string{{"a b a c", "b a c"}, {"a a", "a"}, {"empty a empty", "empty a empty"}, {"", ""}} {
		if got := strings.Join(lastOnly(strings.Fields(c[0])), " "); got != c[1] {
			t.Errorf("%s: got %s, want %s", c[0], got, c[1])
		}
	}
}

// Actions that follow each other write one layer; results that several need are kept apart.
func TestFileActions(t *testing.T) {
	b := newBench(t)
	chain := llb.Mkdir("/d", 0o755).Mkfile("/d/a", 0o600, []byte("a")).Mkfile("/d/b", 0o644, []byte("b")).Rm("/d/a")
	out := b.must(llb.Scratch().File(chain), "/d/b")
	if len(out.layers) != 1 || out.files["/d/b"] != "b" {
		t.Errorf("got %d layers, %q", len(out.layers), out.files)
	}
	inner := llb.Mkfile("/made", 0o644, []byte("inside"))
	copied := b.must(llb.Scratch().File(inner.Copy(inner.WithState(llb.Scratch()), "/made", "/copy")), "/made", "/copy")
	if copied.files["/copy"] != "inside" || copied.files["/made"] != "inside" {
		t.Errorf("got %q", copied.files)
	}
	named := b.must(b.base().File(llb.Mkdir("/w", 0o755, llb.WithUser("web"))))
	if len(named.layers) != 2 {
		t.Errorf("got %d layers", len(named.layers))
	}
	for name, st := range map[string]llb.State{
		"missing": llb.Scratch().File(llb.Copy(llb.Local("context"), "none", "/x")),
		"escape":  llb.Scratch().File(llb.Copy(llb.Local("context"), "../../../etc/passwd", "/x")),
	} {
		if out := b.build(st); out.err == nil || !strings.Contains(out.err.Error(), "not found") {
			t.Errorf("%s: got %v", name, out.err)
		}
	}
}

// A layer that a step made without writing anything is still there for the image's history.
func TestEmptyLayers(t *testing.T) {
	b := newBench(t)
	st := b.base().File(llb.Mkdir("/etc", 0o755, llb.WithParents(true))).Run(run("echo")).Root().File(llb.Mkfile("/x", 0o644, nil))
	out := b.must(st)
	if len(out.layers) != 4 || out.layers[1].DiffID != emptyDiffID || out.layers[2].DiffID != emptyDiffID || out.layers[3].DiffID == emptyDiffID {
		t.Errorf("got %+v", out.layers)
	}
	if n := len(readAll(t, out.layers[1].Open)); n != emptySize {
		t.Errorf("an empty layer has %d bytes", n)
	}
}

// The three modes give the same layers.
func TestModesAgree(t *testing.T) {
	skifftest.Long(t, "it runs builds in every mode")
	var want []string
	for _, mode := range []sandbox.Mode{sandbox.ModeRoot, sandbox.ModeSubIDs, sandbox.ModeOneID} {
		b := newBench(t)
		b.options = func(o *Options) { o.Mode = mode }
		b.write("a", "1", "sub/b", "2")
		if err := os.Chmod(filepath.Join(b.context, "a"), 0o4711); err != nil {
			t.Fatal(err)
		}
		st := b.base().File(llb.Copy(llb.Local("context"), "/", "/ctx", &llb.CopyInfo{CopyDirContentsOnly: true, CreateDestPath: true}, llb.WithUser("33:44"))).
			File(llb.Mkdir("/own", 0o2750, llb.WithUser("web"))).
			Run(run("write /new x ; hard /new /other ; link new /sym ; rm /ctx/sub ; mkdir /ctx/sub")).Root()
		out := b.build(st)
		if e := (*sandbox.Unavailable)(nil); asUnavailable(out.err, &e) {
			t.Logf("mode %s cannot be had here: %v", mode, e)
			continue
		}
		if out.err != nil {
			t.Fatalf("%s: %v\n%s", mode, out.err, out.text())
		}
		var got []string
		for _, l := range out.layers {
			got = append(got, l.DiffID)
		}
		if want == nil {
			want = got
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: got %v, want %v", mode, got, want)
		}
	}
}

// References are read in the child as well as here.
func TestReadLayers(t *testing.T) {
	b := newBench(t)
	e := b.engine(nil)
	defer e.Close()
	handle, err := solve(t, e, b.base().File(llb.Symlink("etc/passwd", "/users")))
	if err != nil {
		t.Fatal(err)
	}
	data, err := handle.ReadFile(t.Context(), gwclient.ReadRequest{Filename: "/users", Range: &gwclient.FileRange{Offset: 0, Length: 4}})
	if err != nil || string(data) != "root" {
		t.Errorf("got %q, %v", data, err)
	}
	if st, err := handle.StatFile(t.Context(), gwclient.StatRequest{Path: "bin/sh"}); err != nil || os.FileMode(st.Mode).Perm() != 0o755 {
		t.Errorf("got %v, %v", st, err)
	}
	list, err := handle.ReadDir(t.Context(), gwclient.ReadDirRequest{Path: "/etc"})
	if err != nil || len(list) != 2 || list[0].Path != "group" {
		t.Errorf("got %v, %v", list, err)
	}
	var data2 []byte
	res, err := handle.(*ref).result(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.call(t.Context(), methodRead, readReq{Chain: realLayers(res.Layers), Path: "/users"}, &data2, nil); err != nil || !strings.HasPrefix(string(data2), "root:") {
		t.Errorf("in the child: %q, %v", data2, err)
	}
	if _, err := handle.ReadFile(t.Context(), gwclient.ReadRequest{Filename: "/etc"}); err == nil {
		t.Error("a directory was read")
	}
}

func TestTimestamps(t *testing.T) {
	b := newBench(t)
	st := b.base().Run(run("write /x y")).Root()
	b.must(st)
	e := b.engine(nil)
	defer e.Close()
	ref, err := solve(t, e, st)
	if err != nil {
		t.Fatal(err)
	}
	diffID := func(o LayerOptions) string {
		layers, err := e.Layers(t.Context(), ref, o)
		if err != nil {
			t.Fatal(err)
		}
		return layers[1].DiffID
	}
	zero, one, kept := diffID(LayerOptions{}), diffID(LayerOptions{Epoch: 1e9}), diffID(LayerOptions{KeepTimes: true})
	if zero == one || zero == kept || one == kept {
		t.Errorf("got %s %s %s", zero, one, kept)
	}
	if again := diffID(LayerOptions{}); again != zero {
		t.Errorf("got %s, then %s", zero, again)
	}
}

func TestTrim(t *testing.T) {
	b := newBench(t)
	st := b.base().Run(run("random /out"), llb.AddMount("/c", llb.Scratch(), llb.AsPersistentCacheDir("c", llb.CacheMountShared))).Root()
	first := b.must(st, "/out")
	e := b.engine(nil)
	freed, err := e.Trim(t.Context(), 0)
	e.Close()
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(b.store.Root(), "layers", "*")); len(left) > 0 {
		t.Errorf("left %v, freed %+v", left, freed)
	}
	if again := b.must(st, "/out"); again.files["/out"] == first.files["/out"] {
		t.Error("the step did not run again")
	}
}

// Keys are settled here: a change of this text is a change of formatVersion, or an oversight.
func TestKeysAreGolden(t *testing.T) {
	b := newBench(t)
	b.options = func(o *Options) { o.Mode = sandbox.ModeRoot }
	b.write("f", "content")
	e := b.engine(nil)
	defer e.Close()
	ctx := llb.Local("context")
	base := llb.Scratch().File(llb.Mkfile("/f", 0o644, []byte("x")))
	exec := func(o ...llb.RunOption) llb.State {
		return base.Run(append([]llb.RunOption{llb.Args([]string{"a", "b c"})}, o...)...).Root()
	}
	cache := func(id string) llb.RunOption {
		return llb.AddMount("/c", llb.Scratch(), llb.AsPersistentCacheDir(id, llb.CacheMountShared))
	}
	var text strings.Builder
	keys := map[string]string{}
	for _, c := range []struct {
		name, same string // same: the name of a case that has to have the same key
		st         llb.State
	}{
		{"base", "", base},
		{"exec", "", exec()},
		{"another argument", "", exec(llb.Args([]string{"a", "b", "c"}))},
		{"environment", "", exec(llb.AddEnv("A", "1"))},
		{"proxy", "exec", exec(llb.WithProxy(llb.ProxyEnv{HTTPProxy: "http://p"}))},
		{"name", "exec", exec(llb.WithCustomName("shown"))},
		{"host", "", exec(llb.AddExtraHost("h", []byte{1, 2, 3, 4}))},
		{"the host elsewhere", "host", exec(llb.AddExtraHost("h", []byte{1, 2, 3, 5}))},
		{"network none", "", exec(llb.Network(llb.NetModeNone))},
		{"cache", "", exec(cache("one"))},
		{"another cache", "cache", exec(cache("two"))},
		{"go cache", "", exec(cache(goCachePrefix + "mod-1"))},
		{"somebody's go cache", "go cache", exec(cache(goCachePrefix + "mod-1+me"))},
		{"another generation", "", exec(cache(goCachePrefix + "mod-2"))},
		{"secret", "", exec(llb.AddSecret("/s", llb.SecretID("one")))},
		{"another secret", "", exec(llb.AddSecret("/s", llb.SecretID("two")))},
		{"platform", "", exec(llb.Platform(mipsPlatform))},
		{"context", "", ctx},
		{"copy", "", base.File(llb.Copy(ctx, "f", "/g"))},
		{"copy with another mode", "", base.File(llb.Copy(ctx, "f", "/g", llb.ChmodOpt{Mode: 0o700}))},
		{"merge", "", llb.Merge([]llb.State{base, ctx})},
	} {
		def, err := c.st.Marshal(t.Context(), llb.LinuxAmd64)
		if err != nil {
			t.Fatal(err)
		}
		g, err := graph.Decode(def.ToPB())
		if err != nil {
			t.Fatal(err)
		}
		key, err := e.node(g.Root.Vertex).definitionKey(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		keys[c.name] = key.String()
		if c.same != "" && keys[c.same] != key.String() {
			t.Errorf("%s has another key than %s", c.name, c.same)
		}
		for other, k := range keys {
			if k == key.String() && other != c.name && other != c.same && c.same == "" {
				t.Errorf("%s has the key of %s", c.name, other)
			}
		}
		text.WriteString(key.String()[:16] + " " + c.name + "\n")
	}
	skifftest.Golden(t, "keys.txt", text.String())
}
