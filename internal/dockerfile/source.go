package dockerfile

import (
	"bytes"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/errdefs"
)

// Source is each place of a Dockerfile that err is about, printed once as docker does (file:line and the lines around it), or
// "" where err is not about one.
func Source(err error) string {
	var seen []string
	for _, src := range errdefs.Sources(err) {
		var b bytes.Buffer
		if src.Print(&b) == nil && b.Len() > 0 && !slices.Contains(seen, b.String()) {
			seen = append(seen, b.String())
		}
	}
	return strings.Join(seen, "")
}
