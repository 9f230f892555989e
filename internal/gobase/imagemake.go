package gobase

import (
	"cmp"
	"slices"

	"github.com/skiff-build/skiff/internal/gotoolchain"
)

// The make of golang's images. Debian (tracker.debian.org/pkg/make-dfsg): bullseye and bookworm have 4.3, trixie has 4.4.1, buster has
// 4.2.1, which gnumake is not. Alpine (pkgs.alpinelinux.org, main/make), after apk add: 3.12 to 3.17 have 4.3, later ones 4.4.1. On
// what a tag without a distribution's name lies for each release stands in the history of github.com/docker-library/golang,
// versions.json: the last state of a release counts, since its tag moved.

// golangImage says what the tags of a release, and of those after it, lie on.
type golangImage struct {
	since  string
	debian string // empty: not known
	alpine string // the version of make in Alpine's default
}

// golangImages are in descending order. 1.23.12 was the last of its line when the default became trixie.
var golangImages = []golangImage{
	{"1.24.6", "trixie", "4.4.1"},
	{"1.24.0", "bookworm", "4.4.1"},
	{"1.23.12", "", "4.4.1"},
	{"1.20.5", "bookworm", "4.4.1"},
	{"1.20.4", "bullseye", "4.4.1"},
	{"1.20", "bullseye", "4.3"},
	{"1.19.10", "bookworm", "4.4.1"},
	{"1.19.9", "bullseye", "4.4.1"},
	{"1.16.7", "bullseye", "4.3"},
	{"1.16", "buster", "4.3"},
}

// makeVersion is the version of make in an image, where a release of Go is what its tag means; empty where it is none that gnumake has.
func makeVersion(tag Tag, release string) string {
	at := slices.IndexFunc(golangImages, func(i golangImage) bool { return gotoolchain.Compare(release, i.since) >= 0 })
	image := golangImage{}
	if at >= 0 {
		image = golangImages[at]
	}
	if tag.Variant == Alpine {
		switch {
		case tag.Distro == "":
			return image.alpine
		case gotoolchain.Compare("1"+tag.Distro[1:], "1.18") >= 0: // 3.18 has the form of a version of Go but for its first number
			return "4.4.1"
		case gotoolchain.Compare("1"+tag.Distro[1:], "1.12") >= 0:
			return "4.3"
		}
		return ""
	}
	switch cmp.Or(tag.Distro, image.debian) {
	case "bullseye", "bookworm":
		return "4.3"
	case "trixie":
		return "4.4.1"
	}
	return ""
}
