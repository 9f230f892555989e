package image

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ParseName reads an image name as Docker does and returns it in full: "alpine" is
// "docker.io/library/alpine:latest". One with a digest keeps it, and has a tag only if it was given.
func ParseName(s string) (string, error) {
	n, err := parseName(s)
	if err != nil {
		return "", err
	}
	return n.String(), nil
}

func parseName(s string) (reference.Named, error) {
	n, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return nil, fmt.Errorf("image name %q: %w", s, err)
	}
	return reference.TagNameOnly(n), nil
}

// parseTag reads a name that may be given to an image: without a digest.
func parseTag(s string) (string, error) {
	n, err := parseName(s)
	if err != nil {
		return "", err
	}
	if _, ok := n.(reference.Digested); ok {
		return "", fmt.Errorf("image name %q: a name for an image cannot have a digest", s)
	}
	return n.String(), nil
}

// FamiliarName is the short form of a full name, as `docker images` shows it: "alpine:latest".
func FamiliarName(full string) string {
	n, err := reference.ParseNormalizedNamed(full)
	if err != nil {
		return full
	}
	return reference.FamiliarString(n)
}

// splitName returns repository, in the short form, and tag of a full name.
func splitName(full string) (repository, tag string) {
	n, err := reference.ParseNormalizedNamed(full)
	if err != nil {
		return full, ""
	}
	if t, ok := n.(reference.Tagged); ok {
		tag = t.Tag()
	}
	return reference.FamiliarName(n), tag
}

// digestOf returns the digest in a full name, if there is one.
func digestOf(n reference.Named) (v1.Hash, bool) {
	d, ok := n.(reference.Digested)
	if !ok {
		return v1.Hash{}, false
	}
	h, err := v1.NewHash(d.Digest().String())
	return h, err == nil
}

// looksLikeID tells whether s can be the start of an image ID, "sha256:" before it or not.
func looksLikeID(s string) (prefix string, ok bool) {
	s, marked := strings.CutPrefix(s, "sha256:")
	if s == "" || len(s) > 64 || strings.Trim(s, "0123456789abcdef") != "" {
		return "", false
	}
	return s, marked || len(s) >= 2
}
