package gobase

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

func platformOf(opt sourceresolver.Opt) ocispecs.Platform {
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		return *opt.ImageOpt.Platform
	}
	return ocispecs.Platform{OS: "linux", Architecture: "amd64"}
}

// provisional is the config of the image that a tag names.
func (a *attempt) provisional(ctx context.Context, tag Tag, p ocispecs.Platform) ([]byte, error) {
	if p.OS != "linux" {
		return nil, fmt.Errorf("the built-in base is for linux, not %s", p.OS)
	}
	release, err := a.o.Tools.Resolve(ctx, tag.Wanted, toolArch(p.Architecture), a.o.Pull)
	if err != nil {
		return nil, err
	}
	return json.Marshal(imageConfig(tag.Variant, release, p))
}

// digestRecord is what the config of an image says, by the image's digest.
type digestRecord struct {
	Release string  `json:"release"`
	Variant Variant `json:"variant"`
}

// pinned finds out which release a digest is: its config says so, some kilobytes that are asked of the registry
// once. Where that cannot be had, a tag beside the digest counts under the policy builtin alone; unserved is
// the error of reading the reference.
func (a *attempt) pinned(ctx context.Context, tag Tag, opt sourceresolver.Opt, unserved error) (Tag, error) {
	var rec digestRecord
	state := a.o.Tools.State()
	if state.Load(kindDigest, tag.Digest, &rec) != nil {
		_, _, data, err := a.Client.ResolveImageConfig(ctx, tag.Ref, opt)
		if err == nil {
			rec, err = readConfig(data)
		}
		switch {
		case err == nil:
			if err := state.Save(kindDigest, tag.Digest, rec); err != nil {
				return tag, err
			}
		case a.o.Policy == Builtin && unserved == nil:
			a.o.Note(fmt.Sprintf("%s: which release the digest is cannot be asked (%v); the tag counts", familiar(tag.Ref), err))
			return tag, nil
		case unserved != nil:
			return tag, unserved
		default:
			return tag, fmt.Errorf("the digest pins a release that the tag does not name: %w", err)
		}
	}
	tag.Go, tag.Variant = rec.Release, rec.Variant
	return tag, nil
}

// readConfig reads the release and the variant off the config of an official image.
func readConfig(data []byte) (digestRecord, error) {
	var config ocispecs.Image
	if err := json.Unmarshal(data, &config); err != nil {
		return digestRecord{}, fmt.Errorf("read image config: %w", err)
	}
	rec := digestRecord{Variant: Debian}
	for _, e := range config.Config.Env {
		if v, ok := strings.CutPrefix(e, "GOLANG_VERSION="); ok {
			rec.Release = v
		}
	}
	if rec.Release == "" || config.OS != "" && config.OS != "linux" {
		return rec, errors.New("the image's config names no Go release for linux")
	}
	if len(config.Config.Cmd) > 0 && config.Config.Cmd[0] == "/bin/sh" {
		rec.Variant = Alpine // Debian's starts bash
	}
	return rec, nil
}

// imageConfig is the config of the official image, as its Dockerfile sets it
// (github.com/docker-library/golang, Dockerfile-linux.template).
func imageConfig(v Variant, release string, p ocispecs.Platform) ocispecs.Image {
	env := []string{
		"PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"GOLANG_VERSION=" + release,
	}
	if atLeast(release, "1.21") {
		env = append(env, "GOTOOLCHAIN=local")
	}
	shell := "bash"
	if v == Alpine {
		shell = "/bin/sh"
	}
	return ocispecs.Image{
		Platform: ocispecs.Platform{OS: "linux", Architecture: p.Architecture, Variant: p.Variant},
		Config: ocispecs.ImageConfig{
			Env: append(env, "GOPATH=/go"), Cmd: []string{shell}, WorkingDir: "/go",
		},
		// A stage without any layer counts as scratch.
		RootFS: ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString("built-in Go " + release)}},
	}
}
