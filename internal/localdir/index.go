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

	mu       sync.Mutex
	dirs     map[string]*dirIndex // by resolved folder
	memories map[store.Key]*memory
}

// dirIndex is the index of one folder.
type dirIndex struct {
	mu      sync.Mutex
	entries map[string]*indexEntry // by name below the folder
	dirty   bool
}

// indexEntry is the digest of a file that had this stamp when it was read, and was settled.
type indexEntry struct {
	content
	seen bool // by this process
}

const recordKind = store.KindLocalDir

// indexVersion grows when the form of the data or the meaning of a stamp changes.
const indexVersion = 2

// dir returns the index of a folder, read from the store the first time.
func (ix *Index) dir(dir string) *dirIndex {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if d := ix.dirs[dir]; d != nil {
		return d
	}
	d := &dirIndex{entries: map[string]*indexEntry{}}
	ix.dirs[dir] = d
	if ix.store == nil {
		return d
	}
	if data, err := ix.store.GetData(recordKind, recordKey(dir)); err == nil {
		if entries, err := decode(data, dir); err == nil {
			d.entries = entries
		}
	}
	return d // with nothing known, or nothing of use, everything is read again
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
	for _, m := range ix.memories {
		if err := m.save(); err != nil {
			return err
		}
	}
	return nil
}

// Forget is Save, after which the Index holds nothing in memory. Trees keep what they have.
func (ix *Index) Forget() error {
	err := ix.Save()
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.dirs, ix.memories = map[string]*dirIndex{}, map[store.Key]*memory{}
	return err
}

func (d *dirIndex) save(st *store.Store, dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dirty {
		return nil
	}
	d.forget()
	err := st.PutData(recordKind, recordKey(dir), struct{}{}, encode(d.entries, dir))
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

// get returns the content of a file with this stamp, which never changes; nil where it is not known.
func (d *dirIndex) get(name string, s stamp) *content {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entries[name]
	if e == nil || e.stamp != s {
		return nil
	}
	e.seen = true
	return &e.content
}

func (d *dirIndex) put(name string, e indexEntry) {
	e.seen = true
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries[name] = &e
	d.dirty = true
}

// encode writes the version, the folder and the number of entries, and for each entry the name, size, mtime, ctime, inode and
// mode, and the digest. Numbers are varints, texts follow their length.
func encode(entries map[string]*indexEntry, dir string) []byte {
	b := make([]byte, 0, 100*len(entries)+100)
	b = binary.AppendUvarint(b, indexVersion)
	b = appendText(b, dir)
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		e := entries[name]
		b = appendText(b, name)
		for _, v := range []int64{e.stamp.size, e.stamp.mtime, e.stamp.ctime, int64(e.stamp.ino), int64(e.stamp.mode)} {
			b = binary.AppendVarint(b, v)
		}
		b = append(b, e.digest[:]...)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// minEntry is the least number of bytes that an entry takes.
const minEntry = 6 + sha256.Size

// decode is the inverse of encode. The index of another version or folder is an error.
func decode(b []byte, dir string) (map[string]*indexEntry, error) {
	d := decoder{b: b}
	if version := d.uvarint(); version != indexVersion {
		return nil, fmt.Errorf("index of version %d", version)
	}
	if of := string(d.text()); of != dir {
		return nil, fmt.Errorf("index of %s", of)
	}
	count := d.uvarint()
	if count > uint64(len(d.b)/minEntry) {
		return nil, errBroken
	}
	list, ends := make([]indexEntry, count), make([]int, count)
	all := make([]byte, 0, len(d.b)-minEntry*int(count)) // names
	for i := range list {
		e := &list[i]
		all = append(all, d.text()...)
		ends[i] = len(all)
		e.stamp = stamp{size: d.varint(), mtime: d.varint(), ctime: d.varint(), ino: uint64(d.varint()), mode: uint32(d.varint())}
		d.digest(&e.digest)
		if d.err != nil {
			return nil, d.err
		}
	}
	if len(d.b) > 0 {
		return nil, errBroken
	}
	// The names are parts of one string, which costs one allocation for all.
	entries, names, start := make(map[string]*indexEntry, count), string(all), 0
	for i, end := range ends {
		entries[names[start:end]], start = &list[i], end
	}
	return entries, nil
}

var errBroken = errors.New("broken index")

// decoder takes what it gives off the front of b. After an error it gives zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	return v * d.took(n)
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	return v * int64(d.took(n))
}

// took takes n bytes off; 1 if there were any, else 0.
func (d *decoder) took(n int) uint64 {
	if n <= 0 || n > len(d.b) {
		d.b, d.err = nil, errBroken
		return 0
	}
	d.b = d.b[n:]
	return 1
}

// text is a part of b.
func (d *decoder) text() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.b, d.err = nil, errBroken
		return nil
	}
	text := d.b[:n]
	d.b = d.b[n:]
	return text
}

func (d *decoder) digest(to *digest) {
	if copy(to[:], d.b) < sha256.Size {
		d.b, d.err = nil, errBroken
		return
	}
	d.b = d.b[sha256.Size:]
}
