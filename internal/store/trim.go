package store

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Remover removes folders with all they hold, in the user namespace where their owners are subordinate ids.
// A path that is not there is no error.
type Remover func(ctx context.Context, paths []string) error

// Freed is what Trim did.
type Freed struct {
	Skipped bool  // another process uses the root: nothing was done
	Bytes   int64 // on the disk

	Records, Layers, Blobs, Caches, Images int
	Orphans                                int // of the layers, those that no record named: no step runs again for want of them
	Modules                                int // of the caches, those with the form of a module cache of Go
}

// Trim removes what is used least recently until the root takes at most keep bytes: images without a name,
// records with the layers and blobs that nothing else needs, and cache mounts. What a name in index.json
// needs stays. In any case it removes layers and blobs that nothing refers to, and what crashed processes
// left in tmp; drafts of blobs when they are a day old, or keep is 0. It does so only when no other Store has
// this root open ([Freed.Skipped] otherwise); no build of this Store may be under way. remove may be nil: then
// this process removes by itself.
func (s *Store) Trim(ctx context.Context, keep int64, remove Remover) (Freed, error) {
	if remove == nil {
		remove = removeAll
	}
	if err := relock(s.lock, true, false); err != nil {
		// The shared lock may be lost by now: take it again, after whoever trims now.
		if err := relock(s.lock, false, true); err != nil {
			return Freed{}, fmt.Errorf("trim state: lock: %w", err)
		}
		return Freed{Skipped: true}, nil
	}
	trash, release, err := s.TempDir("trash")
	if err != nil {
		relock(s.lock, false, true)
		return Freed{}, fmt.Errorf("trim state: %w", err)
	}
	defer release()
	t := &trimmer{s: s, trash: trash}
	err = t.run(keep)
	// Others may come in while the folders are removed: nothing leads to them any more.
	if lerr := relock(s.lock, false, true); err == nil && lerr != nil {
		err = fmt.Errorf("lock: %w", lerr)
	}
	if err == nil {
		err = ctx.Err()
	}
	if rerr := remove(ctx, append(t.old, trash)); err == nil {
		err = rerr
	}
	if err != nil {
		return t.freed, fmt.Errorf("trim state: %w", err)
	}
	return t.freed, s.writeFile(s.path("trimmed"), nil)
}

// TrimDue reports whether Trim has not run to its end for a while.
func (s *Store) TrimDue(every time.Duration) bool { return !younger(s.LastTrim(), every) }

// LastTrim tells when Trim last ran to its end; the zero time if never.
func (s *Store) LastTrim() time.Time {
	i, err := os.Stat(s.path("trimmed"))
	if err != nil {
		return time.Time{}
	}
	return i.ModTime()
}

func removeAll(_ context.Context, paths []string) error {
	for _, p := range paths {
		if err := RemoveAll(p); err != nil {
			return err
		}
	}
	return nil
}

// trimmer is one run of Trim. It moves folders into trash and removes files at once.
type trimmer struct {
	s     *Store
	trash string
	old   []string // what crashed processes left in tmp
	freed Freed

	inv           *inventory
	layers, blobs map[string]int // by id or digest: how many records and images need it
}

func (t *trimmer) run(keep int64) error {
	var err error
	if t.old, err = t.s.sweepable(keep <= 0); err != nil {
		return err
	}
	for _, p := range t.old {
		if !strings.HasSuffix(p, ".lock") {
			t.freed.Bytes += treeSize(p)
		}
	}
	if t.inv, err = t.s.inventory(); err != nil {
		return err
	}
	if err := t.count(); err != nil {
		return err
	}
	if err := t.dropOrphans(); err != nil {
		return err
	}
	if err := t.dropUnnamed(keep); err != nil {
		return err
	}
	if err := t.dropOldest(keep); err != nil {
		return err
	}
	t.dropLocks()
	return nil
}

func (t *trimmer) total() int64 {
	var n int64
	for _, size := range t.inv.layers {
		n += size
	}
	for _, size := range t.inv.blobs {
		n += size
	}
	for _, c := range t.inv.caches {
		n += c.size
	}
	for _, r := range t.inv.records {
		n += r.size
	}
	return n
}

// count finds who needs what: records by their "layers" and "blobs", images by their manifests, composed blobs by their parts.
func (t *trimmer) count() error {
	t.layers, t.blobs = map[string]int{}, map[string]int{}
	for _, r := range t.inv.records {
		for _, id := range r.layers {
			t.layers[id]++
		}
		for _, b := range r.blobs {
			t.blobs[b]++
		}
	}
	for _, parts := range t.inv.made {
		for _, b := range parts {
			t.blobs[b]++
		}
	}
	tags, err := t.s.Tags()
	if err != nil {
		return err
	}
	for _, d := range tags {
		for _, b := range t.s.reach(d) {
			t.blobs[b]++
		}
	}
	return nil
}

// reach lists the digests of all blobs that an image or index needs, its own included, each once.
func (s *Store) reach(d v1.Descriptor) []string {
	var names []string
	s.visit(d, func(h v1.Hash, _ bool) { names = append(names, h.String()) })
	return names
}

// dropOrphans removes layers and blobs that nothing refers to.
func (t *trimmer) dropOrphans() error {
	for id := range t.inv.layers {
		if t.layers[id] == 0 {
			if err := t.dropLayer(id); err != nil {
				return err
			}
			t.freed.Orphans++
		}
	}
	for i := range t.inv.records {
		if r := &t.inv.records[i]; r.kind == kindSpare && t.blobs["sha256:"+r.key.String()] == 0 {
			r.used = time.Time{} // as a record that is a miss for its readers: the first to go
		}
	}
	for b := range t.inv.blobs {
		if t.blobs[b] == 0 {
			if err := t.dropBlob(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropUnnamed takes images without a name out of the index, oldest entries first.
func (t *trimmer) dropUnnamed(keep int64) error {
	ix, err := t.s.readIndex()
	if err != nil {
		return err
	}
	for _, d := range ix.Manifests {
		if NameOf(d) != "" || t.total() <= keep {
			continue
		}
		needed := t.s.reach(d)
		if err := t.s.drop("trim", func(o v1.Descriptor) bool { return NameOf(o) == "" && o.Digest == d.Digest }); err != nil {
			return err
		}
		t.freed.Images++
		if err := t.releaseRefs(nil, needed); err != nil {
			return err
		}
	}
	return nil
}

// dropOldest removes records and cache mounts, least recently used first, until no more than keep is left.
func (t *trimmer) dropOldest(keep int64) error {
	type item struct {
		used  time.Time
		size  int64
		refs  *recordItem
		cache string
		files []string // of a Go build cache, all used in the same hour; nil: all of the cache
	}
	var items []item
	for i := range t.inv.records {
		r := &t.inv.records[i]
		if r.kind == kindSpare && !r.used.IsZero() {
			continue // it goes with the blob
		}
		items = append(items, item{used: r.used, size: r.size, refs: r})
	}
	for _, c := range t.inv.caches {
		if hours := t.s.goCacheHours(c.name); keep > 0 && hours != nil {
			for used, h := range hours {
				items = append(items, item{used: used, size: h.size, cache: c.name, files: h.files})
			}
			continue
		}
		items = append(items, item{used: c.used, size: c.size, cache: c.name})
	}
	now := time.Now()
	for i := range items {
		if items[i].used.After(now) {
			items[i].used = time.Unix(1, 0) // of when the clock was wrong: nobody knows
		}
	}
	sort.SliceStable(items, func(i, j int) bool { return items[i].used.Before(items[j].used) })
	total := t.total()
	for _, it := range items {
		// A record that is a miss for its readers goes in any case.
		if total <= keep && !it.used.IsZero() {
			return nil
		}
		before := t.freed.Bytes
		if it.refs != nil {
			if err := t.dropRecord(it.refs); err != nil {
				return err
			}
		} else if it.files != nil {
			t.dropFiles(it.cache, it.size, it.files)
		} else if err := t.dropCache(it.cache, it.size); err != nil {
			return err
		}
		total -= t.freed.Bytes - before
	}
	return nil
}

// dropRecord removes a record before what it names, so that a crash between the two leaves no record of
// something that is not there.
func (t *trimmer) dropRecord(r *recordItem) error {
	if err := os.Remove(r.path); err != nil && !os.IsNotExist(err) {
		return err
	}
	t.freed.Records++
	t.freed.Bytes += r.size
	return t.releaseRefs(r.layers, r.blobs)
}

func (t *trimmer) releaseRefs(layers, blobs []string) error {
	for _, id := range layers {
		if t.layers[id]--; t.layers[id] == 0 {
			if err := t.dropLayer(id); err != nil {
				return err
			}
		}
	}
	for _, b := range blobs {
		if t.blobs[b]--; t.blobs[b] == 0 {
			if err := t.dropBlob(b); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *trimmer) dropLayer(id string) error {
	size, ok := t.inv.layers[id]
	if !ok {
		return nil
	}
	if err := os.Rename(t.s.LayerDir(id), filepath.Join(t.trash, "layer-"+id)); err != nil && !os.IsNotExist(err) {
		return err
	}
	delete(t.inv.layers, id)
	t.freed.Layers++
	t.freed.Bytes += size
	return nil
}

func (t *trimmer) dropBlob(digest string) error {
	size, ok := t.inv.blobs[digest]
	if !ok {
		return nil
	}
	name := strings.TrimPrefix(digest, "sha256:")
	spare := t.s.recordPath(kindSpare, blobKey(v1.Hash{Hex: name}))
	for _, path := range []string{spare, t.s.path("composed", name), t.s.path("oci", "blobs", "sha256", name)} {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	delete(t.inv.blobs, digest)
	t.freed.Blobs++
	t.freed.Bytes += size
	return t.releaseRefs(nil, t.inv.made[digest])
}

// hour is files of a Go build cache that were last used in the same hour.
type hour struct {
	size  int64 // bytes on the disk
	files []string
}

// goCacheHours returns what a cache mount holds by the hour of its last use, if it is a build cache of Go: 256 folders with entries
// that the go command touches once an hour when it uses them. Each entry can go by itself, so that a cache ages by use and is never
// lost as a whole while it is in use. nil: it is something else.
func (s *Store) goCacheHours(name string) map[time.Time]*hour {
	data := s.path("cache", name, "data")
	for _, sub := range []string{"00", "ff"} {
		if i, err := os.Lstat(filepath.Join(data, sub)); err != nil || !i.IsDir() {
			return nil
		}
	}
	hours := map[time.Time]*hour{}
	for b := range 256 {
		dir := filepath.Join(data, fmt.Sprintf("%02x", b))
		_ = eachEntry(dir, func(e fs.DirEntry) {
			i, err := e.Info()
			if err != nil || !i.Mode().IsRegular() {
				return
			}
			used := i.ModTime().Truncate(time.Hour)
			if hours[used] == nil {
				hours[used] = &hour{}
			}
			hours[used].size += onDisk(i)
			hours[used].files = append(hours[used].files, filepath.Join(dir, e.Name()))
		})
	}
	return hours
}

// dropFiles removes files of a cache. What cannot be removed stays, and counts the next time.
func (t *trimmer) dropFiles(cache string, size int64, files []string) {
	for _, f := range files {
		_ = os.Remove(f)
	}
	_ = os.Remove(t.s.path("cache", cache+".du"))
	t.freed.Bytes += size
}

func (t *trimmer) dropCache(name string, size int64) error {
	if i, err := os.Stat(t.s.path("cache", name, "data", "cache", "download")); err == nil && i.IsDir() {
		t.freed.Modules++
	}
	if err := os.Rename(t.s.path("cache", name), filepath.Join(t.trash, "cache-"+name)); err != nil && !os.IsNotExist(err) {
		return err
	}
	os.Remove(t.s.path("cache", name+".du"))
	t.freed.Caches++
	t.freed.Bytes += size
	return nil
}

// dropLocks removes lock files that nobody holds: there is one for each name ever locked.
func (t *trimmer) dropLocks() {
	eachEntry(t.s.path("locks"), func(e fs.DirEntry) {
		path := t.s.path("locks", e.Name())
		if f, err := tryLock(path, true, false); err == nil {
			os.Remove(path)
			f.Close()
		}
	})
}
