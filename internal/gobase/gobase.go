// Package gobase is the built-in Go base: what stands in the place of the image golang:TAG in a stage
// that does not ship. Its data go three ways:
//
//   - a reference such as golang:1.26-alpine becomes a [Tag], then a released Go version, then the
//     toolchain module of that version, verified against the checksum database (internal/gotoolchain);
//   - [Wrap] puts a decision around the Dockerfile frontend: it reads the final LLB and either rewrites the
//     golang source to gobase://VERSION/VARIANT/ARCH, or lets the real image stand, with the reason;
//   - [Bases] turns such an identifier into the tar streams of two layers: the small files of the root,
//     and /usr/local/go. What the commands in that root do is internal/busybox's: they are all this program ([Applet]).
//
// The rule is that a binary built in the base is bit for bit what the image of that Go version gives. What
// would break it unnoticed (cgo, version control stamps, commands that are not there) is refused.
package gobase

import (
	"github.com/skiff-build/skiff/internal/busybox"
	"github.com/skiff-build/skiff/internal/gotoolchain"
	"github.com/skiff-build/skiff/internal/store"
)

// LibexecPath is where this very program is bound inside a step of the base.
const LibexecPath = busybox.LibexecPath

// Scheme begins the identifier of a source op that the built-in base serves.
const Scheme = "gobase://"

// The kinds of records that are kept here.
const (
	kindDigest  = store.KindGoDigest
	kindFilled  = store.KindGoFilled
	kindOtherGo = store.KindGoOther
)

// atLeast reports whether the line of a release is line or newer. What a Dockerfile's step does, and whether it is served, often goes by
// that.
func atLeast(release, line string) bool { return gotoolchain.AtLeast(release, line) }
