// Package bounds says how much foreign bytes may ask for, and what their names may be: of images that are pulled, loaded or
// checked, of archives that ADD unpacks, of base images. What skiff reads was often made by strangers, and a few kilobytes can
// ask for a petabyte, or for hours. All limits stand here, with their reasons; they are far beyond what honest images have.
package bounds

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"

	"github.com/docker/go-units"
)

// ErrEscape is the error for a name, or the target of a hard link, that would leave the root.
var ErrEscape = errors.New("leads outside the root")

// ErrLimit is the error for what asks for more than is allowed here.
var ErrLimit = errors.New("more than is allowed")

// What a name may be. A path of more than 4,096 bytes, with the byte that ends it, cannot be given to Linux (limits.h, PATH_MAX),
// and no part of one can have more than 255 (NAME_MAX). Parents are looked up one by one, each by its whole path, so that a path may cost
// the cube of its depth: 0.1 s for 255 parts, 5 s for 900. The deepest folders of honest images, those of npm, have some 60.
const (
	MaxName  = 4095
	MaxPart  = 255
	MaxDepth = 255
)

// How many things there may be. Five million files are twice what ext4 has inodes for in 40 GB; the largest images have some
// 500,000. An archive of images has a member or two for each layer; Linux mounts 499 layers above each other, and Docker 127.
const (
	MaxEntries = 5_000_000
	MaxMembers = 100_000
	MaxLayers  = 1000
)

// What bytes may become. Honest layers grow to some 20 times their compressed size, and gzip cannot make more than 1,030 times of a
// byte; zstd, xz and the holes of sparse files know no such bound. The slack is for what is small: a sparse file of a gigabyte is a
// few kilobytes. The largest images in use have some 30 GB, so an archive of several may have 200.
const (
	ratio      = 200
	slack      = 2 << 30
	MaxArchive = 200 << 30
)

// Unpacked returns how many bytes may come of stored ones.
func Unpacked(stored int64) int64 {
	if stored < 0 || stored > (math.MaxInt64-slack)/ratio {
		return math.MaxInt64
	}
	return slack + ratio*stored
}

// Grown returns an error, which is [ErrLimit], where stored bytes became more than they may: a bomb.
func Grown(stored, unpacked int64) error {
	if unpacked <= Unpacked(stored) {
		return nil
	}
	return fmt.Errorf("%w: %s unpack to %s and more, which no honest archive does: it is a bomb", ErrLimit,
		units.HumanSize(float64(stored)), units.HumanSize(float64(unpacked)))
}

// Name returns the one form in which skiff knows a name of an archive: relative to the root, with single slashes and no "." or
// ".." in it; the root itself is ".". An absolute name counts from the root, as in tar and Docker, so ./etc, /etc/ and etc are one. One
// that climbs above the root, at whatever place in it, is [ErrEscape]; one that no system can make is [ErrLimit]. Errors leave it to the
// caller to say which name it is.
func Name(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("%w: the name has a byte of zero", ErrLimit)
	}
	// The text that is worked on is bounded first, generously: a long name may be short when it is clean.
	if len(name) > 4*MaxName {
		return "", fmt.Errorf("%w: the name has %d bytes, and a path %d at most", ErrLimit, len(name), MaxName)
	}
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("the name %w", ErrEscape)
	}
	return clean, Path(clean)
}

// Path returns an error, which is [ErrLimit], where a clean path is longer or deeper than allowed. Links on the way make a path that
// is longer than the name of an archive that it came of.
func Path(clean string) error {
	if len(clean) > MaxName {
		return fmt.Errorf("%w: the path has %d bytes, of %d at most", ErrLimit, len(clean), MaxName)
	}
	if len(clean) <= MaxPart { // no part of it can be longer, or lie deeper
		return nil
	}
	depth := 0
	for part := range strings.SplitSeq(clean, "/") {
		if len(part) > MaxPart {
			return fmt.Errorf("%w: a part of the path has %d bytes, of %d at most", ErrLimit, len(part), MaxPart)
		}
		depth++
	}
	if depth > MaxDepth {
		return fmt.Errorf("%w: the path is %d folders deep, of %d at most", ErrLimit, depth, MaxDepth)
	}
	return nil
}

// Meter counts what is read through it.
type Meter struct {
	r io.Reader
	N int64 // bytes so far
}

// NewMeter counts what is read of r.
func NewMeter(r io.Reader) *Meter { return &Meter{r: r} }

func (m *Meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.N += int64(n)
	return n, err
}

// Grow returns what is unpacked of the bytes that stored counts, and ends with an error where it is a bomb.
func Grow(stored *Meter, unpacked io.Reader) io.Reader {
	return &growing{stored: stored, Meter: Meter{r: unpacked}}
}

type growing struct {
	stored *Meter
	Meter
}

func (g *growing) Read(p []byte) (int, error) {
	n, err := g.Meter.Read(p)
	if g.N > slack {
		if over := Grown(g.stored.N, g.N); over != nil {
			return 0, over
		}
	}
	return n, err
}
