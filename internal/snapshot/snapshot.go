// Package snapshot shows chains of layers as one file system, and makes new layers.
//
// A layer is the directory ROOT/layers/ID/fs in the form of an overlayfs upper directory: files as they
// are (attributes as in package inode), and marks for what it hides of the layers below it (package
// whiteout). It is never changed once it is there. A chain is layer ids, lowest first.
//
// [Snapshots.Mount] and [Snapshots.Prepare] mount overlayfs, always with userxattr, so that layers made
// by root and by users have one form; that needs Linux 5.11 and, without root, a user namespace of our
// own. [Snapshots.Tree] gives the same view for reading without a mount. A new layer is written below
// ROOT/tmp and appears by one rename.
//
// Within one layer two paths share an inode exactly when the step that made it linked them: files are
// not stored twice as hard links of each other anywhere. Package layer relies on that to write hard links.
// (Writing to one of two linked files of a lower layer breaks the link, as overlayfs copies one name up.)
//
// A Snapshots may be used from several goroutines and several processes at once.
package snapshot

import (
	"fmt"
	"strings"
)

// MaxLayers is the length of the longest chain: overlayfs stacks 500 directories (OVL_MAX_STACK), and a
// layer whose whiteouts are markers takes two. Images end at 127 layers.
const MaxLayers = 499

// Unavailable says that overlayfs cannot be used here.
type Unavailable struct {
	Cause string // what is wrong, with its object
	Mend  string // what a person can do about it
	Err   error  // from the kernel, may be nil
}

func (e *Unavailable) Error() string {
	s := "overlayfs cannot be used: " + e.Cause
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + "; " + e.Mend
}

func (e *Unavailable) Unwrap() error { return e.Err }

// checkChain refuses what no chain can be: ids come from records, which may be damaged.
func checkChain(chain []string) error {
	if len(chain) > MaxLayers {
		return fmt.Errorf("chain of %d layers: overlayfs stacks at most %d", len(chain), MaxLayers)
	}
	for _, id := range chain {
		if err := checkID(id); err != nil {
			return err
		}
	}
	return nil
}

func checkID(id string) error {
	if id == "" || id == "." || id == ".." || strings.ContainsAny(id, "/\x00") {
		return fmt.Errorf("%q is no layer id", id)
	}
	return nil
}
