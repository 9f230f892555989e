package goaware

import (
	"testing"

	"github.com/moby/buildkit/solver/pb"
)

func TestFollowsFromInputs(t *testing.T) {
	for text, want := range map[string]bool{
		"go build -o /app ./cmd/x":                       true,
		"set -e; go vet ./... && go install ./...":       true,
		"mkdir -p /out && go build -o /out ./...":        true,
		`go build -ldflags "-X main.v=$(cat VERSION)" .`: true,
		"go mod download":                                true,
		"go install example.com/x@v1.2.3":                true,
		"echo hello":                                     false, // no go command
		"go version":                                     false,
		"go get ./...":                                   false,
		"go mod tidy":                                    false,
		"go build -mod=mod .":                            false,
		"go build -mod mod .":                            false,
		"GOFLAGS=-mod=mod go build .":                    false,
		"go install example.com/x@latest":                false,
		"go list -m -u all":                              false,
		"go list -m -versions example.com/x":             false,
		"go test ./...":                                  false,
		`go build -ldflags "-X main.t=$(date)" .`:        false,
		"[ a -nt b ] || go build .":                      false,
		"go build . && ls -l > list":                     false,
		"go build . && curl -o /x https://example.com/":  false,
		"touch stamp && go build .":                      false,
	} {
		env := map[string]string{"GOLANG_VERSION": "1.26.8"}
		s := &step{op: &pb.ExecOp{}, env: env, script: readScript([]string{"/bin/sh", "-c", text}, env)}
		if got := s.followsFromInputs(); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	old := map[string]string{"GOLANG_VERSION": "1.15.1"}
	s := &step{op: &pb.ExecOp{}, env: old, script: readScript([]string{"/bin/sh", "-c", "go build ."}, old)}
	if s.followsFromInputs() {
		t.Error("a Go whose default is -mod=mod")
	}
}
