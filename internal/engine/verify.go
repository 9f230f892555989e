package engine

import (
	"context"
	"errors"

	"github.com/skiff-build/skiff/internal/snapshot"
)

// verifyReq names a layer, or a cache mount.
type verifyReq struct{ Layer, Cache string }

type verifyResp struct{ Removed []string } // files of the cache

// VerifyLayer looks at the whole content of a layer, and drops it if it is damaged: then it returns a *[snapshot.Damaged].
func (e *Engine) VerifyLayer(ctx context.Context, id string) error {
	return e.call(ctx, methodVerify, verifyReq{Layer: id}, nil, nil)
}

// VerifyCache looks at what the name of a file in one of Go's build caches says of its content, removes files that are damaged, and
// returns their names.
func (e *Engine) VerifyCache(ctx context.Context, name string) ([]string, error) {
	var resp verifyResp
	err := e.call(ctx, methodVerify, verifyReq{Cache: name}, &resp, nil)
	return resp.Removed, err
}

// IsDamaged reports whether an error says that a layer was dropped.
func IsDamaged(err error) bool {
	var d *snapshot.Damaged
	return errors.As(err, &d)
}
