package localdir

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/skiff-build/skiff/internal/store"
)

// Index remembers the digests of files. It is safe for concurrent use; [Index.Save] keeps it.
type Index struct {
	store *store.Store

	mu   sync.Mutex
	dirs map[string]*dirIndex // by resolved folder
}

// dirIndex is the index of one folder.
type dirIndex struct {
	mu      sync.Mutex
	entries map[string]*indexEntry // by name below the folder
	dirty   bool
}

// indexEntry is the digest of a file that had this stamp when it was read, and was settled.
type indexEntry struct {
	stamp  stamp
	digest digest
	seen   bool // by this process
}

const recordKind = "localdir"

// indexRecord is the record of a folder. Its data is a list of entries, see encode.
type indexRecord struct {
	Dir     string `json:"dir"`
	Version int    `json:"version"`
	Data    []byte `json:"data"`
}

// indexVersion grows when the form of the data or the meaning of a stamp changes.
const indexVersion = 1

// dir returns the index of a folder, read from the store the first time.
func (ix *Index) dir(dir string) *dirIndex {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if d := ix.dirs[dir]; d != nil {
		return d
	}
	d := &dirIndex{entries: map[string]*indexEntry{}}
	ix.dirs[dir] = d
	var r indexRecord
	if ix.store == nil || ix.store.Get(recordKind, recordKey(dir), &r) != nil || r.Version != indexVersion || r.Dir != dir {
		return d // nothing known, or nothing of use: everything is read again
	}
	if entries, err := decode(r.Data); err == nil {
		d.entries = entries
	}
	return d
}

func recordKey(dir string) store.Key { return sha256.Sum256([]byte("skiff localdir " + dir)) }

// Save writes what is new to the store. A build calls it when it has asked for its digests.
func (ix *Index) Save() error {
	if ix.store == nil {
		return nil
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	for dir, d := range ix.dirs {
		if err := d.save(ix.store, dir); err != nil {
			return fmt.Errorf("save index of %s: %w", dir, err)
		}
	}
	return nil
}

func (d *dirIndex) save(st *store.Store, dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dirty {
		return nil
	}
	d.forget()
	err := st.Put(recordKind, recordKey(dir), indexRecord{Dir: dir, Version: indexVersion, Data: encode(d.entries)})
	d.dirty = err != nil
	return err
}

// forget drops the files that this process did not see once they are many: other builds may select
// other files of the folder, but most of what is not seen is gone.
func (d *dirIndex) forget() {
	unseen := 0
	for _, e := range d.entries {
		if !e.seen {
			unseen++
		}
	}
	if unseen > 1000+len(d.entries)/2 {
		maps.DeleteFunc(d.entries, func(_ string, e *indexEntry) bool { return !e.seen })
	}
}

// get returns the digest of a file with this stamp.
func (d *dirIndex) get(name string, s stamp) (digest, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entries[name]
	if e == nil || e.stamp != s {
		return digest{}, false
	}
	e.seen = true
	return e.digest, true
}

func (d *dirIndex) put(name string, e indexEntry) {
	e.seen = true
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries[name] = &e
	d.dirty = true
}

// encode writes for each entry the length of the name, the name, size, mtime, ctime, inode
// and mode as varints, and the digest.
func encode(entries map[string]*indexEntry) []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		e := entries[name]
		b = binary.AppendUvarint(b, uint64(len(name)))
		b = append(b, name...)
		for _, v := range []int64{e.stamp.size, e.stamp.mtime, e.stamp.ctime, int64(e.stamp.ino), int64(e.stamp.mode)} {
			b = binary.AppendVarint(b, v)
		}
		b = append(b, e.digest[:]...)
	}
	return b
}

func decode(b []byte) (map[string]*indexEntry, error) {
	entries := make(map[string]*indexEntry, len(b)/100)
	broken := errors.New("broken index")
	for len(b) > 0 {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return nil, broken
		}
		name := string(b[n : n+int(size)])
		b = b[n+int(size):]
		var v [5]int64
		for i := range v {
			if v[i], n = binary.Varint(b); n <= 0 {
				return nil, broken
			}
			b = b[n:]
		}
		e := &indexEntry{stamp: stamp{size: v[0], mtime: v[1], ctime: v[2], ino: uint64(v[3]), mode: uint32(v[4])}}
		if copy(e.digest[:], b) < sha256.Size {
			return nil, broken
		}
		b = b[sha256.Size:]
		entries[name] = e
	}
	return entries, nil
}
