package snapshot

import (
	"fmt"
	"strings"
)

// Damaged says that layers are gone, or not what was committed. They are out of the way now, so that a build makes them again.
type Damaged struct {
	Layers []string // ids
}

func (e *Damaged) Error() string {
	return fmt.Sprintf("layer %s in skiff's state was damaged or is gone, and is dropped now: the same command again makes it anew", strings.Join(e.Layers, ", "))
}
