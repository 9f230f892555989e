package gobase

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/skiff-build/skiff/internal/busybox"
	"github.com/skiff-build/skiff/internal/gotoolchain"
)

// Variant is the distribution that an official golang image is made from.
type Variant = busybox.Variant

// The variants that the base imitates.
const (
	Alpine = busybox.Alpine
	Debian = busybox.Debian
)

// Tag is what a reference to the official golang image asks for.
type Tag struct {
	gotoolchain.Wanted
	Variant Variant // Debian where the tag names none
	Distro  string  // "3.22", "bookworm", …; empty where the tag leaves it open
	Digest  string  // sha256:…, empty without one
}

// officialNames are the repositories that hold the Docker official image: the library itself and the two
// public mirrors that copy it unchanged (cloud.google.com/artifact-registry/docs/pull-cached-dockerhub-images,
// gallery.ecr.aws/docker/library/golang).
var officialNames = map[string]bool{
	"golang":                                 true,
	"library/golang":                         true,
	"docker.io/golang":                       true,
	"docker.io/library/golang":               true,
	"index.docker.io/library/golang":         true,
	"mirror.gcr.io/library/golang":           true,
	"public.ecr.aws/docker/library/golang":   true,
	"registry-1.docker.io/library/golang":    true,
	"registry.hub.docker.com/library/golang": true,
}

// UnservedTag is a reference to the official golang image that the base cannot stand for.
type UnservedTag struct {
	Ref, Why string
}

func (e *UnservedTag) Error() string { return fmt.Sprintf("%s: %s", e.Ref, e.Why) }

var (
	goVersionRE = regexp.MustCompile(`^(1(?:\.\d+){0,2}(?:(?:rc|beta)\d+)?)(?:-|$)`)
	debianNames = map[string]bool{
		"jessie": true, "stretch": true, "buster": true, "bullseye": true, "bookworm": true, "trixie": true,
		"forky": true, "wheezy": true, "sid": true,
	}
	alpineRE = regexp.MustCompile(`^alpine(\d+\.\d+)?$`)
)

// ParseReference reads an image reference. ok is false where it is not the official golang image at all;
// the error, an [*UnservedTag], says why a reference to golang cannot be served.
func ParseReference(ref string) (tag Tag, ok bool, err error) {
	name, digest, _ := strings.Cut(strings.TrimPrefix(ref, "docker-image://"), "@")
	name, text := splitTag(name)
	if !officialNames[name] {
		return Tag{}, false, nil
	}
	tag = Tag{Wanted: gotoolchain.Wanted{Ref: ref}, Digest: digest, Variant: Debian}
	if text == "" && digest != "" {
		return tag, true, &UnservedTag{ref, "a digest without a tag does not say which Go it is, unless its registry can be asked (write the tag beside it, as in golang:1.26-alpine@sha256:…)"}
	}
	if why := tag.parse(text); why != "" {
		return tag, true, &UnservedTag{ref, why}
	}
	return tag, true, nil
}

// splitTag cuts "host:5000/name:tag" at the tag's colon.
func splitTag(name string) (repo, tag string) {
	colon := strings.LastIndexByte(name, ':')
	if colon <= strings.LastIndexByte(name, '/') {
		return name, ""
	}
	return name[:colon], name[colon+1:]
}

// parse fills Go, Variant and Distro from the text of a tag; it returns why the tag cannot be served.
func (t *Tag) parse(text string) (why string) {
	rest := text
	if m := goVersionRE.FindStringSubmatch(text); m != nil {
		t.Go = m[1]
		rest = strings.TrimPrefix(text[len(m[1]):], "-")
	}
	switch m := alpineRE.FindStringSubmatch(rest); {
	case rest == "" || rest == "latest":
	case m != nil:
		t.Variant, t.Distro = Alpine, m[1]
	case debianNames[rest]:
		t.Distro = rest
	case strings.HasPrefix(rest, "windows") || strings.HasPrefix(rest, "nanoserver"):
		return "images for Windows are not served"
	case strings.HasPrefix(rest, "tip"):
		return "unreleased Go is not served"
	case strings.HasPrefix(rest, "onbuild"):
		return "the onbuild variant runs instructions of its own"
	default:
		return fmt.Sprintf("the tag %q is not known", text)
	}
	return ""
}
