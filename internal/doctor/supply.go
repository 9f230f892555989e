package doctor

import (
	"archive/tar"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skiff-build/skiff/internal/envlist"
	"github.com/skiff-build/skiff/internal/rootfiles"
)

// File is a file or directory to add to a root filesystem.
type File struct {
	Path     string // absolute
	Mode     int64  // permissions, with the set-id and sticky bits where tar has them
	UID, GID int
	Dir      bool
	Link     string // target of a symbolic link; "" for others
	Data     []byte
	// Open gives the content in place of Data, Size bytes of it: of libraries, which may be large.
	Open func() (io.ReadCloser, error)
	Size int64
}

// size is that of the content in bytes.
func (f File) size() int64 {
	if f.Open != nil {
		return f.Size
	}
	return int64(len(f.Data))
}

// Supply is what completes a root filesystem for the programs in it. The same programs, root and options give the same
// supply, to the byte, on every machine.
type Supply struct {
	Files []File   // sorted by path; directories before what is in them
	Env   []string // NAME=VALUE for the image's config, sorted
	Kinds []NeedKind
}

// Empty says that nothing is missing.
func (s Supply) Empty() bool { return len(s.Files) == 0 && len(s.Env) == 0 }

// Bytes is the content of all files.
func (s Supply) Bytes() (n int64) {
	for _, f := range s.Files {
		n += f.size()
	}
	return n
}

// SupplyOptions say for whom the root filesystem is. The zero value is an empty root and the superuser.
type SupplyOptions struct {
	User  string   // of the image's config: "", "65532", "app", "65532:65532"
	Env   []string // of the image's config
	Dir   string   // likewise, its working directory
	Root  Existing // nil is an empty one
	Level Level    // the least that is supplied; zero is [Likely]
	// Folders are to be there; those that are missing get the mode 0755.
	Folders []string
	// Loaders is where the dynamic loader and libraries are taken from: a root filesystem, such as this machine's. With
	// nil, a program that needs them is an error.
	Loaders fs.FS
}

// Complete returns what programs need and the root lacks: the CA bundle, the one time zone that they name or all of them,
// accounts, a temporary directory, a home, and with o.Loaders the loader and the libraries. What a program needs that cannot
// be had is an error, but not the programs that it starts: which those are is not certain.
//
// Trust is never widened: where the image names CAs of its own or has some, even ones that its user may not read, none are added.
func Complete(programs []*Binary, o SupplyOptions) (Supply, error) {
	c := &completion{o: o, view: viewOf(o.Root, o.User, o.Env, o.Dir), files: map[string]File{}}
	if o.Level == None {
		c.o.Level = Likely
	}
	for _, b := range programs {
		c.trimmed = b.Trimpath
		for _, n := range b.Needs {
			if n.Level < c.o.Level {
				continue
			}
			if err := c.need(b, n); err != nil {
				return Supply{}, err
			}
		}
	}
	for _, dir := range o.Folders {
		if _, err := c.Stat(dir, nil); err != nil {
			c.add(File{Path: dir, Mode: 0o755, Dir: true})
		}
	}
	return c.supply(), nil
}

// completion collects a supply.
type completion struct {
	view
	o     SupplyOptions
	files map[string]File
	added []string // to the environment
	kinds []NeedKind
}

// need supplies what one need asks for, if the root lacks it.
func (c *completion) need(b *Binary, n Need) error {
	before := len(c.files) + len(c.added)
	switch n.Kind {
	case NeedCA:
		if r := c.roots(); !r.found && !r.own {
			c.add(File{Path: rootfiles.BundlePath, Mode: 0o644, Data: rootfiles.CABundle()})
		}
	case NeedZones:
		c.zones(n)
	case NeedUsers:
		c.accounts()
	case NeedTemp:
		c.temp()
	case NeedHome:
		c.home()
	case NeedLoader:
		if err := c.loader(b); err != nil {
			return err
		}
	}
	if len(c.files)+len(c.added) > before && !slices.Contains(c.kinds, n.Kind) {
		c.kinds = append(c.kinds, n.Kind)
	}
	return nil
}

// zones supplies the zones that constants name; all where there may be others, or one of them is none that is known here.
func (c *completion) zones(n Need) {
	names, missing := c.missingZones(n)
	if len(names) == 0 && missing {
		for _, z := range rootfiles.Zones() {
			c.addZone(z)
		}
	}
	for _, name := range names {
		if z, err := rootfiles.Zone(name); err == nil {
			c.addZone(z)
		}
	}
}

func (c *completion) addZone(z rootfiles.ZoneFile) {
	c.add(File{Path: path.Join(rootfiles.ZonesPath, z.Name), Mode: 0o644, Data: z.Data})
}

// missingZones says whether zones are lacking that a need names. With no names, it is all that there are.
func (v view) missingZones(n Need) (names []string, missing bool) {
	known := func(name string) bool { _, err := rootfiles.Zone(name); return err == nil }
	if n.Open || len(n.Values) == 0 || !slices.ContainsFunc(n.Values, known) {
		// All or none of them are there; this one is in every set.
		return nil, !v.hasZone("Europe/Berlin")
	}
	for _, name := range n.Values {
		if known(name) && !v.hasZone(name) {
			names = append(names, name)
		}
	}
	return names, len(names) > 0
}

// accounts supplies passwd and group, or the line of the image's user where they lack it.
func (c *completion) accounts() {
	if !c.lacksAccount() || c.account.uid < 0 {
		return
	}
	uid, gid := strconv.Itoa(c.account.uid), strconv.Itoa(c.account.gid)
	c.accountFile(rootfiles.PasswdPath, rootfiles.Passwd, uid, "user:x:"+uid+":"+gid+":user:"+c.account.home+":/sbin/nologin\n")
	c.accountFile(rootfiles.GroupPath, rootfiles.Group, gid, "user:x:"+gid+":\n")
}

// accountFile supplies one of the files, with a line for id.
func (c *completion) accountFile(name, text, id, line string) {
	mode, there := int64(0o644), false
	if st, err := c.Stat(name, nil); err == nil {
		old, err := c.ReadFile(name)
		if err != nil {
			return // not of a size that such a file has: left alone
		}
		text, mode, there = string(old), st.Mode&0o7777|0o444, true
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
	}
	known := field(text, 2, id) != nil
	if name == rootfiles.PasswdPath {
		_, known = homeOf(text, c.account.uid) // one that is too short is none
	}
	if !known {
		text += line
	} else if there && c.readable(name) {
		return
	}
	c.add(File{Path: name, Mode: mode, Data: []byte(text)})
}

// temp supplies a folder for temporary files where the program looks for one.
func (c *completion) temp() {
	if dir := path.Clean(c.absolute(c.tempDir())); !c.writable(dir) {
		c.add(File{Path: dir, Mode: 0o1777, Dir: true})
	}
}

// home supplies a folder that is the user's own, and names it.
func (c *completion) home() {
	if !c.needsHome() {
		return
	}
	home := c.account.home
	if given := envlist.Get(c.o.Env, "HOME"); given != "" {
		home = given
	}
	if !c.writable(home) {
		if !path.IsAbs(home) || path.Clean(home) == "/" {
			return
		}
		gid := max(c.account.gid, 0)
		if line := field(rootfiles.Passwd, 2, strconv.Itoa(c.account.uid)); line != nil {
			gid = number(line[3], gid) // which it has once the accounts are there
		}
		if !c.add(File{Path: path.Clean(home), Mode: 0o700, UID: max(c.account.uid, 0), GID: gid, Dir: true}) {
			return
		}
	}
	if envlist.Get(c.o.Env, "HOME") == "" {
		c.added = append(c.added, "HOME="+home)
	}
}

// add puts f and the folders above it that are missing into the supply. What would lie below a folder that the user may not enter
// is of no use to it, and is left out.
func (c *completion) add(f File) bool {
	var missing []File
	for dir := path.Dir(f.Path); ; dir = path.Dir(dir) {
		if _, there := c.files[dir]; there {
			break
		}
		at, err := c.find(dir)
		if errors.Is(err, fs.ErrPermission) || err == nil && !c.account.may(at, 1) {
			return false
		}
		if err == nil || dir == "/" {
			break
		}
		missing = append(missing, File{Path: dir, Mode: 0o755, Dir: true})
	}
	for _, dir := range append(missing, f) {
		c.files[dir.Path] = dir
	}
	return true
}

func (c *completion) supply() Supply {
	s := Supply{Env: c.added, Kinds: c.kinds}
	slices.Sort(s.Env)
	s.Env = slices.Compact(s.Env)
	for _, f := range c.files {
		s.Files = append(s.Files, f)
	}
	slices.SortFunc(s.Files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return s
}

// WriteLayer writes the files as the tar of a layer, all with the same time.
func (s Supply) WriteLayer(w io.Writer, at time.Time) error {
	out := tar.NewWriter(w)
	for _, f := range s.Files {
		if err := writeFile(out, f, at); err != nil {
			return fmt.Errorf("write layer: %s: %w", f.Path, err)
		}
	}
	return out.Close()
}

func writeFile(out *tar.Writer, f File, at time.Time) error {
	h := &tar.Header{Name: strings.TrimPrefix(f.Path, "/"), Mode: f.Mode, Uid: f.UID, Gid: f.GID, ModTime: at, Typeflag: tar.TypeReg}
	switch {
	case f.Dir:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	case f.Link != "":
		h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
	default:
		h.Size = f.size()
	}
	if err := out.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	if f.Open == nil {
		_, err := out.Write(f.Data)
		return err
	}
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(out, io.LimitReader(r, f.Size))
	if err == nil && n != f.Size {
		err = io.ErrUnexpectedEOF
	}
	return err
}
