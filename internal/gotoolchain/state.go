package gotoolchain

import (
	"context"
	"io"

	"github.com/skiff-build/skiff/internal/store"
)

// The kinds of records that are kept here.
const (
	kindModule    = store.KindGoModule
	kindRoot      = store.KindGoRoot
	kindRelease   = store.KindGoRelease
	kindToolchain = store.KindGoToolchain
)

// State is what is kept between builds: small records by name, and toolchain zips as blobs. The store is
// one ([StoreState]). The base in internal/gobase keeps its records there too. Implementations are safe for concurrent use, by several processes too.
type State interface {
	// Dir is a folder for the checksum database's proven state. It need not exist.
	Dir() string
	// Load fills v from the record; any error means that there is none.
	Load(kind store.Kind, name string, v any) error
	Save(kind store.Kind, name string, v any) error
	// Names lists the names of the records of a kind.
	Names(kind store.Kind) []string
	// Blob returns the path of a blob by its digest, "sha256:…"; an error where it is gone.
	Blob(digest string) (path string, err error)
	// WriteBlob keeps r; size is -1 where it is not known.
	WriteBlob(ctx context.Context, r io.Reader, size int64) (digest string, err error)
	// Lock keeps others from doing the same work at the same time.
	Lock(ctx context.Context, name string) (unlock func(), err error)
}
