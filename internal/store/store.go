// Package store keeps skiff's state as plain files below one root folder:
//
//	ROOT/version             the format, a decimal number
//	ROOT/version.sum         the same, and when it was written
//	ROOT/names               the names of images once more: see names.go
//	ROOT/lock                held shared by every open Store, exclusively by Trim
//	ROOT/oci/                an OCI image layout (image-spec image-layout.md): tags and blobs
//	ROOT/composed/           blobs that are mostly parts of others: see composed.go
//	ROOT/layers/ID/fs/       unpacked layers, in the upper form of overlayfs; immutable
//	ROOT/layers/ID/over      the id of the layer that this one completes, where it does not stand for itself
//	ROOT/layers/ID/du        the layer's size on disk in bytes, once somebody asked
//	ROOT/records/KIND/xx/KEY small JSON records: the key of a recipe to its result
//	ROOT/cache/NAME/         cache mounts
//	ROOT/locks/              lock files of [Store.Lock]
//	ROOT/tmp/                what is being made; swept by Trim
//	ROOT/bin/                programs that skiff put there for itself
//
// A record, a layer or a blob appears by one atomic rename after it is complete, so a reader never sees a
// part of one, and any number of processes share a root. What is missing or broken is a miss and is made
// again: a half-deleted root heals. A *Store is safe for concurrent use.
package store

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// formatVersion is written to ROOT/version. It grows when an older skiff could misread what a newer one wrote.
const formatVersion = 1

// subfolders of the root, made by Open.
var subfolders = []string{"oci/blobs/sha256", "composed", "layers", "records", "cache", "locks", "tmp", "bin"}

// ErrMiss says that the store does not hold what was asked for.
var ErrMiss = errors.New("not in the store")

// VersionError is returned by [Open] for a root that another version of skiff made.
type VersionError struct {
	Root  string
	Found string // what ROOT/version holds
}

func (e *VersionError) Error() string {
	if _, err := strconv.Atoi(e.Found); err != nil {
		return fmt.Sprintf("open state: %s: its version file holds %q, which no skiff wrote: choose another folder with --root or SKIFF_ROOT", e.Root, e.Found)
	}
	return fmt.Sprintf("open state: %s was made by a newer skiff (format %s, this one knows %d): upgrade skiff, or choose another folder with --root or SKIFF_ROOT",
		e.Root, e.Found, formatVersion)
}

// Store is an open root. Close releases it.
type Store struct {
	root  string
	lock  *os.File // ROOT/lock, flocked shared
	mark  string   // prefix of this Store's own files in tmp
	alive *os.File // see alivePath
	boot  string   // id of the running boot; "" where the system has none
	warn  func(string)

	remake func(h v1.Hash) error // see Remake

	durable map[string]int64 // by boot id: the last generation that reached the disk

	mu   sync.Mutex
	held map[string]chan struct{} // names locked by goroutines of this Store; closed at unlock
	made map[v1.Hash]bool         // blobs that this Store wrote
}

// Open opens the state below root and makes what is missing there. Errors: a *[VersionError] for a root of a
// newer format; an error that names --root for one that cannot be written to, or for a folder that holds
// other things. It waits while another process trims.
func Open(root string) (*Store, error) { return OpenWith(root, nil) }

// OpenWith is [Open] with somebody to be told of what was damaged and is mended; nil: nobody is.
func OpenWith(root string, warn func(string)) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	if err := checkOwner(root, os.Geteuid()); err != nil {
		return nil, err
	}
	if err := checkRoot(root); err != nil {
		return nil, err
	}
	for _, d := range append([]string{""}, subfolders...) {
		if err := os.MkdirAll(filepath.Join(root, d), 0o700); err != nil {
			return nil, notWritable(root, err)
		}
	}
	if i, err := os.Stat(root); err == nil && i.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		// Layers hold setuid programs: nobody else may reach them.
		if err := os.Chmod(root, 0o700); err != nil {
			return nil, notWritable(root, err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(root, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, notWritable(root, err)
	}
	if err := flock(lock, false, true); err != nil {
		lock.Close()
		return nil, fmt.Errorf("open state: lock %s: %w", lock.Name(), err)
	}
	s := &Store{root: root, lock: lock, mark: NewID() + "-", boot: bootID(), warn: warn, held: map[string]chan struct{}{}, made: map[v1.Hash]bool{}}
	if err := s.prepare(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// OwnerError is returned by [Open] for a root that another user made. Root is refused, too: what it wrote there would lock the owner
// out, and what it read would be that user's word.
type OwnerError struct {
	Root       string
	Owner, Own int // user ids
}

func (e *OwnerError) Error() string {
	return fmt.Sprintf("open state: %s belongs to %s, and this is %s: run skiff as that user, or choose another folder with --root or SKIFF_ROOT",
		e.Root, userName(e.Owner), userName(e.Own))
}

func userName(id int) string {
	if u, err := user.LookupId(strconv.Itoa(id)); err == nil {
		return "user " + u.Username
	}
	return fmt.Sprintf("user %d", id)
}

// checkOwner refuses a state of somebody else. An empty folder is no state, whoever made it.
func checkOwner(root string, own int) error {
	for _, name := range []string{"version", "records", "layers", "oci"} {
		i, err := os.Lstat(filepath.Join(root, name))
		if err != nil {
			continue
		}
		if id, ok := ownerOf(i); ok && id != own {
			return &OwnerError{Root: root, Owner: id, Own: own}
		}
		return nil
	}
	return nil
}

// checkRoot looks at what is there before anything is made: other people's folders are left alone.
func checkRoot(root string) error {
	b, err := os.ReadFile(filepath.Join(root, "version"))
	if err == nil {
		v := strings.TrimSpace(string(b))
		if n, err := strconv.Atoi(v); v != "" && (err != nil || n > formatVersion) && !damagedVersion(root) {
			return &VersionError{Root: root, Found: v}
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return notWritable(root, err)
	}
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return notWritable(root, err)
	}
	for _, e := range entries {
		if !isOurs(e.Name()) {
			return fmt.Errorf("open state: %s holds %q, which is not skiff's: choose an empty folder with --root or SKIFF_ROOT", root, e.Name())
		}
	}
	return nil
}

// damagedVersion reports whether the version file of a state that this skiff knows holds something else than was written, though
// nobody has written to it since.
func damagedVersion(root string) bool {
	i, err := os.Stat(filepath.Join(root, "version"))
	b, rerr := os.ReadFile(filepath.Join(root, "version.sum"))
	return err == nil && rerr == nil && string(b) == versionSum(i)
}

// versionSum is the content of version.sum for a version file that says formatVersion.
func versionSum(i fs.FileInfo) string {
	return fmt.Sprintf("%d %d\n", formatVersion, i.ModTime().UnixNano())
}

func isOurs(name string) bool {
	for _, d := range subfolders {
		if name == strings.SplitN(d, "/", 2)[0] {
			return true
		}
	}
	return name == "lock" || name == "version" || name == "version.sum" || name == "names" || name == "synced" || name == "trimmed" || name == "lost+found"
}

// prepare writes the small files that a fresh or half-deleted root lacks. It runs under the shared lock.
func (s *Store) prepare() error {
	// Before anything with the mark is made: what was left behind without this file would be nobody's to sweep.
	alive, err := tryLock(s.alivePath(s.mark), true, false)
	if err != nil {
		return notWritable(s.root, err)
	}
	s.alive = alive
	if err := s.prepareVersion(); err != nil {
		return notWritable(s.root, err)
	}
	// A root whose top may be written to and whose tmp may not (sudo was here) would fail later, and worse.
	probe, err := os.CreateTemp(s.path("tmp"), s.mark+"probe")
	if err != nil {
		return notWritable(s.root, err)
	}
	probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		return notWritable(s.root, err)
	}
	if err := s.prepareLayout(); err != nil {
		return err
	}
	s.durable = map[string]int64{}
	for boot, g := range s.readSynced().Boots {
		s.durable[boot] = g.Durable
	}
	return nil
}

func (s *Store) prepareVersion() error {
	version, text := filepath.Join(s.root, "version"), strconv.Itoa(formatVersion)+"\n"
	if b, err := os.ReadFile(version); err != nil || string(b) != text {
		if err := s.writeFile(version, []byte(text)); err != nil {
			return err
		}
	}
	i, err := os.Stat(version)
	if err != nil {
		return err
	}
	sum := version + ".sum"
	if b, err := os.ReadFile(sum); err == nil && string(b) == versionSum(i) {
		return nil
	}
	return s.writeFile(sum, []byte(versionSum(i)))
}

func notWritable(root string, err error) error {
	return fmt.Errorf("open state: %s cannot be used: choose a folder that you can write to with --root or SKIFF_ROOT: %w", root, err)
}

func (s *Store) warnf(format string, args ...any) {
	if s.warn != nil {
		s.warn(fmt.Sprintf(format, args...))
	}
}

// Close releases the root. Locks and temporary folders still held are released by their own functions.
func (s *Store) Close() error {
	if s.alive != nil {
		s.alive.Close()
		os.Remove(s.alive.Name()) // what stays is swept
	}
	return s.lock.Close()
}

// Root returns the absolute path of the root folder.
func (s *Store) Root() string { return s.root }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}

// DefaultRoot returns the folder used when the user names none: $SKIFF_ROOT, $XDG_DATA_HOME/skiff, else
// ~/.local/share/skiff on Linux and the user's cache folder elsewhere.
func DefaultRoot() (string, error) {
	if r := os.Getenv("SKIFF_ROOT"); r != "" {
		return filepath.Abs(r)
	}
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "skiff"), nil
	}
	if runtime.GOOS == "darwin" || runtime.GOOS == "windows" {
		if d, err := os.UserCacheDir(); err == nil {
			return filepath.Join(d, "skiff"), nil
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the state folder: %w: set SKIFF_ROOT or --root", err)
	}
	return filepath.Join(home, ".local", "share", "skiff"), nil
}

// DefaultKeep is what Trim keeps when the user says nothing: 10 GB, or a tenth of the disk that holds root
// where that is less.
func DefaultKeep(root string) int64 {
	const most = 10_000_000_000
	total, err := diskSize(root)
	if err != nil || total <= 0 {
		return most
	}
	return min(most, total/10)
}

// NewID returns a random name of 26 characters, base32 in lower case: 128 bits.
func NewID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program first
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// NewID returns a fresh name for a layer.
func (s *Store) NewID() string { return NewID() }

// writeFile replaces the file at path by one rename. Missing parents are made.
func (s *Store) writeFile(path string, data []byte) error { return s.replaceFile(path, data, false) }

// writeSynced is writeFile for what must not be lost: the bytes are on the disk before the rename.
func (s *Store) writeSynced(path string, data []byte) error { return s.replaceFile(path, data, true) }

func (s *Store) replaceFile(path string, data []byte, sync bool) error {
	f, err := s.createTemp("file")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = s.place(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// createTemp makes a file in tmp that Trim of this very Store leaves alone.
func (s *Store) createTemp(what string) (*os.File, error) {
	f, err := os.CreateTemp(s.path("tmp"), s.mark+what)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(s.path("tmp"), 0o700); err != nil {
			return nil, err
		}
		f, err = os.CreateTemp(s.path("tmp"), s.mark+what)
	}
	return f, err
}

// place renames from to path; parents that are missing are made.
func (s *Store) place(from, path string) error {
	err := rename(from, path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		err = rename(from, path)
	}
	return err
}

// rename is os.Rename; on Windows a reader that has the target open makes it fail for a moment.
func rename(from, to string) error {
	err := os.Rename(from, to)
	for i := 0; err != nil && runtime.GOOS == "windows" && errors.Is(err, fs.ErrPermission) && i < 20; i++ {
		time.Sleep(5 * time.Millisecond)
		err = os.Rename(from, to)
	}
	return err
}
