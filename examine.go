package skiff

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/dockerfile"
	"github.com/skiff-build/skiff/internal/doctor"
	"github.com/skiff-build/skiff/internal/image"
)

// origin is the Dockerfile that an image was built from.
type origin struct {
	File   string `json:"file"`
	Target string `json:"target,omitempty"`
	Text   []byte `json:"text"`
}

// dockerfile takes the text apart. One that cannot be read was no Dockerfile for the frontend either.
func (o *origin) dockerfile() *doctor.Dockerfile {
	if o == nil {
		return nil
	}
	stages, target, err := dockerfile.Stages(o.Text, o.Target)
	if err != nil {
		return nil
	}
	out := &doctor.Dockerfile{File: o.File, Target: target}
	for _, s := range stages {
		stage := doctor.Stage{Name: s.Name, Base: s.Base, From: doctor.Instruction(s.From)}
		for _, i := range s.Instructions {
			stage.Instructions = append(stage.Instructions, doctor.Instruction(i))
		}
		out.Stages = append(out.Stages, stage)
	}
	return out
}

// checkup is the doctor's part in a build.
type checkup struct {
	state  *State
	o      BuildOptions
	note   func(string)
	origin *origin // nil without a Dockerfile
	known  known   // programs; nil for none
}

func newCheckup(s *State, o BuildOptions, st *steps, from *origin) *checkup {
	return &checkup{state: s, o: o, note: st.note, origin: from}
}

// wanted says that somebody will read the reports.
func (c *checkup) wanted() bool { return c.o.Examine || c.strict() }

// strict says that findings may fail the build.
func (c *checkup) strict() bool { return c.o.Strict != "" }

// start examines images beside what else is done with them; the function that it returns waits for the reports.
func (c *checkup) start(ctx context.Context, images []v1.Image) func() ([]*Report, error) {
	wait := sync.OnceValues(func() ([]*Report, error) { return c.examine(ctx, images) })
	if c.wanted() {
		go wait()
	}
	return wait
}

// examine reports on images, one for each platform. Only where findings are to fail the build does an error of its own do so.
func (c *checkup) examine(ctx context.Context, images []v1.Image) ([]*Report, error) {
	if !c.wanted() {
		return nil, nil
	}
	var reports []*Report
	for _, img := range images {
		r, err := c.state.examined(ctx, img, c.origin, c.known)
		if err != nil {
			if !c.strict() && ctx.Err() == nil {
				c.note(fmt.Sprintf("the image could not be checked: %v", err))
				continue
			}
			return nil, err
		}
		if len(c.o.Tags) > 0 {
			r.Name = image.FamiliarName(c.o.Tags[0])
		}
		r.Ignore(c.ignored())
		reports = append(reports, r)
	}
	if c.strict() && slices.ContainsFunc(reports, func(r *Report) bool { return len(r.Summary(c.o.Strict)) > 0 }) {
		return reports, &FindingsError{Reports: reports, Level: c.o.Strict}
	}
	return reports, nil
}

// ignored are the ids that the options and the Dockerfile say to leave out. Of those in the Dockerfile one may be newer than this
// skiff: it is told, and is no error.
func (c *checkup) ignored() []string {
	ids := slices.Clone(c.o.Ignore)
	if c.origin == nil {
		return ids
	}
	for _, id := range doctor.Ignored(string(c.origin.Text)) {
		if !slices.Contains(doctor.IDs, id) {
			c.note(fmt.Sprintf("%s: # skiff: ignore=%s: there is no such finding", c.origin.File, id))
		}
		ids = append(ids, id)
	}
	return ids
}

// supplement is the record of the layer that completes an image, by the digest of the image and the version of the rules.
type supplement struct {
	Blobs  []string `json:"blobs"` // the layer
	DiffID string   `json:"diffID,omitempty"`
	Size   int64    `json:"size,omitempty"`
	Files  int64    `json:"files,omitempty"`
	Env    []string `json:"env,omitempty"`
	Kinds  []string `json:"kinds,omitempty"`
}

// complete adds what programs need and the image lacks to the parts of an image, of which img was made.
func (c *checkup) complete(ctx context.Context, img v1.Image, spec image.Spec) (v1.Image, error) {
	s, err := c.supplement(ctx, img, spec.Epoch)
	if err != nil {
		return nil, fmt.Errorf("add what is missing: %w", err)
	}
	if len(s.Kinds) == 0 {
		return img, nil
	}
	if spec.Config, err = withEnv(spec.Config, s.Env); err != nil {
		return nil, fmt.Errorf("add what is missing: %w", err)
	}
	by := "skiff build --add-missing # " + strings.Join(s.Kinds, ", ")
	if s.DiffID != "" {
		diffID, err := v1.NewHash(s.DiffID)
		if err != nil {
			return nil, fmt.Errorf("add what is missing: %w", err)
		}
		spec.Layers = append(spec.Layers, image.Layer{DiffID: diffID, Size: s.Size, CreatedBy: by})
	}
	c.note("adding what is missing: " + strings.Join(s.Kinds, ", "))
	return c.state.library.Assemble(ctx, spec)
}

// supplement finds out what is missing, and makes the layer.
func (c *checkup) supplement(ctx context.Context, img v1.Image, epoch time.Time) (s supplement, err error) {
	key, err := reportKey(fmt.Sprintf("supplement at %d", epoch.Unix()), img, nil)
	if err != nil {
		return s, err
	}
	if c.state.store.Get(recordReport, key, &s) == nil && c.have(s) {
		return s, nil
	}
	supply, err := doctor.Missing(ctx, img, c.state.doctorOptions(nil, c.known))
	if err != nil {
		return s, err
	}
	s = supplement{Blobs: []string{}, Env: supply.Env, Files: supply.Bytes()}
	for _, k := range supply.Kinds {
		s.Kinds = append(s.Kinds, string(k))
	}
	if len(supply.Files) > 0 {
		h, size, err := c.state.store.MakeBlob(ctx, func(w io.Writer) error { return supply.WriteLayer(w, epoch) })
		if err != nil {
			return s, err
		}
		s.Blobs, s.DiffID, s.Size = []string{h.String()}, h.String(), size
		if err := c.state.library.NoteFiles(h, s.Files); err != nil {
			return s, err
		}
	}
	return s, c.state.store.Put(recordReport, key, s)
}

// have says that the layer of a record is still there.
func (c *checkup) have(s supplement) bool {
	if s.DiffID == "" {
		return true
	}
	h, err := v1.NewHash(s.DiffID)
	if err != nil {
		return false
	}
	size, err := c.state.store.BlobSize(h)
	return err == nil && size == s.Size
}

// withEnv adds variables to an image's config; all else in it stays.
func withEnv(config []byte, env []string) ([]byte, error) {
	if len(env) == 0 {
		return config, nil
	}
	all, inner, have := map[string]json.RawMessage{}, map[string]json.RawMessage{}, []string{}
	if err := json.Unmarshal(config, &all); err != nil {
		return nil, err
	}
	if raw := all["config"]; raw != nil {
		if err := json.Unmarshal(raw, &inner); err != nil {
			return nil, err
		}
	}
	if raw := inner["Env"]; raw != nil {
		if err := json.Unmarshal(raw, &have); err != nil {
			return nil, err
		}
	}
	var err error
	if inner["Env"], err = json.Marshal(append(have, env...)); err != nil {
		return nil, err
	}
	if all["config"], err = json.Marshal(inner); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}
