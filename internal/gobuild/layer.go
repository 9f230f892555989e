package gobuild

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// BinDir is where programs lie in the image: in the usual PATH, and apart from what a base image has.
const BinDir = "/usr/local/bin"

// pack puts the program of main, which go build wrote into the folder out, into a layer.
func (b *build) pack(ctx context.Context, out string, main mainPackage) (Program, error) {
	p := newProgram(main.path)
	p.Dir, p.Built = main.dir, true
	file := filepath.Join(out, p.Name)
	st, err := os.Stat(file)
	if err != nil {
		return p, err
	}
	p.Size = st.Size()
	if err := p.readInfo(file); err != nil {
		return p, err
	}
	at := b.o.epoch()
	if b.o.KeepTimes {
		at = time.Now().UTC().Truncate(time.Second)
	}
	var entries []Entry
	if !b.o.Bare {
		entries = parents(p.Path, at)
	}
	entries = append(entries, Entry{Name: p.Path, Mode: 0o755, Time: at, Size: st.Size(), Open: func() (io.ReadCloser, error) { return os.Open(file) }})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		p.Layer, p.Bytes, err = WriteLayer(ctx, b.o.Store, entries)
		return err
	})
	if b.o.Inspect != nil {
		g.Go(func() (err error) {
			p.Facts, err = b.o.Inspect(file, b.platform)
			return err
		})
	}
	return p, g.Wait()
}

func newProgram(importPath string) Program {
	name := programName(importPath)
	return Program{ImportPath: importPath, Name: name, Path: path.Join(BinDir, name)}
}

// epoch is the time of the files in layers.
func (o Options) epoch() time.Time {
	if o.Epoch.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return o.Epoch.UTC()
}

// readInfo takes what labels say of a program from its build info.
func (p *Program) readInfo(file string) error {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read build info: %w", err)
	}
	p.Module = Module{Path: info.Main.Path}
	if info.Main.Version != "(devel)" {
		p.Module.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			p.VCS.Revision = s.Value
		case "vcs.time":
			p.VCS.Time, _ = time.Parse(time.RFC3339, s.Value) // go wrote it; without it there is no date
		case "vcs.modified":
			p.VCS.Modified = s.Value == "true"
		}
	}
	return nil
}

// Entry is a file of a layer. A name that ends in a slash is a folder.
type Entry struct {
	Name     string // absolute
	Mode     int64  // permission bits, and 0o1000 sticky
	UID, GID int
	Link     string // target of a symbolic link
	Time     time.Time
	Size     int64 // of a file
	Open     func() (io.ReadCloser, error)
}

// modes are those of folders that are not 0755 wherever they are.
var modes = map[string]int64{"/tmp": 0o1777, "/var/tmp": 0o1777, "/root": 0o700}

// parents are the folders above a path, the highest first.
func parents(name string, at time.Time) []Entry {
	dir := path.Dir(name)
	if dir == "/" {
		return nil
	}
	return append(parents(dir, at), Entry{Name: dir + "/", Mode: folderMode(dir), Time: at})
}

func folderMode(dir string) int64 {
	if mode, special := modes[dir]; special {
		return mode
	}
	return 0o755
}
