package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/skiff-build/skiff"
)

// setOutputs reads -o, --push and --load.
func (f *buildFlags) setOutputs() error {
	for _, text := range f.outputs {
		out, err := skiff.ParseOutput(text)
		if err != nil {
			return &usageError{text: "--" + err.Error()}
		}
		f.opts.Outputs = append(f.opts.Outputs, out)
	}
	if f.push {
		f.opts.Outputs = append(f.opts.Outputs, skiff.Output{Type: "registry", Push: true})
	}
	f.opts.Load = f.load
	c, err := f.compression.parse()
	if err != nil {
		return err
	}
	for i := range f.opts.Outputs {
		o := &f.opts.Outputs[i]
		if o.Format.Compression == "" {
			o.Format.Compression, o.Format.Level = c.Kind, cmp.Or(o.Format.Level, c.Level)
		}
	}
	return nil
}

// writeMetadata writes the keys that docker buildx writes and users read; of several images, an object with those of each under
// its first name, as docker buildx bake does.
func writeMetadata(path string, results []*skiff.BuildResult) error {
	m := metadataOf(results[0])
	if len(results) > 1 {
		m = map[string]any{}
		for _, res := range results {
			m[res.Tags[0]] = metadataOf(res)
		}
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	if err := writeText(path, string(text)+"\n"); err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	return nil
}

// writeText writes a file in whole or not at all.
func writeText(path, text string) error {
	return skiff.WriteFile(path, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}

// printPushed names what registries have now, last, by digest: what to deploy.
func printPushed(w io.Writer, results []*skiff.BuildResult) {
	seen := map[string]bool{}
	for _, res := range results {
		for _, p := range res.Pushed {
			repository := p.Name
			if colon := strings.LastIndex(repository, ":"); colon > strings.LastIndex(repository, "/") {
				repository = repository[:colon]
			}
			line := repository + "@" + p.Digest
			if len(seen) == 0 {
				fmt.Fprintln(w)
			}
			if !seen[line] {
				fmt.Fprintln(w, line)
			}
			seen[line] = true
		}
	}
}

// metadataOf has BuildKit's keys (exporter/containerimage/exptypes in moby/buildkit). Where outputs came to different digests, the list of
// them all is one of ours.
func metadataOf(res *skiff.BuildResult) map[string]any {
	m := map[string]any{}
	if res.ID != "" {
		if !res.Descriptor.MediaType.IsIndex() { // an index has no config
			m["containerimage.config.digest"] = res.ID
		}
		m["containerimage.digest"] = res.Descriptor.Digest
		m["containerimage.descriptor"] = res.Descriptor
	}
	digests := map[string]bool{}
	var outputs []map[string]any
	for _, o := range res.Outputs {
		digests[o.Descriptor.Digest.String()] = true
		out := map[string]any{"type": o.Type, "containerimage.digest": o.Descriptor.Digest, "containerimage.descriptor": o.Descriptor}
		if o.Dest != "" {
			out["dest"] = o.Dest
		}
		outputs = append(outputs, out)
	}
	if len(digests) > 1 {
		m["skiff.outputs"] = outputs
	}
	if res.Explained != nil {
		m["skiff.explain"] = res.Explained
	}
	if len(res.Tags) > 0 {
		m["image.name"] = strings.Join(res.Tags, ",")
	}
	return m
}
