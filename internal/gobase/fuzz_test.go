package gobase

import (
	"testing"

	"github.com/moby/buildkit/solver/pb"

	"github.com/skiff-build/skiff/internal/gotoolchain"
	"github.com/skiff-build/skiff/internal/graph"
)

// FuzzScript: whatever a RUN holds, judging it ends, without a panic.
func FuzzScript(f *testing.F) {
	for _, s := range []string{
		"go build -o app . && ./app", "for x in a b; do echo $x; done", "f() { f; }; f", "eval \"eval 'go version'\"", "$CMD", "${A:-${B}}",
		"cat <<EOF\n$(make)\nEOF", "env -u A B=c go run .", "find . -exec sh -c 'echo {}' \\;", "xargs", "cd - && cd; go -C x build", "apk add 'a>1' $B",
		"case $x in a) ;; esac", "[[ a == b ]] && local x", "\\", "go", "go build -o", "git -C", "time", "command -v", "sh -c", "./", "/", "go install ./...",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script string) {
		b := &base{source: &graph.Vertex{}, tag: Tag{Wanted: gotoolchain.Wanted{Ref: "golang:1.26", Go: "1.26"}, Variant: Debian}, arch: "amd64", release: "1.26.8",
			with: map[string]bool{}}
		tr := &tree{base: b, packages: map[string]bool{}, installed: map[string]bool{}, goEnv: map[string]value{}, repos: []string{"/src"}}
		j := &judge{o: Options{Policy: Auto}, trees: trees{}, local: map[string]localFiles{}}
		meta := &pb.Meta{Args: []string{"/bin/sh", "-c", script}, Cwd: "/src", Env: []string{"A=1", "PATH=/bin"}}
		newStep(j, &graph.Vertex{}, &pb.ExecOp{Meta: meta}, tr).run(meta)
	})
}
