package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Key names a record: the digest of the recipe, not of the result.
type Key [32]byte

func (k Key) String() string { return hex.EncodeToString(k[:]) }

// touchAfter bounds how often a read renews a record's time: Trim needs no finer order, and a no-change
// build should write nothing.
const touchAfter = time.Hour

// maxRecord bounds what is read as a record, in bytes. The largest, the index of a build context with
// 100,000 files, takes some 20 MB.
const maxRecord = 256 << 20

// A record's file has two lines, and after them the data that goes with it, if there is any. The first line is recordMagic and a
// sha256 in hexadecimal over the kind, the key and all that follows: a record with another sum, or in the form of an older skiff, is
// a miss, which is made again. So no disk, no interrupted copy and no editor can make a record say something else than was written.

// recordMagic begins the file of a record.
const recordMagic = "skiff-record 1 "

// record is the second line. It counts while its boot runs, and later when a [Store.Sync] had covered its generation: the layers and
// blobs that it names may have been lost in a power cut.
type record struct {
	Boot       string          `json:"boot,omitempty"`
	Generation int64           `json:"gen,omitempty"`
	Value      json.RawMessage `json:"v"`
}

// Get reads a record into v, by encoding/json. [ErrMiss] says that there is none; one that is damaged, or may
// have lost what it names in a power cut, is a miss, too.
//
// By convention, a value's top-level fields "layers" (layer ids) and "blobs" (digests) name what Trim must
// keep as long as the record is there.
func (s *Store) Get(kind Kind, k Key, v any) error {
	raw, _, err := s.readRecord(kind, k)
	if err != nil {
		return fmt.Errorf("record %s %s: %w", kind, k, err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("record %s %s: %w", kind, k, ErrMiss)
	}
	touch(s.recordPath(kind, k))
	return nil
}

// GetData reads the bytes that go with a record, see [Store.PutData]. Misses are those of [Store.Get].
func (s *Store) GetData(kind Kind, k Key) ([]byte, error) {
	_, data, err := s.readRecord(kind, k)
	if err == nil && len(data) == 0 {
		err = ErrMiss
	}
	if err != nil {
		return nil, fmt.Errorf("record %s %s: %w", kind, k, err)
	}
	touch(s.recordPath(kind, k))
	return data, nil
}

// touch renews the time of a record's last use. Only the order of Trim depends on it.
func touch(path string) {
	if i, err := os.Stat(path); err == nil && !younger(i.ModTime(), touchAfter) {
		now := time.Now()
		os.Chtimes(path, now, now)
	}
}

// younger reports whether a time stamp is less than age old. One from the future, of when the clock was wrong, is not: else what hangs
// on it would never come.
func younger(stamp time.Time, age time.Duration) bool {
	since := time.Since(stamp)
	return since > -time.Minute && since < age
}

// Put writes a record, in place of one that is there.
func (s *Store) Put(kind Kind, k Key, v any) error { return s.put(kind, k, v, nil) }

// PutData writes a record of the value v with data, bytes of any form, behind it. It is for what is large: JSON takes four
// times as long to read.
func (s *Store) PutData(kind Kind, k Key, v any, data []byte) error {
	return s.put(kind, k, v, append([]byte{'\n'}, data...))
}

func (s *Store) put(kind Kind, k Key, v any, tail []byte) error {
	if err := checkKind(kind); err != nil {
		return fmt.Errorf("put record: %w", err)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("put record %s %s: %w", kind, k, err)
	}
	err = s.withGeneration(func(gen int64) error {
		b, err := json.Marshal(record{Boot: s.boot, Generation: gen, Value: raw})
		if err != nil {
			return err
		}
		b = append(b, tail...)
		return s.writeFile(s.recordPath(kind, k), append(recordLine(kind, k, b), b...))
	})
	if err != nil {
		return fmt.Errorf("put record %s %s: %w", kind, k, err)
	}
	return nil
}

// Delete removes a record. One that is not there is no error.
func (s *Store) Delete(kind Kind, k Key) error {
	if err := os.Remove(s.recordPath(kind, k)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete record %s %s: %w", kind, k, err)
	}
	return nil
}

// Each calls fn for each record of a kind, in the order of keys, with its JSON value and the time of its last
// use (to within an hour). It ends at fn's first error and returns it.
func (s *Store) Each(kind Kind, fn func(k Key, raw []byte, used time.Time) error) error {
	return s.eachFile(kind, func(k Key, path string) error {
		raw, _, err := s.readRecord(kind, k)
		if err != nil {
			return nil // gone meanwhile, or broken: a miss
		}
		i, err := os.Stat(path)
		if err != nil {
			return nil
		}
		return fn(k, raw, i.ModTime())
	})
}

func (s *Store) eachFile(kind Kind, fn func(k Key, path string) error) error {
	dir := s.path("records", string(kind))
	buckets, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list records %s: %w", kind, err)
	}
	for _, b := range buckets {
		files, err := os.ReadDir(filepath.Join(dir, b.Name()))
		if err != nil {
			continue // not a folder, or removed meanwhile
		}
		for _, f := range files {
			var k Key
			if len(f.Name()) != hex.EncodedLen(len(k)) {
				continue
			}
			if _, err := hex.Decode(k[:], []byte(f.Name())); err != nil {
				continue
			}
			if err := fn(k, filepath.Join(dir, b.Name(), f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) recordPath(kind Kind, k Key) string {
	name := k.String()
	return s.path("records", string(kind), name[:2], name)
}

// recordLine is the first line of the file of a record, of which rest is all else.
func recordLine(kind Kind, k Key, rest []byte) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%s %s\n", kind, k)
	h.Write(rest)
	return fmt.Appendf(nil, "%s%x\n", recordMagic, h.Sum(nil))
}

// readRecord returns the value of a record and the data that goes with it, or ErrMiss.
func (s *Store) readRecord(kind Kind, k Key) (value json.RawMessage, data []byte, err error) {
	path := s.recordPath(kind, k)
	if i, err := os.Stat(path); err != nil || !i.Mode().IsRegular() || i.Size() > maxRecord {
		return nil, nil, ErrMiss
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, ErrMiss
	}
	n := min(len(b), len(recordMagic)+2*sha256.Size+1)
	line, b := b[:n], b[n:]
	if !bytes.Equal(line, recordLine(kind, k, b)) {
		// Not removed: a newer record may have taken its place meanwhile. The next Put replaces it.
		return nil, nil, fmt.Errorf("damaged: %w", ErrMiss)
	}
	b, data, _ = bytes.Cut(b, []byte{'\n'}) // JSON is written without line ends
	var r record
	if err := json.Unmarshal(b, &r); err != nil || len(r.Value) == 0 {
		return nil, nil, fmt.Errorf("damaged: %w", ErrMiss)
	}
	if r.Boot != "" && s.boot != "" && r.Boot != s.boot && r.Generation > s.durable[r.Boot] {
		return nil, nil, fmt.Errorf("from before a power cut: %w", ErrMiss)
	}
	return r.Value, data, nil
}

// synced is the content of ROOT/synced.
type synced struct {
	Boots map[string]generations `json:"boots"`
}

// generations of one boot: records are written with Now; all up to Durable reached the disk.
type generations struct {
	Now     int64 `json:"now"`
	Durable int64 `json:"durable"`
}

// maxBoots bounds ROOT/synced (some 70 bytes a boot). Records of boots that fell out are misses.
const maxBoots = 100

func (s *Store) readSynced() synced {
	var v synced
	b, err := os.ReadFile(s.path("synced"))
	if err != nil || json.Unmarshal(bytes.TrimSpace(b), &v) != nil || v.Boots == nil {
		return synced{Boots: map[string]generations{}}
	}
	return v
}

// withGeneration calls write with the generation that a record is to carry, while no Sync starts a new one:
// so a record is complete before the syncfs that covers its generation begins.
func (s *Store) withGeneration(write func(gen int64) error) error {
	if s.boot == "" {
		return write(0)
	}
	unlock, err := s.lockFile("sync", false)
	if err != nil {
		return err
	}
	defer unlock()
	return write(max(1, s.readSynced().Boots[s.boot].Now))
}

// Sync makes all records written so far, and what they name, survive a power cut. It is meant to be called
// once, at the end of a build, beside other work: it can take seconds.
func (s *Store) Sync() error {
	var gen int64
	if err := s.updateSynced(func(g *generations) {
		gen = max(1, g.Now)
		g.Now = gen + 1
	}); err != nil {
		return fmt.Errorf("sync state: %w", err)
	}
	if err := syncDisk(s.root); err != nil {
		return fmt.Errorf("sync state: %w", err)
	}
	// This last write may be lost in a power cut, and then the records count as not synced.
	if err := s.updateSynced(func(g *generations) { g.Durable = max(g.Durable, gen) }); err != nil {
		return fmt.Errorf("sync state: %w", err)
	}
	return nil
}

// WriteBack begins what [Store.Sync] has to wait for, so that it waits less, and promises nothing. It takes as long as the disk does.
func (s *Store) WriteBack() { _ = syncDisk(s.root) }

func (s *Store) updateSynced(change func(*generations)) error {
	if s.boot == "" {
		return nil
	}
	unlock, err := s.lockFile("sync", true)
	if err != nil {
		return err
	}
	defer unlock()
	v := s.readSynced()
	for boot := range v.Boots {
		if len(v.Boots) >= maxBoots && boot != s.boot {
			delete(v.Boots, boot)
		}
	}
	g := v.Boots[s.boot]
	change(&g)
	v.Boots[s.boot] = g
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.writeFile(s.path("synced"), b)
}
