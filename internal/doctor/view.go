package doctor

import (
	"archive/zip"
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/skiff-build/skiff/internal/envlist"
	"github.com/skiff-build/skiff/internal/rootfiles"
)

// Existing is a root filesystem.
type Existing interface {
	// Stat returns the file at an absolute path, with symbolic links followed within the root; an error that is
	// [fs.ErrNotExist] where there is none. enter is asked of each folder on the way, and where it says no, the error is
	// [fs.ErrPermission]; nil lets everybody pass. Data and Open of the file are not set.
	Stat(name string, enter func(dir File) bool) (File, error)
	// ReadFile returns a small file whole.
	ReadFile(name string) ([]byte, error)
	// ReadDir returns what is in a folder, links in it not followed, sorted by path.
	ReadDir(name string) ([]File, error)
}

// view is a root filesystem as the program of an image sees it: with the rights of its user, by its environment.
type view struct {
	Existing
	account account
	env     []string
	dir     string // to which relative names are, "" is the root
	trimmed bool   // the program does not know its GOROOT
}

func viewOf(root Existing, who string, env []string, dir string) view {
	if root == nil {
		root = nothing{}
	}
	return view{Existing: root, account: accountOf(root, who), env: env, dir: dir}
}

// madeAtRun are folders that every container gets when it runs (runtime-spec config-linux.md, "Default Filesystems").
var madeAtRun = map[string]File{"/dev/shm": {Path: "/dev/shm", Mode: 0o1777, Dir: true}}

// find is the file of a name, if the user comes to it.
func (v view) find(name string) (File, error) {
	name = v.absolute(name)
	if f, ok := madeAtRun[path.Clean(name)]; ok {
		return f, nil
	}
	return v.Stat(name, func(dir File) bool { return v.account.may(dir, 1) })
}

// absolute is not [path.Join]: a link before .. leads elsewhere than the text says.
func (v view) absolute(name string) string { return absoluteIn(v.dir, name) }

func absoluteIn(dir, name string) string {
	if path.IsAbs(name) {
		return name
	}
	return "/" + dir + "/" + name
}

// readable says that there is a file of that name which the user may read.
func (v view) readable(name string) bool {
	f, err := v.find(name)
	return err == nil && !f.Dir && v.account.may(f, 4)
}

// writable says that the user may make files in a folder.
func (v view) writable(dir string) bool {
	f, err := v.find(dir)
	return err == nil && f.Dir && v.account.may(f, 3)
}

// barrier says what keeps the user from a file: the first folder above it that it may not enter, or the file itself, of which want is
// wanted as [account.may] has it; "" where nothing does, or there is no such file.
func (v view) barrier(name string, want int64) string {
	var closed File
	f, err := v.Stat(v.absolute(name), func(dir File) bool {
		if !v.account.may(dir, 1) {
			closed = dir
			return false
		}
		return true
	})
	switch {
	case errors.Is(err, fs.ErrPermission):
		return closed.Path + " above it has " + rights(closed)
	case err == nil && !v.account.may(f, want):
		return f.Path + " has " + rights(f)
	}
	return ""
}

func rights(f File) string {
	return fmt.Sprintf("the mode %04o and the owner %d:%d", f.Mode&0o7777, f.UID, f.GID)
}

// Where Go's crypto/x509 looks for CAs on Linux (root_linux.go): the first of certFiles that can be read, and every file of certDirs.
// SSL_CERT_FILE takes the place of all the files, SSL_CERT_DIR, a list with colons, of the folders (root_unix.go, loadSystemRoots).
var (
	certFiles = rootfiles.BundlePaths
	certDirs  = []string{"/etc/ssl/certs", "/etc/pki/tls/certs"}
)

// roots is what a program finds of CAs.
type roots struct {
	found  bool     // one that it can read
	own    bool     // the image names, or has, some of its own: nobody else's belong beside them
	named  []string // the variables that say where
	seen   []string // what is there and cannot be used, a sentence each
	closed []string // files that the user may not read
}

// roots looks for CAs as loadSystemRoots does.
func (v view) roots() roots {
	var r roots
	files, dirs := certFiles, certDirs
	if f := envlist.Get(v.env, "SSL_CERT_FILE"); f != "" {
		files = []string{f}
		r.named = append(r.named, "SSL_CERT_FILE="+f)
	}
	if d := envlist.Get(v.env, "SSL_CERT_DIR"); d != "" {
		dirs = strings.Split(d, ":")
		r.named = append(r.named, "SSL_CERT_DIR="+d)
	}
	r.own = len(r.named) > 0
	for _, name := range files {
		st, err := v.Stat(v.absolute(name), nil)
		if err != nil || st.Dir {
			continue
		}
		r.own = true // an empty one, too, says whom the image trusts
		if why := v.barrier(name, 4); why != "" {
			r.seen, r.closed = append(r.seen, why), append(r.closed, name)
			continue
		}
		if r.found = v.holdsCA(name); !r.found {
			r.seen = append(r.seen, name+" holds no certificate")
		}
		break
	}
	for _, dir := range dirs {
		if r.found {
			break
		}
		if dir == "" { // os.ReadDir finds none of that name
			continue
		}
		r.look(v, dir)
	}
	return r
}

// look looks for CAs in a folder.
func (r *roots) look(v view, dir string) {
	all, err := v.ReadDir(v.absolute(dir))
	if err != nil {
		return
	}
	closed := v.barrier(dir, 5)
	for _, f := range all {
		// A link to a name in the same folder is passed over: that is read itself.
		if f.Dir || f.Link != "" && !strings.Contains(f.Link, "/") {
			continue
		}
		name := dir + "/" + path.Base(f.Path)
		if !v.holdsCA(name) {
			continue
		}
		r.own = true
		why := cmp.Or(closed, v.barrier(name, 4))
		if why == "" {
			r.found = true
			return
		}
		r.closed = append(r.closed, name)
		if !slices.Contains(r.seen, why) {
			r.seen = append(r.seen, why)
		}
	}
}

// holdsCA says that a file holds a certificate, for whoever may read it.
func (v view) holdsCA(name string) bool {
	name = v.absolute(name)
	if root, ok := v.Existing.(interface{ knownCA(string) (yes, sure bool) }); ok {
		if yes, sure := root.knownCA(name); yes || sure {
			return yes
		}
	}
	data, err := v.ReadFile(name)
	return err == nil && holdsCertificate(data)
}

// holdsCertificate says that crypto/x509's AppendCertsFromPEM takes something of a text.
func holdsCertificate(text []byte) bool {
	for len(text) > 0 {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return false
		}
		if block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err == nil {
			return true
		}
	}
	return false
}

// zoneDirs are where Go's time looks for zones on Linux (time/zoneinfo_unix.go); before them in what ZONEINFO names, a folder or a
// zip file (time.LoadLocation), and after them in the GOROOT that the program knows (loadLocation in time/zoneinfo_read.go): the
// variable's, or the one that it was built with, which -trimpath takes away.
var zoneDirs = []string{rootfiles.ZonesPath, "/usr/share/lib/zoneinfo", "/usr/lib/locale/TZ", "/etc/zoneinfo"}

// goroots are where the toolchain of the golang images and of distributions' packages lies: one of them is the built-in GOROOT of a
// program that was built there.
var goroots = []string{"/usr/local/go", "/usr/lib/go"}

func (v view) hasZone(name string) bool {
	if z := envlist.Get(v.env, "ZONEINFO"); z != "" && v.zoneIn(z, name) {
		return true
	}
	if slices.ContainsFunc(zoneDirs, func(dir string) bool { return v.zoneIn(dir, name) }) {
		return true
	}
	known := goroots
	if g := envlist.Get(v.env, "GOROOT"); g != "" {
		known = []string{g}
	} else if v.trimmed {
		known = nil
	}
	return slices.ContainsFunc(known, func(dir string) bool { return v.zoneIn(dir+"/lib/time/zoneinfo.zip", name) })
}

// zoneIn says that a folder, or a zip file, has a zone.
func (v view) zoneIn(source, name string) bool {
	if len(source) <= 4 || !strings.HasSuffix(source, ".zip") {
		return v.filled(source + "/" + name)
	}
	if !v.readable(source) {
		return false
	}
	data, err := v.ReadFile(v.absolute(source))
	if err != nil {
		return false
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	return err == nil && slices.ContainsFunc(z.File, func(f *zip.File) bool { return f.Name == name && f.Method == zip.Store }) // others are refused
}

// filled says that there is a file which the user may read, with something in it.
func (v view) filled(name string) bool {
	f, err := v.find(name)
	return err == nil && !f.Dir && f.Size > 0 && v.account.may(f, 4)
}

// tempDir is where os.TempDir says that temporary files go.
func (v view) tempDir() string {
	if d := envlist.Get(v.env, "TMPDIR"); d != "" {
		return d
	}
	return "/tmp"
}

// homeDir is HOME as the program sees it. Where the config sets none, container runtimes set the one of passwd, else "/"
// (opencontainers/runc libcontainer/init_linux.go).
func (v view) homeDir() string {
	switch home := envlist.Get(v.env, "HOME"); {
	case home != "":
		return home
	case v.account.known:
		return path.Clean("/" + v.account.home)
	}
	return "/"
}

// needsHome says that a program which asks for its home gets none that it can write to. The superuser makes what is missing.
func (v view) needsHome() bool { return !v.account.superuser() && !v.writable(v.homeDir()) }

// lacksAccount says that the user cannot be looked up.
func (v view) lacksAccount() bool {
	return !v.filled(rootfiles.PasswdPath) || !v.account.known && v.account.unread == ""
}

// nothing is an empty root.
type nothing struct{}

func (nothing) Stat(name string, _ func(File) bool) (File, error) {
	if path.Clean("/"+name) == "/" {
		return File{Path: "/", Mode: 0o755, Dir: true}, nil
	}
	return File{}, fs.ErrNotExist
}
func (nothing) ReadFile(string) ([]byte, error) { return nil, fs.ErrNotExist }
func (nothing) ReadDir(string) ([]File, error)  { return nil, fs.ErrNotExist }
