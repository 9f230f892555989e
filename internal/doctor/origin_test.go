package doctor_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/skiff-build/skiff/internal/doctor"
	"github.com/skiff-build/skiff/internal/skifftest"
)

// scratchDockerfile is the usual first try, with everything that can be said of one.
var scratchDockerfile = &doctor.Dockerfile{File: "Dockerfile", Target: 2, Stages: []doctor.Stage{
	{Name: "builder", Base: "golang", From: doctor.Instruction{Line: 1, Name: "FROM", Text: "FROM golang AS builder"}, Instructions: []doctor.Instruction{
		{Line: 2, Name: "RUN", Text: "RUN go mod tidy && go build -a -o /src/app ."},
		{Line: 3, Name: "RUN", Text: "RUN --mount=from=tools,target=/tools go build ./..."},
	}},
	{Name: "unused", Base: "debian:latest", From: doctor.Instruction{Line: 4, Name: "FROM", Text: "FROM debian:latest AS unused"}, Instructions: []doctor.Instruction{
		{Line: 5, Name: "RUN", Text: "RUN go mod tidy"}}},
	{Base: "scratch", From: doctor.Instruction{Line: 6, Name: "FROM", Text: "FROM scratch"}, Instructions: []doctor.Instruction{
		{Line: 7, Name: "WORKDIR", Text: "WORKDIR /data"},
		{Line: 8, Name: "COPY", Text: "COPY --from=builder /src /", From: "builder", Sources: []string{"/src"}, Dest: "/"},
		{Line: 9, Name: "ENV", Text: "ENV API_TOKEN=abc123"},
		{Line: 10, Name: "ENTRYPOINT", Text: `ENTRYPOINT ["/app"]`},
	}},
}}

// scratchImage is what BuildKit's frontend makes of it.
func scratchImage(t *testing.T) v1.Image {
	img := skifftest.Image(t, v1.Config{Entrypoint: []string{"/app"}, Env: []string{"API_TOKEN=abc123"}},
		skifftest.Layer(t, entry{Name: "data/"}),
		skifftest.Layer(t, entry{Name: "app", File: build(t, "all", "-ldflags=-s -w"), Mode: 0o755}, entry{Name: "go.mod", Body: "module x\n"},
			entry{Name: "main.go", Body: "package main\n"}))
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.History = []v1.History{
		{CreatedBy: "WORKDIR /data"}, {CreatedBy: "COPY /src / # buildkit"}, {CreatedBy: "ENV API_TOKEN=abc123", EmptyLayer: true},
		{CreatedBy: `ENTRYPOINT ["/app"]`, EmptyLayer: true},
	}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// TestLines: findings name the instructions that they come from.
func TestLines(t *testing.T) {
	r := examine(t, scratchImage(t), doctor.Options{Name: "app:1", Dockerfile: scratchDockerfile})
	var got []string
	for _, f := range r.Findings {
		if f.Source == nil {
			t.Errorf("no line: %+v", f)
			continue
		}
		got = append(got, fmt.Sprintf("%d %s", f.Source.Line, f.ID))
	}
	want := []string{
		"8 ca-certificates", "8 time-zones", "8 temp-dir", "9 secret",
		"8 program", "6 root-user", "8 sources", "1 unpinned-base", "2 go-mod-tidy", "2 go-build-a",
	}
	// users: a program of the superuser finds HOME and no passwd.
	want = slices.Insert(want, 4, "8 users")
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for i, line := range []int{7, 8} {
		if s := r.Layers[i].Source; s == nil || s.Line != line {
			t.Errorf("layer %d comes from %v", i+1, s)
		}
	}
}

// TestLinesOfTriggers: what an ONBUILD of the stage below did has the line of that instruction, and leaves the lines of others alone.
func TestLinesOfTriggers(t *testing.T) {
	plain := build(t, "plain", "-ldflags=-s -w")
	img := skifftest.Image(t, v1.Config{Entrypoint: []string{"/app"}}, skifftest.Layer(t, entry{Name: "a"}),
		skifftest.Layer(t, entry{Name: "app", File: plain, Mode: 0o755}), skifftest.Layer(t, entry{Name: "b"}))
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.History = []v1.History{{CreatedBy: "COPY a /a # buildkit"}, {CreatedBy: "COPY app /app # buildkit"}, {CreatedBy: "COPY b /b # buildkit"}}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	r := examine(t, img, doctor.Options{Dockerfile: &doctor.Dockerfile{File: "Dockerfile", Target: 1, Stages: []doctor.Stage{
		{Name: "base", Base: "scratch", From: doctor.Instruction{Line: 1, Name: "FROM"}, Instructions: []doctor.Instruction{
			{Line: 2, Name: "COPY", Text: "COPY a /a"}, {Line: 3, Name: "ONBUILD", Text: "ONBUILD COPY app /app"}}},
		{Base: "base", From: doctor.Instruction{Line: 4, Name: "FROM"}, Instructions: []doctor.Instruction{
			{Line: 5, Name: "COPY", Text: "COPY b /b"}, {Line: 6, Name: "ONBUILD", Text: "ONBUILD RUN x"}}},
	}}})
	for i, line := range []int{2, 3, 5} {
		if s := r.Layers[i].Source; s == nil || s.Line != line {
			t.Errorf("layer %d comes from %v, not from line %d", i+1, s, line)
		}
	}
}

// TestText holds what people read.
func TestText(t *testing.T) {
	r := examine(t, scratchImage(t), doctor.Options{Name: "app:1", Dockerfile: scratchDockerfile})
	// What depends on the toolchain is made the same.
	r.ID, r.Digest, r.Bytes, r.StageBytes, r.Platform = "sha256:0123456789abcdef", "sha256:feedfeed", 7_000_000, 270_000_000, "linux/amd64"
	for i := range r.Programs {
		r.Programs[i].GoVersion = "go1.26.8"
		r.Programs[i].Needs = []string{"ca-certificates: linked", "time-zones: linked"} // the rules have tests of their own
	}
	for i := range r.Findings {
		r.Findings[i].Evidence = r.Findings[i].Evidence[:min(1, len(r.Findings[i].Evidence))]
		if r.Findings[i].Supplied {
			r.Findings[i].Evidence = []string{"a function that is called by another"}
		}
	}
	for i := range r.Layers {
		r.Layers[i].Bytes, r.Layers[i].Compressed = 7_000_000, 3_000_000
	}
	for i := range r.Largest {
		r.Largest[i].Bytes = 7_000_000
	}
	r.Undecided = []string{"/app may need something: nobody knows"}
	r.Ignore([]string{"go-build-a"})
	var findings, all strings.Builder
	if err := r.WriteFindings(&findings); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteText(&all); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(all.String(), "abc123") {
		t.Error("the secret is told")
	}
	skifftest.Golden(t, "findings.txt", findings.String())
	skifftest.Golden(t, "report.txt", all.String())
	skifftest.Golden(t, "summary.txt", strings.Join(r.Summary(doctor.Warning), "\n")+"\n")
}

func TestIgnored(t *testing.T) {
	text := "# skiff: ignore=a,b\nFROM scratch\n  #skiff:ignore=c\n# skiff ignore=d\nRUN echo '# skiff: ignore=e'\n# skiff: ignore=f because of that\n"
	if got := doctor.Ignored(text); !slices.Equal(got, []string{"a", "b", "c", "f"}) {
		t.Errorf("%q", got)
	}
}
