package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Usage is what the root takes on the disk, in bytes.
type Usage struct {
	Layers, Blobs, Caches, Records, Other int64
	LayerCount, BlobCount, CacheCount     int
	RecordCount                           int
}

// Total is the sum of all parts, in bytes.
func (u Usage) Total() int64 { return u.Layers + u.Blobs + u.Caches + u.Records + u.Other }

// DiskUsage measures the root. Folders that this user may not read (those of subordinate ids) are counted
// as far as they can be, except layers whose size was noted when they were made ([Store.NoteSize]).
func (s *Store) DiskUsage() (Usage, error) {
	var u Usage
	inv, err := s.inventory()
	if err != nil {
		return u, fmt.Errorf("measure state: %w", err)
	}
	for _, n := range inv.layers {
		u.Layers += n
	}
	for _, n := range inv.blobs {
		u.Blobs += n
	}
	for _, c := range inv.caches {
		u.Caches += c.size
	}
	for _, r := range inv.records {
		u.Records += r.size
	}
	u.LayerCount, u.BlobCount, u.CacheCount, u.RecordCount = len(inv.layers), len(inv.blobs), len(inv.caches), len(inv.records)
	u.Other = treeSize(s.path("tmp")) + treeSize(s.path("bin"))
	return u, nil
}

// RoughSize is about what the root takes on the disk in bytes, in some milliseconds: what is small is left out, and of caches counts
// what was measured last, which [Store.Trim] and this do anew when it is older than cacheSizeFor.
func (s *Store) RoughSize() (n int64) {
	_ = eachEntry(s.path("layers"), func(e fs.DirEntry) { n += s.layerSize(e.Name()) })
	for _, dir := range []string{s.path("oci", "blobs", "sha256"), s.path("composed"), s.path("bin")} {
		_ = eachEntry(dir, func(e fs.DirEntry) {
			if i, err := e.Info(); err == nil {
				n += onDisk(i)
			}
		})
	}
	_ = eachEntry(s.path("cache"), func(e fs.DirEntry) {
		if c, ok := s.cacheItem(e); ok {
			n += c.size
		}
	})
	return n
}

// inventory is what the root holds.
type inventory struct {
	layers  map[string]int64    // by id: bytes
	blobs   map[string]int64    // by digest ("sha256:…"): bytes
	made    map[string][]string // by digest of a composed blob: those that it has parts of
	caches  []cacheItem
	records []recordItem
}

type cacheItem struct {
	name string
	size int64
	used time.Time
}

type recordItem struct {
	kind          Kind
	key           Key
	path          string
	used          time.Time
	size          int64
	layers, blobs []string
}

func (s *Store) inventory() (*inventory, error) {
	inv := &inventory{layers: map[string]int64{}, blobs: map[string]int64{}, made: map[string][]string{}}
	if err := eachEntry(s.path("layers"), func(e fs.DirEntry) {
		inv.layers[e.Name()] = s.layerSize(e.Name())
	}); err != nil {
		return nil, err
	}
	if err := eachEntry(s.path("oci", "blobs", "sha256"), func(e fs.DirEntry) {
		if i, err := e.Info(); err == nil {
			inv.blobs["sha256:"+e.Name()] = onDisk(i)
		}
	}); err != nil {
		return nil, err
	}
	if err := eachEntry(s.path("composed"), func(e fs.DirEntry) {
		h := v1.Hash{Algorithm: "sha256", Hex: e.Name()}
		if i, err := e.Info(); err == nil {
			inv.blobs[h.String()] += onDisk(i)
		}
		parts, _ := s.Parts(h) // one that cannot be read any more keeps nothing
		for _, p := range parts {
			if of := p.Blob.String(); p.Blob != (v1.Hash{}) && !slices.Contains(inv.made[h.String()], of) {
				inv.made[h.String()] = append(inv.made[h.String()], of)
			}
		}
	}); err != nil {
		return nil, err
	}
	if err := eachEntry(s.path("cache"), func(e fs.DirEntry) {
		if c, ok := s.cacheItem(e); ok {
			inv.caches = append(inv.caches, c)
		}
	}); err != nil {
		return nil, err
	}
	var kinds []Kind
	if err := eachEntry(s.path("records"), func(e fs.DirEntry) { kinds = append(kinds, Kind(e.Name())) }); err != nil {
		return nil, err
	}
	for _, kind := range kinds {
		if err := s.eachFile(kind, func(k Key, path string) error {
			if r, ok := s.recordItem(kind, k, path); ok {
				inv.records = append(inv.records, r)
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return inv, nil
}

func (s *Store) recordItem(kind Kind, k Key, path string) (recordItem, bool) {
	i, err := os.Lstat(path)
	if err != nil {
		return recordItem{}, false
	}
	item := recordItem{kind: kind, key: k, path: path, used: i.ModTime(), size: onDisk(i)}
	raw, _, err := s.readRecord(kind, k)
	if err != nil {
		item.used = time.Time{} // a miss for all readers: the first to go
		return item, true
	}
	var refs struct {
		Layers []string `json:"layers"`
		Blobs  []string `json:"blobs"`
	}
	if json.Unmarshal(raw, &refs) == nil {
		item.layers, item.blobs = refs.Layers, refs.Blobs
	}
	return item, true
}

// eachEntry calls fn for the entries of dir. A missing dir has none.
func eachEntry(dir string, fn func(fs.DirEntry)) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		fn(e)
	}
	return nil
}

// NoteSize keeps the size on disk of a layer, in bytes, so that nobody has to walk it.
func (s *Store) NoteSize(id string, size int64) error {
	if err := s.writeFile(filepath.Join(s.LayerDir(id), "du"), []byte(strconv.FormatInt(size, 10))); err != nil {
		return fmt.Errorf("note size of layer %s: %w", id, err)
	}
	return nil
}

// LayerSize is the size on disk of a layer in bytes, as far as this user can see it; 0 where there is none.
func (s *Store) LayerSize(id string) int64 {
	if !s.HasLayer(id) {
		return 0
	}
	return s.layerSize(id)
}

func (s *Store) layerSize(id string) int64 {
	dir := s.LayerDir(id)
	if n, ok := readSize(filepath.Join(dir, "du")); ok {
		return n
	}
	n := treeSize(dir)
	if s.HasLayer(id) {
		s.NoteSize(id, n) // best effort: without it the next one walks again
	}
	return n
}

// cacheSizeFor is how long the measured size of a cache mount is believed that was used since: Go's caches hold 10,000s of files.
const cacheSizeFor = 10 * time.Minute

// cacheItem measures ROOT/cache/NAME, whose last use is the folder's mtime. NAME.du beside it keeps the size.
func (s *Store) cacheItem(e fs.DirEntry) (cacheItem, bool) {
	i, err := e.Info()
	if err != nil || !e.IsDir() {
		return cacheItem{}, false
	}
	c := cacheItem{name: e.Name(), used: i.ModTime()}
	du := s.path("cache", e.Name()+".du")
	if i, err := os.Lstat(du); err == nil && (younger(i.ModTime(), cacheSizeFor) || i.ModTime().After(c.used.Add(cacheSizeFor))) {
		if n, ok := readSize(du); ok {
			c.size = n
			return c, true
		}
	}
	c.size = treeSize(s.path("cache", e.Name()))
	s.writeFile(du, []byte(strconv.FormatInt(c.size, 10))) // best effort, as above
	return c, true
}

func readSize(path string) (int64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil && n >= 0
}
