package gobuild

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-build/skiff/internal/store"
)

// Static is a file, or the content of a folder, of this machine for an image.
type Static struct {
	Source string
	Target string // absolute; with a slash at its end a file goes below it
	Follow bool   // symbolic links are followed, instead of kept
	Within string // with Follow: a folder that no link may leave; "" is none
}

// FilesOptions say how a layer of files is made.
type FilesOptions struct {
	Store     *store.Store
	Epoch     time.Time // zero: 1970
	KeepTimes bool      // files have their own times

	// Folder tells where a folder of the image lies that the layer goes on, with symbolic links followed; "" where it has none of
	// that name. Below names that image by its content. Folder is nil where there is none.
	Folder func(name string) (string, error)
	Below  string
}

// Files is a layer of static files.
type Files struct {
	Layer v1.Hash
	Bytes int64 // of the layer, an uncompressed tar
	Size  int64 // of the files in it
}

// WriteFiles puts static files into one layer. They belong to root, and of their permissions only whether they can be run
// counts: those of a checkout depend on who made it. What was packed before, and has not been touched since, is not read again.
func WriteFiles(ctx context.Context, statics []Static, o FilesOptions) (Files, error) {
	c := &collector{o: o, at: Options{Epoch: o.Epoch}.epoch(), seen: map[string]Entry{}, key: fmt.Appendf(nil, "files 2\n%d\n%t\n%s\n", o.Epoch.Unix(), o.KeepTimes, o.Below)}
	c.settled = true
	for _, s := range statics {
		if err := c.add(s); err != nil {
			return Files{}, err
		}
	}
	key := store.Key(sha256.Sum256(c.key))
	var rec filesRecord
	if c.settled && o.Store.Get(recordStatics, key, &rec) == nil && rec.there(o.Store) {
		return rec.Files, nil
	}
	entries, err := c.entries()
	if err != nil {
		return Files{}, err
	}
	if rec.Layer, rec.Bytes, err = WriteLayer(ctx, o.Store, entries); err != nil {
		return Files{}, err
	}
	rec.Size, rec.Blobs = c.size, []v1.Hash{rec.Layer}
	return rec.Files, o.Store.Put(recordStatics, key, rec)
}

// recordStatics is the kind of records of layers of static files, by the stamps of those.
const recordStatics = store.KindGoFiles

type filesRecord struct {
	Files
	Blobs []v1.Hash `json:"blobs"`
}

func (r filesRecord) there(st *store.Store) bool {
	n, err := st.BlobSize(r.Layer)
	return err == nil && n == r.Bytes
}

// collector gathers the files of a layer.
type collector struct {
	o       FilesOptions
	at      time.Time
	seen    map[string]Entry // by name
	key     []byte
	settled bool // no file was touched so lately that a later write might not show in its stamp
	size    int64
	above   []fs.FileInfo // folders that are being read: a link to one of them never ends
}

func (c *collector) add(s Static) error {
	st, err := os.Stat(s.Source)
	if err != nil {
		return err
	}
	target := path.Clean(s.Target)
	if !st.IsDir() && strings.HasSuffix(s.Target, "/") {
		target = path.Join(target, filepath.Base(s.Source))
	}
	for _, e := range parents(target, c.at) {
		if _, ok := c.seen[e.Name]; !ok {
			c.seen[e.Name] = e
		}
	}
	return c.file(s, s.Source, target, st)
}

// file adds one file, or a folder with what is in it. st is of the file itself, or of what it links to.
func (c *collector) file(s Static, source, target string, st fs.FileInfo) error {
	stamp := stampOf(st)
	c.settled = c.settled && stamp.settled(time.Now())
	c.key = stamp.append(fmt.Appendf(c.key, "%q %q ", source, target))
	e := Entry{Name: target, Mode: 0o644, Time: c.at}
	if c.o.KeepTimes {
		e.Time = st.ModTime()
	}
	switch {
	case st.IsDir():
		return c.folder(s, source, e, st)
	case st.Mode()&fs.ModeSymlink != 0:
		link, err := os.Readlink(source)
		if err != nil {
			return err
		}
		e.Link, e.Mode = filepath.ToSlash(link), 0o777
		c.key = fmt.Appendf(c.key, "-> %q", link)
	case st.Mode().IsRegular():
		if st.Mode()&0o111 != 0 {
			e.Mode = 0o755
		}
		e.Size, e.Open = st.Size(), func() (io.ReadCloser, error) { return os.Open(source) }
		c.size += st.Size()
	default:
		return fmt.Errorf("%s: only files, folders and symbolic links go into an image", source)
	}
	if other, ok := c.seen[target]; ok {
		return fmt.Errorf("%s: %s is there already, %s", source, target, map[bool]string{true: "as a link", false: "as a file"}[other.Link != ""])
	}
	c.seen[target] = e
	return nil
}

func (c *collector) folder(s Static, source string, e Entry, st fs.FileInfo) error {
	for _, above := range c.above {
		if os.SameFile(above, st) {
			return fmt.Errorf("%s: a symbolic link leads back to a folder above it", source)
		}
	}
	c.above = append(c.above, st)
	defer func() { c.above = c.above[:len(c.above)-1] }()
	if target := e.Name; target != "/" {
		e.Name, e.Mode = target+"/", folderMode(target)
		c.seen[e.Name] = e
	}
	entries, err := os.ReadDir(source)
	if err != nil {
		return err
	}
	for _, d := range entries {
		name := filepath.Join(source, d.Name())
		st, err := os.Lstat(name)
		if err == nil && s.Follow && st.Mode()&fs.ModeSymlink != 0 {
			if err = s.checkLink(name); err == nil {
				st, err = os.Stat(name)
			}
		}
		if err != nil {
			return err
		}
		if err := c.file(s, name, path.Join("/", strings.TrimSuffix(e.Name, "/"), d.Name()), st); err != nil {
			return err
		}
	}
	return nil
}

// checkLink refuses a link that leads out of the folder that none may leave: what lies there is the machine's, not the package's.
func (s Static) checkLink(name string) error {
	if s.Within == "" {
		return nil
	}
	target, err := filepath.EvalSymlinks(name)
	if err != nil {
		return fmt.Errorf("%s: the link leads nowhere: %w", name, err)
	}
	if target, err = filepath.Abs(target); err != nil {
		return err
	}
	within, err := filepath.EvalSymlinks(s.Within)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(within, target)
	if err != nil || !filepath.IsLocal(rel) {
		return &OutsideError{Link: name, Target: target, Module: s.Within}
	}
	return nil
}

// OutsideError is a link of kodata that leads out of the package's module.
type OutsideError struct{ Link, Target, Module string }

func (e *OutsideError) Error() string {
	return fmt.Sprintf("%s: the link leads to %s, outside of the module in %s", e.Link, e.Target, e.Module)
}

// entries are those of the layer by name: a folder before what is in it. Folders of the image below are not among them, and so keep
// their modes and owners; what is in them lies where they really are.
func (c *collector) entries() ([]Entry, error) {
	var out []Entry
	for _, e := range c.seen {
		if c.o.Folder != nil {
			there, err := c.place(&e)
			if err != nil {
				return nil, err
			}
			if there {
				continue
			}
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(out); i++ {
		if out[i].Name == out[i-1].Name && !strings.HasSuffix(out[i].Name, "/") {
			return nil, fmt.Errorf("two files for %s, where links of the image below lead", out[i].Name)
		}
	}
	return slices.CompactFunc(out, func(a, b Entry) bool { return a.Name == b.Name }), nil
}

// place gives an entry its place on the image below, or tells that it is a folder which is there.
func (c *collector) place(e *Entry) (there bool, err error) {
	name := strings.TrimSuffix(e.Name, "/")
	if name != e.Name {
		if at, err := c.o.Folder(name); err != nil || at != "" {
			return true, err
		}
	}
	dir, rest := path.Dir(name), path.Base(name)
	for {
		at, err := c.o.Folder(dir)
		switch {
		case err != nil:
			return false, err
		case at == "" && dir != "/":
			dir, rest = path.Dir(dir), path.Join(path.Base(dir), rest)
			continue
		case at != "":
			e.Name = path.Join(at, rest) + e.Name[len(name):]
		}
		return false, nil
	}
}

// KoData is the folder beside a program that ko puts into its image, at [KoDataPath]; not ok: there is none.
// It is the program's module that none of its links may leave.
func KoData(p Program) (s Static, ok bool, err error) {
	s = Static{Source: filepath.Join(p.Dir, "kodata"), Target: KoDataPath, Follow: true, Within: findUp(p.Dir, "go.mod")}
	if s.Within == "" {
		s.Within = p.Dir
	}
	link, err := os.Lstat(s.Source)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	if err == nil && link.Mode()&fs.ModeSymlink != 0 {
		err = s.checkLink(s.Source)
	}
	if err != nil {
		return s, false, err
	}
	st, err := os.Stat(s.Source)
	return s, err == nil && st.IsDir(), err
}

// KoDataPath is where the content of kodata lies in the image; the variable KO_DATA_PATH says so to the program.
const KoDataPath = "/var/run/ko"
