package image

import (
	"context"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Step is a line of an image's history, as its config has it.
type Step struct {
	Created   time.Time // zero where the config does not say
	CreatedBy string
	Comment   string
	Size      int64 // bytes of the regular files in its layer; 0 for a step without one
}

// History returns the steps by which an image was made, the newest first; of an index, those of the image for p (nil: this machine's).
// Layers that the history does not know are steps of their own.
func (l *Library) History(ctx context.Context, ref string, p *v1.Platform) ([]Step, error) {
	c, err := l.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	img, err := imageFor(c, p)
	if err != nil {
		return nil, err
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	var steps []Step
	for _, h := range cf.History {
		s := Step{Created: h.Created.Time, CreatedBy: h.CreatedBy, Comment: h.Comment}
		if !h.EmptyLayer && len(layers) > 0 {
			if s.Size, err = l.layerFiles(ctx, layers[0]); err != nil {
				return nil, err
			}
			layers = layers[1:]
		}
		steps = append([]Step{s}, steps...)
	}
	for _, layer := range layers {
		size, err := l.layerFiles(ctx, layer)
		if err != nil {
			return nil, err
		}
		steps = append([]Step{{Size: size}}, steps...)
	}
	return steps, nil
}
