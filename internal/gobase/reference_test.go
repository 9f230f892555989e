package gobase

import (
	"errors"
	"testing"
)

func TestParseReference(t *testing.T) {
	tests := []struct {
		ref     string
		golang  bool
		want    string
		variant Variant
		exact   bool
		why     bool
	}{
		{"docker.io/library/golang:1.26-alpine", true, "1.26", Alpine, false, false},
		{"golang:1.26.8-alpine3.22", true, "1.26.8", Alpine, true, false},
		{"golang", true, "", Debian, false, false},
		{"golang:latest", true, "", Debian, false, false},
		{"golang:alpine", true, "", Alpine, false, false},
		{"golang:alpine3.20", true, "", Alpine, false, false},
		{"golang:1", true, "1", Debian, false, false},
		{"golang:1.26", true, "1.26", Debian, false, false},
		{"golang:bookworm", true, "", Debian, false, false},
		{"golang:1.24-bookworm", true, "1.24", Debian, false, false},
		{"golang:1.26rc1-alpine", true, "1.26rc1", Alpine, true, false},
		{"golang:1.13-alpine", true, "1.13", Alpine, false, false},
		{"mirror.gcr.io/library/golang:1.26", true, "1.26", Debian, false, false},
		{"public.ecr.aws/docker/library/golang:1.26-trixie", true, "1.26", Debian, false, false},
		{"golang:1.26-alpine@sha256:aa", true, "1.26", Alpine, false, false},
		{"golang@sha256:aa", true, "", Debian, false, true},
		{"golang:1.26-windowsservercore-ltsc2022", true, "1.26", Debian, false, true},
		{"golang:1.26-nanoserver", true, "1.26", Debian, false, true},
		{"golang:tip-alpine", true, "", Debian, false, true},
		{"golang:1.26-cross", true, "1.26", Debian, false, true},
		{"localhost:5000/golang:1.26", false, "", "", false, false},
		{"docker.io/bitnami/golang:1.26", false, "", "", false, false},
		{"alpine:3.20", false, "", "", false, false},
	}
	for _, tt := range tests {
		tag, ok, err := ParseReference(tt.ref)
		if ok != tt.golang || (err != nil) != tt.why {
			t.Errorf("%s: golang %v, error %v", tt.ref, ok, err)
			continue
		}
		var unserved *UnservedTag
		if tt.why && !errors.As(err, &unserved) {
			t.Errorf("%s: error %v is no *UnservedTag", tt.ref, err)
		}
		if tt.why || !ok {
			continue
		}
		if tag.Go != tt.want || tag.Variant != tt.variant || tag.Exact() != tt.exact {
			t.Errorf("%s: Go %q %s exact %v, want %q %s %v", tt.ref, tag.Go, tag.Variant, tag.Exact(), tt.want, tt.variant, tt.exact)
		}
	}
}

func TestIdentity(t *testing.T) {
	id := Identity{Release: "1.26.8", Variant: Alpine, Arch: "amd64", With: []string{"bash", "git"}}
	if s := id.String(); s != "gobase://1.26.8/alpine/amd64?with=bash,git" {
		t.Errorf("identifier %s", s)
	}
	back, err := ParseIdentity(id.String())
	if err != nil || back.String() != id.String() {
		t.Errorf("%v, error %v", back, err)
	}
	for _, bad := range []string{"", "gobase://", "gobase://1.26/plan9/amd64", "gobase://1.26.8/alpine", "docker-image://x", "gobase://1/alpine/a/b"} {
		if _, err := ParseIdentity(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
