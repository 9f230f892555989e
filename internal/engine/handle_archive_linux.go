package engine

import (
	"bufio"
	"context"
	"errors"
)

// archive writes the state into the descriptor that came with the call, or reads it from there.
func archive(ctx context.Context, j *job, req archiveReq) (any, error) {
	if len(j.Files()) != 1 {
		return nil, errors.New("the descriptor did not come with the call")
	}
	f := j.Files()[0]
	if req.Load {
		return nil, j.snaps.Load(ctx, bufio.NewReaderSize(f, 1<<20))
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if err := j.snaps.Save(ctx, w, req.Skip); err != nil {
		return nil, err
	}
	return nil, w.Flush()
}
