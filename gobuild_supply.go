package skiff

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/doctor"
	"github.com/skiff-build/skiff/internal/gobuild"
	"github.com/skiff-build/skiff/internal/store"
)

// goFacts is what is remembered of a program beside its layer: all that the doctor read off it, so that no image with it has it read
// again.
func goFacts(file string, _ gobuild.Platform) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b, err := doctor.ReadBinary(f, st.Size())
	if err != nil {
		return nil, fmt.Errorf("read what the program needs: %w", err)
	}
	b.Info = nil // hundreds of modules, which nobody asks for
	return json.Marshal(b)
}

// factsVersion is that of goFacts.
func factsVersion() string { return fmt.Sprintf("2, doctor %d", doctor.Rules) }

// factsOf are the facts of programs, in their order.
func factsOf(programs []gobuild.Program) ([]*doctor.Binary, error) {
	var all []*doctor.Binary
	for _, p := range programs {
		b := &doctor.Binary{}
		if err := json.Unmarshal(p.Facts, b); err != nil {
			return nil, fmt.Errorf("%s: what is remembered of its needs: %w", p.ImportPath, err)
		}
		all = append(all, b)
	}
	return all, nil
}

// knownOf are the facts of the programs of an image by where they lie.
func knownOf(img goImage) (known, error) {
	type place struct {
		layer v1.Hash
		path  string
	}
	facts := map[place]*doctor.Binary{}
	for _, r := range img.platforms {
		all, err := factsOf(r.Programs)
		if err != nil {
			return nil, err
		}
		for i, p := range r.Programs {
			facts[place{p.Layer, p.Path}] = all[i]
		}
	}
	return func(layer v1.Hash, path string) *doctor.Binary { return facts[place{layer, path}] }, nil
}

// suppliedFor are lines of what decides on the files that an image needs for a program.
func suppliedFor(b *doctor.Binary) string {
	var out strings.Builder
	fmt.Fprintf(&out, "program %s %q %q\n", b.Arch, b.Interp, b.Libraries)
	for _, n := range b.Needs {
		if n.Level >= doctor.Likely {
			fmt.Fprintf(&out, "need %s %d %q %t\n", n.Kind, n.Level, n.Values, n.Open)
		}
	}
	return out.String()
}

// suppliedRecord is the layer that some programs need, by them and what it goes on.
type suppliedRecord struct {
	Layer v1.Hash   `json:"layer"`
	Bytes int64     `json:"bytes"` // of the layer; 0: there is nothing to supply
	Size  int64     `json:"size"`  // of the files in it
	Env   []string  `json:"env"`
	Blobs []v1.Hash `json:"blobs"`
}

const recordSupplied = store.KindSupplied

// addNeeds adds a layer with what the programs need and the base lacks.
func (m *goMaker) addNeeds(ctx context.Context) error {
	programs, err := factsOf(m.programs)
	if err != nil {
		return err
	}
	h := sha256.New()
	fmt.Fprintf(h, "supply 3\n%s\nepoch %d\nuser %q\nenv %q\n", factsVersion(), m.b.epoch.Unix(), m.imageUser(), m.imageEnv())
	if m.base != nil {
		fmt.Fprintf(h, "base %s %s\n", m.base.digest, m.platform)
	}
	dynamic := false
	for _, b := range programs {
		fmt.Fprint(h, suppliedFor(b))
		dynamic = dynamic || b.Interp != ""
	}
	var rec suppliedRecord
	key := store.Key(h.Sum(nil))
	known := !dynamic && m.b.state.store.Get(recordSupplied, key, &rec) == nil
	if known && rec.Bytes > 0 {
		n, err := m.b.state.store.BlobSize(rec.Layer)
		known = err == nil && n == rec.Bytes
	}
	if !known {
		if rec, err = m.supply(ctx, programs); err != nil {
			return err
		}
		if err := m.b.state.store.Put(recordSupplied, key, rec); err != nil {
			return err
		}
	}
	m.env = append(m.env, rec.Env...)
	if rec.Bytes == 0 {
		return nil
	}
	return m.add(rec.Layer, rec.Bytes, rec.Size, "skiff build: what the program needs")
}

// supply makes the layer.
func (m *goMaker) supply(ctx context.Context, programs []*doctor.Binary) (suppliedRecord, error) {
	o := doctor.SupplyOptions{User: m.imageUser(), Env: m.imageEnv(), Dir: m.b.g.WorkDir}
	if m.base != nil {
		root, err := m.base.root()
		if err != nil {
			return suppliedRecord{}, err
		}
		o.Root, o.Folders = root, []string{gobuild.BinDir}
	} else if runtime.GOOS == "linux" && runtime.GOARCH == m.platform.Arch {
		// Libraries of another system than the base's need not fit it; without a base this machine's come along with their loader.
		// Debian's is an absolute link, which os.Root takes for one that leads out; nothing leads out of this root.
		o.Loaders = os.DirFS("/")
	}
	s, err := doctor.Complete(programs, o)
	if err != nil {
		return suppliedRecord{}, fmt.Errorf("%s: %w", m.programs[0].ImportPath, err)
	}
	rec := suppliedRecord{Env: s.Env, Size: s.Bytes()}
	if len(s.Files) == 0 {
		return rec, nil
	}
	rec.Layer, rec.Bytes, err = m.b.state.store.MakeBlob(ctx, func(w io.Writer) error { return s.WriteLayer(w, m.b.epoch) })
	rec.Blobs = []v1.Hash{rec.Layer}
	return rec, err
}

// imageUser and imageEnv are those of the image, before what the programs need.
func (m *goMaker) imageUser() string {
	if m.base != nil {
		return m.user(m.base.config.Config.User)
	}
	return m.user("")
}

func (m *goMaker) imageEnv() []string {
	var base []string
	if m.base != nil {
		base = m.base.config.Config.Env
	}
	return joinEnv(base, m.b.g.ImageEnv)
}

// folder is [gobuild.FilesOptions] Folder.
func (b *goBaseImage) folder(name string) (string, error) {
	root, err := b.root()
	if err != nil {
		return "", err
	}
	if f, err := root.Stat(name, nil); err == nil && f.Dir {
		return f.Path, nil
	}
	return "", nil
}

func openBaseRoot(ctx context.Context, name string, img v1.Image) (doctor.Existing, error) {
	root, err := doctor.OpenRoot(ctx, img)
	if err != nil {
		return nil, fmt.Errorf("read base %s: %w", name, err)
	}
	return root, nil
}
