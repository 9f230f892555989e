package image

import (
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// PlatformError says that an index has no image for a platform.
type PlatformError struct {
	Want  string
	There []string
}

func (e *PlatformError) Error() string {
	return fmt.Sprintf("no image for %s: there is %s", e.Want, strings.Join(e.There, ", "))
}

// pickManifest returns the entry of an index that fits p best, as containerd chooses: linux/arm/v7 takes v6 where
// there is no v7. With p nil it is that of this machine, else the first.
func pickManifest(m *v1.IndexManifest, p *v1.Platform) (v1.Descriptor, error) {
	want := hostPlatform()
	if p != nil {
		want = *p
	}
	match := platforms.Only(ociPlatform(want))
	var best *v1.Descriptor
	var first *v1.Descriptor
	var there []string
	for i := range m.Manifests {
		d := &m.Manifests[i]
		if !isRunnable(*d) {
			continue
		}
		if first == nil {
			first = d
		}
		if d.Platform == nil {
			continue
		}
		there = append(there, d.Platform.String())
		have := ociPlatform(*d.Platform)
		if match.Match(have) && (best == nil || match.Less(have, ociPlatform(*best.Platform))) {
			best = d
		}
	}
	switch {
	case best != nil:
		return *best, nil
	case first != nil && (p == nil || len(there) == 0):
		return *first, nil
	case first == nil:
		return v1.Descriptor{}, fmt.Errorf("image index holds no image")
	}
	return v1.Descriptor{}, &PlatformError{Want: want.String(), There: there}
}

func ociPlatform(p v1.Platform) ocispecs.Platform {
	return platforms.Normalize(ocispecs.Platform{
		OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures,
	})
}
