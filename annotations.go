package skiff

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/platforms"

	"github.com/skiff-build/skiff/internal/image"
)

// annotationText is "[LEVEL[,LEVEL...]:]KEY=VALUE", as in docker buildx build --annotation; a level may name a platform in
// brackets.
var annotationText = regexp.MustCompile(`^(?:([a-z-]+(?:\[[A-Za-z0-9_/.-]+\])?(?:,[a-z-]+(?:\[[A-Za-z0-9_/.-]+\])?)*):)?([^=:]\S*?)=((?s).*)$`)

// annotationLevels are those of buildx but index-descriptor: the descriptor of the whole is none of the image's own.
var annotationLevels = []string{"manifest", "manifest-descriptor", "index"}

// annotations are those of an image that --annotation gives it: those of platform ("linux/amd64") and of all.
func annotations(list []string, platform string) (image.Annotations, error) {
	var out image.Annotations
	for _, text := range list {
		levels, key, value, err := parseAnnotation(text)
		if err != nil {
			return out, err
		}
		for _, level := range levels {
			level, only, _ := strings.Cut(strings.TrimSuffix(level, "]"), "[")
			if only != "" {
				p, err := platforms.Parse(only)
				if err != nil {
					return out, fmt.Errorf("annotation %q: %w", text, err)
				}
				if platforms.FormatAll(platforms.Normalize(p)) != platform {
					continue
				}
			}
			to := map[string]*map[string]string{
				"manifest": &out.Manifest, "manifest-descriptor": &out.ManifestDescriptor,
				"index": &out.Index,
			}[level]
			if *to == nil {
				*to = map[string]string{}
			}
			(*to)[key] = value
		}
	}
	return out, nil
}

func parseAnnotation(text string) (levels []string, key, value string, err error) {
	m := annotationText.FindStringSubmatch(text)
	if m == nil {
		return nil, "", "", fmt.Errorf("annotation %q: want KEY=VALUE or LEVEL:KEY=VALUE", text)
	}
	levels, key, value = []string{"manifest"}, m[2], m[3]
	if m[1] != "" {
		levels = strings.Split(m[1], ",")
	}
	for _, l := range levels {
		name, _, _ := strings.Cut(l, "[")
		if !slices.Contains(annotationLevels, name) {
			return nil, "", "", fmt.Errorf("annotation %q: level %q: choose one of %s", text, name, strings.Join(annotationLevels, ", "))
		}
	}
	return levels, key, value, nil
}

// errNoIndex is BuildKit's answer to annotations of an index where there is none.
var errNoIndex = errors.New("annotations of an index and of descriptors in it: an image for one platform has no index")
