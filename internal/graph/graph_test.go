package graph

import (
	"context"
	"errors"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"

	"github.com/skiff-build/skiff/internal/skifftest"
)

// twoStages is what a usual multi-stage Dockerfile gives.
func twoStages(t testing.TB) *pb.Definition {
	t.Helper()
	ctx := llb.Local("context", llb.LocalUniqueID("fixed"), llb.FollowPaths([]string{"."}), llb.WithCustomName("[internal] load build context"))
	builder := llb.Image("docker.io/library/golang:1.26").Dir("/src").AddEnv("CGO_ENABLED", "0").
		File(llb.Mkdir("/src", 0o755, llb.WithParents(true))).
		File(llb.Copy(ctx, "/", "/src", &llb.CopyInfo{CreateDestPath: true}, llb.WithUser("nobody:staff"))).
		Run(llb.Shlex("go build -o /app ."), llb.IgnoreCache,
			llb.AddMount("/root/.cache", llb.Scratch(), llb.AsPersistentCacheDir("gocache", llb.CacheMountLocked)),
			llb.AddSecret("/run/secrets/netrc", llb.SecretID("netrc"))).Root()
	st := llb.Merge([]llb.State{llb.Scratch().File(llb.Copy(builder, "/app", "/app").Mkfile("/etc/x", 0o600, []byte("x")).Rm("/etc/x")), ctx})
	return marshalled(t, st)
}

func marshalled(t testing.TB, st llb.State) *pb.Definition {
	t.Helper()
	def, err := st.Marshal(context.Background(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	return def.ToPB()
}

func TestStringIsGolden(t *testing.T) {
	g, err := Decode(twoStages(t))
	if err != nil {
		t.Fatal(err)
	}
	skifftest.Golden(t, "twostages.txt", g.String())
}

// What nobody touched keeps its digest, so that progress and source lines still find it.
func TestEncodeKeepsDigests(t *testing.T) {
	def := twoStages(t)
	g, err := Decode(def)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Encode(g)
	if err != nil {
		t.Fatal(err)
	}
	have := map[digest.Digest]bool{}
	for _, dt := range back.Def {
		have[digest.FromBytes(dt)] = true
	}
	for _, dt := range def.Def {
		if d := digest.FromBytes(dt); !have[d] {
			t.Errorf("%s is lost", d)
		}
	}
	for d, md := range def.Metadata {
		if !proto.Equal(md, back.Metadata[d]) {
			t.Errorf("metadata of %s: got %v, want %v", d, back.Metadata[d], md)
		}
	}
}

func TestEncodeAfterARewrite(t *testing.T) {
	g, err := Decode(twoStages(t))
	if err != nil {
		t.Fatal(err)
	}
	old := g.Root.Vertex.Digest
	_ = Walk(g, func(v *Vertex) error {
		if s := v.Op.GetSource(); s != nil && v.Name() == "docker-image://docker.io/library/golang:1.26" {
			s.Identifier = "gobase://1.26"
		}
		return nil
	})
	def, err := Encode(g)
	if err != nil {
		t.Fatal(err)
	}
	if g.Root.Vertex.Digest == old {
		t.Error("the digest of what stands on the change did not change")
	}
	again, err := Decode(def)
	if err != nil {
		t.Fatal(err)
	}
	if again.String() != g.String() {
		t.Errorf("got\n%s\nwant\n%s", again, g)
	}
}

func TestWalkEndsOnACircle(t *testing.T) {
	g, err := Decode(twoStages(t))
	if err != nil {
		t.Fatal(err)
	}
	g.Root.Vertex.Inputs[0].Vertex.Inputs[0].Vertex.Inputs = []Edge{g.Root}
	if _, err := Encode(g); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestDecodeEmpty(t *testing.T) {
	for _, def := range []*pb.Definition{nil, {}} {
		if g, err := Decode(def); err != nil || g.Root.Vertex != nil || g.String() != "result scratch\n" {
			t.Errorf("got %v, %v", g, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	exec := func(m ...*pb.Mount) *pb.Op {
		return &pb.Op{Op: &pb.Op_Exec{Exec: &pb.ExecOp{Meta: &pb.Meta{Args: []string{"a"}}, Mounts: m}}}
	}
	file := func(a ...*pb.FileAction) *pb.Op {
		return &pb.Op{Op: &pb.Op_File{File: &pb.FileOp{Actions: a}}}
	}
	rm := func(in, out int64) *pb.FileAction {
		return &pb.FileAction{Input: in, SecondaryInput: -1, Output: out, Action: &pb.FileAction_Rm{Rm: &pb.FileActionRm{Path: "x"}}}
	}
	merge := func(in ...int64) *pb.Op {
		m := &pb.MergeOp{}
		for _, i := range in {
			m.Inputs = append(m.Inputs, &pb.MergeInput{Input: i})
		}
		return &pb.Op{Op: &pb.Op_Merge{Merge: m}}
	}
	for name, op := range map[string]*pb.Op{
		"nothing":                    {},
		"source without identifier":  {Op: &pb.Op_Source{Source: &pb.SourceOp{}}},
		"exec without arguments":     {Op: &pb.Op_Exec{Exec: &pb.ExecOp{}}},
		"exec without a root":        exec(&pb.Mount{Dest: "/x", Input: -1}),
		"exec with two roots":        exec(&pb.Mount{Dest: "/", Input: -1}, &pb.Mount{Dest: "/", Input: -1, Output: 1}),
		"exec with a cache as root":  exec(&pb.Mount{Dest: "/", Input: -1, MountType: pb.MountType_CACHE}),
		"exec on a missing input":    exec(&pb.Mount{Dest: "/", Input: 1}),
		"exec with one output twice": exec(&pb.Mount{Dest: "/", Input: -1}, &pb.Mount{Dest: "/x", Input: -1}),
		"exec with a gap":            exec(&pb.Mount{Dest: "/", Input: -1, Output: 1}),
		"file without actions":       file(),
		"file without output":        file(rm(-1, -1)),
		"file on a missing input":    file(rm(3, 0)),
		"file on itself":             file(rm(0, 0)),
		"file with a gap":            file(rm(-1, 1)),
		"file with an empty action":  file(&pb.FileAction{}),
		"merge of nothing":           merge(),
		"merge of a missing input":   merge(4),
	} {
		dt, err := op.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		last := &pb.Op{Inputs: []*pb.Input{{Digest: digest.FromBytes(dt).String()}}}
		end, err := last.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(&pb.Definition{Def: [][]byte{dt, end}}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	missing := &pb.Op{Inputs: []*pb.Input{{Digest: "sha256:none"}}}
	dt, _ := missing.MarshalVT()
	for name, def := range map[string]*pb.Definition{
		"missing input":   {Def: [][]byte{dt}},
		"no protobuf":     {Def: [][]byte{[]byte("\xff\xff")}},
		"too long":        {Def: make([][]byte, maxVertices+1)},
		"no result":       {Def: [][]byte{{}}},
		"source location": {Def: [][]byte{dt}, Source: &pb.Source{Locations: map[string]*pb.Locations{"x": {Locations: []*pb.Location{{SourceIndex: 7}}}}}},
	} {
		if _, err := Decode(def); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzDecode: no bytes make Decode panic, and what it accepts survives a round trip.
func FuzzDecode(f *testing.F) {
	dt, err := twoStages(f).MarshalVT()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(dt)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, dt []byte) {
		def := &pb.Definition{}
		if def.UnmarshalVT(dt) != nil {
			return
		}
		g, err := Decode(def)
		if err != nil {
			return
		}
		text := g.String()
		back, err := Encode(g)
		if err != nil {
			t.Skip("protobuf refuses what it read: ", err) // text that is not UTF-8
		}
		again, err := Decode(back)
		if err != nil {
			t.Fatal(err)
		}
		if again.String() != text {
			t.Errorf("got\n%s\nwant\n%s", again, text)
		}
	})
}
