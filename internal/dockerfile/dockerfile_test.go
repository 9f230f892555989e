package dockerfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gwclient "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"github.com/tonistiigi/fsutil/types"
)

// fakeEngine solves graphs whose only op is a local source, for the frontend to read, and keeps the other graphs.
type fakeEngine struct {
	gwclient.Client
	d      *Dockerfile
	solved []*pb.Definition
	warned []string
}

func (f *fakeEngine) BuildOpts() gwclient.BuildOpts {
	return gwclient.BuildOpts{
		Opts:    map[string]string{"target": "the engine's own"},
		LLBCaps: pb.Caps.CapSet(pb.Caps.All()),
	}
}

func (f *fakeEngine) Warn(_ context.Context, _ digest.Digest, msg string, _ gwclient.WarnOpts) error {
	f.warned = append(f.warned, msg)
	return nil
}

func (f *fakeEngine) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return "", "", nil, fmt.Errorf("%s: not in the registry", ref)
}

func (f *fakeEngine) Solve(_ context.Context, req gwclient.SolveRequest) (*gwclient.Result, error) {
	res := gwclient.NewResult()
	var op pb.Op
	if len(req.Definition.Def) > 0 {
		if err := op.Unmarshal(req.Definition.Def[0]); err != nil {
			return nil, err
		}
	}
	if s := op.GetSource(); len(req.Definition.Def) == 2 && s != nil {
		name, ok := strings.CutPrefix(s.Identifier, "local://")
		if !ok || f.d.Locals()[name] == "" {
			return nil, fmt.Errorf("source %s", s.Identifier)
		}
		res.SetRef(dirRef(f.d.Locals()[name]))
		return res, nil
	}
	f.solved = append(f.solved, req.Definition)
	res.SetRef(dirRef(""))
	return res, nil
}

type dirRef string

func (dirRef) ToState() (llb.State, error)    { return llb.Scratch(), nil }
func (dirRef) Evaluate(context.Context) error { return nil }
func (r dirRef) ReadFile(_ context.Context, req gwclient.ReadRequest) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(r), req.Filename))
}
func (r dirRef) StatFile(_ context.Context, req gwclient.StatRequest) (*types.Stat, error) {
	st, err := os.Stat(filepath.Join(string(r), req.Path))
	if err != nil {
		return nil, err
	}
	return &types.Stat{Path: req.Path, Size: st.Size()}, nil
}
func (dirRef) ReadDir(context.Context, gwclient.ReadDirRequest) ([]*types.Stat, error) {
	return nil, nil
}

// dir makes a directory of the files: name, text, name, text.
func dir(t *testing.T, files ...string) string {
	t.Helper()
	root := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(root, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func open(t *testing.T, o Options) (*Dockerfile, *fakeEngine) {
	t.Helper()
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, &fakeEngine{d: d}
}

func TestAttributes(t *testing.T) {
	named := dir(t)
	d, _ := open(t, Options{
		Context: dir(t, "Dockerfile", "FROM scratch"), Target: "x", BuildArgs: map[string]string{"A": "1"},
		Labels: map[string]string{"l": "v"}, Platforms: []string{"linux/amd64", "linux/arm64/v8", "arm64"},
		NoCacheFilter: []string{"a", "b"}, Pull: true, Network: "none", ShmSize: 1024, Check: "skip=all",
		AddHosts: []string{"a:1.2.3.4", "b=[::1]", "c:host-gateway"}, Ulimits: []string{"nofile=1:2", "nproc=3"},
		Contexts: map[string]string{"context": named, "base": "docker-image://alpine:3"},
	})
	want := map[string]string{
		"target": "x", "build-arg:A": "1", "label:l": "v", "platform": "linux/amd64,linux/arm64", "no-cache": "a,b",
		"image-resolve-mode": "pull", "force-network-mode": "none", "shm-size": "1024", "filename": "Dockerfile",
		"build-arg:BUILDKIT_DOCKERFILE_CHECK": "skip=all", "add-hosts": "a=1.2.3.4,b=::1,c=192.0.0.1",
		"ulimit": "nofile=1:2,nproc=3", "context:context": "local:_context", "context:base": "docker-image://alpine:3",
		"frontend.caps": "moby.buildkit.frontend.contexts+forward",
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if d.attrs[k] != want[k] {
			t.Errorf("%s = %q, want %q", k, d.attrs[k], want[k])
		}
	}
	if len(d.attrs) != len(want) {
		t.Errorf("attributes %v", d.attrs)
	}
	if d.Locals()["_context"] != named {
		t.Errorf("locals %v", d.Locals())
	}
}

func TestLocalPlatform(t *testing.T) {
	d, _ := open(t, Options{Context: dir(t, "Dockerfile", "FROM scratch"), Platforms: []string{"local"}})
	if got, want := d.attrs["platform"], platforms.FormatAll(platforms.Normalize(platforms.DefaultSpec())); got != want {
		t.Errorf("platform %q, want %q", got, want)
	}
}

func TestOpenRefuses(t *testing.T) {
	ctx := dir(t, "Dockerfile", "FROM scratch", "empty", "", "sub/x", "")
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, "build context: the path is empty"},
		{Options{Context: "-"}, "standard input: there is none"},
		{Options{Context: ctx + "/nowhere"}, "nowhere: no such directory"},
		{Options{Context: ctx + "/Dockerfile"}, "Dockerfile: not a directory"},
		{Options{Context: ctx + "/sub"}, "sub/Dockerfile: no such file"},
		{Options{Context: ctx, File: ctx + "/nix"}, "nix: no such file"},
		{Options{Context: ctx, File: ctx + "/sub"}, "sub: is a directory"},
		{Options{Context: ctx, File: ctx + "/empty"}, "empty: the file is empty"},
		{Options{Context: ctx, File: "-", Stdin: strings.NewReader("")}, "standard input: it is empty"},
		{Options{Context: ctx, File: "https://example.org/Dockerfile"}, "download it"},
		{Options{Context: ctx, Platforms: []string{"linux/amd64/v1/x"}}, `platform "linux/amd64/v1/x"`},
		{Options{Context: ctx, Network: "bridge"}, `network "bridge": choose default, none or host`},
		{Options{Context: ctx, AddHosts: []string{"x"}}, `add-host "x": want host:ip`},
		{Options{Context: ctx, AddHosts: []string{"x:y"}}, `"y" is not an IP address`},
		{Options{Context: ctx, Ulimits: []string{"x"}}, `ulimit "x"`},
		{Options{Context: ctx, NoCache: true, NoCacheFilter: []string{"a"}}, "only one of them"},
		{Options{Context: ctx, Contexts: map[string]string{"n": ctx + "/nowhere"}}, `build context "n"`},
		{Options{Context: ctx, Contexts: map[string]string{"n": "target:x"}}, "bake"},
		{Options{Context: ctx, Contexts: map[string]string{"n": "oci-layout://" + ctx}}, "read OCI layout"},
	} {
		d, err := Open(c.o)
		if err == nil {
			t.Errorf("no error, want %q", c.want)
			_ = d.Close()
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %q, want %q", err, c.want)
		}
	}
}

func TestBuildReadsWhatTheFrontendAsksFor(t *testing.T) {
	for name, o := range map[string]Options{
		"default":   {Context: dir(t, "Dockerfile", "FROM scratch\nCOPY a /\n")},
		"lowercase": {Context: dir(t, "dockerfile", "FROM scratch\nCOPY a /\n")},
		"elsewhere": {Context: dir(t), File: filepath.Join(dir(t, "X", "FROM scratch\nCOPY a /\n"), "X")},
		"stdin":     {Context: dir(t, "Dockerfile", "not this"), File: "-", Stdin: strings.NewReader("FROM scratch\nCOPY a /\n")},
		"syntax":    {Context: dir(t, "Dockerfile", "# syntax=docker/dockerfile:1.7-labs\nFROM scratch\nCOPY a /\n")},
	} {
		t.Run(name, func(t *testing.T) {
			d, e := open(t, o)
			if _, err := d.Build(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			if len(e.solved) != 1 || len(e.solved[0].Def) != 3 { // the context, the copy, the result
				t.Errorf("solved %v", e.solved)
			}
		})
	}
}

func TestGraphsAreStable(t *testing.T) {
	var defs [][]byte
	for range 2 {
		d, e := open(t, Options{Context: dir(t, "Dockerfile", "FROM scratch\nCOPY a /\n")})
		if _, err := d.Build(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		defs = append(defs, slices.Concat(e.solved[0].Def...))
	}
	if !bytes.Equal(defs[0], defs[1]) {
		t.Error("two builds of one Dockerfile gave two graphs")
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	for _, c := range []struct{ text, err, source string }{
		{"FROM scratch\nCOPPY a /\n", "unknown instruction: COPPY", "Dockerfile:2\n"},
		{"FROM scratch\nCOPY a /\nFROM nix\n", "docker.io/library/nix:latest: not in the registry", "Dockerfile:3\n"},
		{"FROM scratch\nRUN --mount=type=nix true\n", "nix", "Dockerfile:2\n"},
		{"# syntax=example.org/other:1\nFROM scratch\n", "only docker/dockerfile is served", "Dockerfile:1\n"},
		{"# check=error=true\nfrom scratch\nCOPY a /\nCMD true\n", "lint violation found", ""},
	} {
		d, e := open(t, Options{Context: dir(t, "Dockerfile", c.text)})
		_, err := d.Build(t.Context(), e)
		if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: error %v", c.text, err)
			continue
		}
		if src := Source(err); !strings.HasPrefix(src, c.source) {
			t.Errorf("%q: source %q", c.text, src)
		}
	}
}

func TestWarningsOnceHoweverOftenTheFrontendRuns(t *testing.T) {
	d, e := open(t, Options{Context: dir(t, "Dockerfile", "FROM scratch as x\nCOPY a /\nCMD a b\n")})
	for range 2 {
		if _, err := d.Build(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	PrintWarnings(&b, d.Warnings())
	for _, want := range []string{" 2 warnings found:\n", "FromAsCasing", "JSONArgsRecommended", "Dockerfile:1\n", ">>> CMD a b"} {
		if strings.Count(b.String(), want) != 1 && want != "FromAsCasing" && want != "JSONArgsRecommended" || !strings.Contains(b.String(), want) {
			t.Errorf("want %q once in\n%s", want, &b)
		}
	}
	if len(e.warned) != 2 {
		t.Errorf("passed on %q", e.warned)
	}
}

func TestCheck(t *testing.T) {
	check := func(text string, asJSON bool) (string, error) {
		d, e := open(t, Options{Context: dir(t, "Dockerfile", text)})
		var b bytes.Buffer
		err := d.Check(t.Context(), e, &b, asJSON)
		if len(e.solved) > 0 {
			t.Error("a check built something")
		}
		return b.String(), err
	}
	if out, err := check("FROM scratch\nCOPY a /\n", false); err != nil || out != "Check complete, no warnings found.\n" {
		t.Errorf("%q, %v", out, err)
	}
	out, err := check("FROM scratch\nCMD a\n", false)
	if !errors.Is(err, ErrFindings) || !strings.HasPrefix(out, "Check complete, one warning has been found!\n\nWARNING: JSONArgs") ||
		!strings.Contains(out, "Dockerfile:2\n") {
		t.Errorf("%q, %v", out, err)
	}
	out, err = check("FROM scratch\nNIX\n", false)
	if !errors.Is(err, ErrFindings) && err == nil || !strings.Contains(out+fmt.Sprint(err), "unknown instruction: NIX") {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := check("FROM scratch\nCMD a\n", true); !errors.Is(err, ErrFindings) || !strings.Contains(out, `"ruleName": "JSONArgsRecommended"`) {
		t.Errorf("%q, %v", out, err)
	}
}

func TestLayouts(t *testing.T) {
	dgst := digest.FromString("x")
	index := fmt.Sprintf(`{"manifests":[{"digest":%q,"annotations":{"org.opencontainers.image.ref.name":"v1"}},
		{"digest":%q,"annotations":{"org.opencontainers.image.ref.name":"v2"}}]}`, dgst, digest.FromString("y"))
	layout := dir(t, "index.json", index)
	ctx := dir(t, "Dockerfile", "FROM scratch")
	d, _ := open(t, Options{Context: ctx, Contexts: map[string]string{"base": "oci-layout://" + layout + ":v1"}})
	if len(d.Layouts()) != 1 {
		t.Fatalf("layouts %v", d.Layouts())
	}
	for id, path := range d.Layouts() {
		if want := fmt.Sprintf("oci-layout://%s:v1@%s", id, dgst); path != layout || d.attrs["context:base"] != want {
			t.Errorf("%s: %s, want %s", path, d.attrs["context:base"], want)
		}
	}
	if _, err := Open(Options{Context: ctx, Contexts: map[string]string{"base": "oci-layout://" + layout}}); err == nil {
		t.Error("a layout of two images needs a tag")
	}
}
