package dockerfile

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// addContexts gives the frontend each --build-context as context:NAME: a directory becomes a local source of that name
// (with a leading underscore where it would hide one of ours, as in buildx), an OCI layout a store.
func (d *Dockerfile) addContexts(contexts map[string]string) error {
	for name, v := range contexts {
		ref, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return fmt.Errorf("build context %q: the name: %w", name, err)
		}
		key := strings.TrimSuffix(reference.FamiliarString(ref), ":latest")
		switch {
		case strings.HasPrefix(v, "docker-image://"), isURL(v):
			d.attrs["context:"+key] = v
		case strings.HasPrefix(v, "target:"):
			return fmt.Errorf("build context %q: %s: targets belong to docker buildx bake; name the stage in the Dockerfile", name, v)
		case strings.HasPrefix(v, "oci-layout://"):
			err = d.addLayout(key, strings.TrimPrefix(v, "oci-layout://"))
		default:
			err = d.addDirectory(key, v)
		}
		if err != nil {
			return fmt.Errorf("build context %q: %w", name, err)
		}
	}
	if len(contexts) > 0 {
		d.attrs["frontend.caps"] = "moby.buildkit.frontend.contexts+forward"
	}
	return nil
}

func (d *Dockerfile) addDirectory(name, dir string) error {
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: no such directory", dir)
	case err != nil:
		return err
	case !st.IsDir():
		return fmt.Errorf("%s: not a directory", dir)
	}
	local := name
	if name == "context" || name == "dockerfile" {
		local = "_" + name
	}
	d.locals[local] = dir
	d.attrs["context:"+name] = "local:" + local
	return nil
}

// addLayout takes PATH[:TAG][@DIGEST]. The store id stands for the directory, so that keys stay the same between builds.
func (d *Dockerfile) addLayout(name, v string) error {
	path, dgst, hasDigest := strings.Cut(v, "@")
	tag := "latest"
	if i := strings.LastIndex(path, ":"); i > 0 && !strings.ContainsAny(path[i:], `/\`) {
		path, tag = path[:i], path[i+1:]
	}
	if !hasDigest {
		found, err := layoutDigest(path, tag)
		if err != nil {
			return err
		}
		dgst = found.String()
	}
	if _, err := digest.Parse(dgst); err != nil {
		return fmt.Errorf("%s: %q: %w", path, dgst, err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	id := fmt.Sprintf("layout-%x", sha256.Sum256([]byte(abs)))[:23]
	d.layouts[id] = abs
	d.attrs["context:"+name] = fmt.Sprintf("oci-layout://%s:%s@%s", id, tag, dgst)
	return nil
}

// layoutDigest finds tag in the index of the OCI layout at path (image-spec image-layout.md, "index.json"). The only
// manifest of a layout needs no tag.
func layoutDigest(path, tag string) (digest.Digest, error) {
	text, err := os.ReadFile(filepath.Join(path, "index.json"))
	if err != nil {
		return "", fmt.Errorf("read OCI layout: %w", err)
	}
	var index ocispecs.Index
	if err := json.Unmarshal(text, &index); err != nil {
		return "", fmt.Errorf("read OCI layout: %s: index.json: %w", path, err)
	}
	for _, m := range index.Manifests {
		ref := m.Annotations[ocispecs.AnnotationRefName]
		if ref == tag || strings.HasSuffix(ref, ":"+tag) {
			return m.Digest, nil
		}
	}
	if len(index.Manifests) == 1 && tag == "latest" {
		return index.Manifests[0].Digest, nil
	}
	return "", fmt.Errorf("read OCI layout: %s: no image has the tag %q", path, tag)
}
