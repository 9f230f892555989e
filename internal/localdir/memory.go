package localdir

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"

	"github.com/skiff-build/skiff/internal/store"
)

// memory keeps digests of many files together from one build to the next: what was computed of a selection of a folder, and the
// state that the selection was in, a digest of the names and stamps of its files. While the state is the same nothing needs to be
// looked up for a single file. It is subject to the same rule as the index: a digest that was made from a file which might have
// changed unseen is not kept.
type memory struct {
	store *store.Store
	key   store.Key

	mu     sync.Mutex
	loaded bool
	dirty  bool
	rec    memoryRecord
}

// memoryRecord is its record.
type memoryRecord struct {
	State   string            `json:"state"`
	Digests map[string]string `json:"digests"` // by what was asked for
}

const recordMemory = store.KindFolder

// maxRemembered bounds the digests of one selection. A Dockerfile asks for one with each COPY.
const maxRemembered = 500

// memory returns that of a selection; nil where nothing is kept.
func (ix *Index) memory(dir string, sel Selection) *memory {
	if ix.store == nil {
		return nil
	}
	key := store.Key(sha256.Sum256(fmt.Appendf(nil, "skiff folder 1 %q %q %q %q", dir, sel.Include, sel.Exclude, sel.Follow)))
	ix.mu.Lock()
	defer ix.mu.Unlock()
	m := ix.memories[key]
	if m == nil {
		m = &memory{store: ix.store, key: key}
		ix.memories[key] = m
	}
	return m
}

// Remember returns what compute does, a digest of files of the tree, or what it returned in an earlier build for the same
// files. What names the computation, its version included: it must depend on nothing else.
func (t *Tree) Remember(what string, compute func() (string, error)) (string, error) {
	if t.memory == nil || t.gone || len(t.denied) > 0 {
		return compute()
	}
	state := t.state()
	if d, ok := t.memory.recall(state, what); ok {
		t.recalled.Store(true)
		return d, nil
	}
	d, err := compute()
	if err == nil && !t.unsure.Load() {
		t.memory.keep(state, what, d)
	}
	return d, err
}

func (m *memory) recall(state, what string) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.loaded {
		m.loaded = true
		if m.store.Get(recordMemory, m.key, &m.rec) != nil {
			m.rec = memoryRecord{}
		}
	}
	if m.rec.State != state {
		return "", false
	}
	d, ok := m.rec.Digests[what]
	return d, ok
}

func (m *memory) keep(state, what, digest string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rec.State != state || m.rec.Digests == nil {
		m.rec = memoryRecord{state, map[string]string{}}
	}
	if len(m.rec.Digests) < maxRemembered {
		m.rec.Digests[what], m.dirty = digest, true
	}
}

func (m *memory) save() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirty {
		return nil
	}
	m.dirty = false
	return m.store.Put(recordMemory, m.key, m.rec)
}

// makeState is a digest, in hexadecimal, of the names of all files with what lstat said of them.
func (t *Tree) makeState() string {
	h := sha256.New()
	var b []byte
	for _, l := range t.order {
		s := l.node.stamp
		b = appendText(b, l.name)
		for _, v := range []int64{s.size, s.mtime, s.ctime, int64(s.ino), int64(s.mode), int64(l.node.device[0]), int64(l.node.device[1])} {
			b = binary.AppendVarint(b, v)
		}
		if b = appendText(b, l.node.link); len(b) > 16<<10 {
			h.Write(b)
			b = b[:0]
		}
	}
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}
