package localdir

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/skiff-build/skiff/internal/store"
)

func openStore(t testing.TB) *store.Store {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

func sum(t testing.TB, tree *Tree) string {
	t.Helper()
	s, err := tree.Sum(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func hashOf(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// age lets a folder's files be old enough for the index.
func age(t testing.TB, dir string) {
	t.Helper()
	old := time.Now().Add(-time.Hour).Truncate(time.Second).Add(123456789)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.Chtimes(filepath.Join(dir, e.Name()), old, old); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(tick + 20*time.Millisecond)
}

// TestIndexIsKept holds that a second process knows all digests of files that were left alone.
func TestIndexIsKept(t *testing.T) {
	dir, st := write(t, "a", "b", "c"), openStore(t)
	age(t, dir)
	ix := Open(st)
	first := sum(t, scan(t, ix, Selection{Dir: dir}))
	if err := ix.Save(); err != nil {
		t.Fatal(err)
	}
	tree := scan(t, Open(st), Selection{Dir: dir})
	for name, n := range tree.nodes {
		if name != "." && !tree.known(name, n) {
			t.Errorf("%s is not known", name)
		}
	}
	if again := sum(t, tree); again != first {
		t.Errorf("sum %s, then %s", first, again)
	}
	if d, err := tree.Digest("a"); err != nil || d != hashOf("a") {
		t.Errorf("digest %s, %v", d, err)
	}
	// One file changes: the others stay known.
	if err := os.WriteFile(filepath.Join(dir, "b"), []byte("B"), 0o644); err != nil {
		t.Fatal(err)
	}
	tree = scan(t, Open(st), Selection{Dir: dir})
	if !tree.known("a", tree.nodes["a"]) || tree.known("b", tree.nodes["b"]) {
		t.Error("known: not a alone")
	}
	if d, err := tree.Digest("b"); err != nil || d != hashOf("B") {
		t.Errorf("digest %s, %v", d, err)
	}
}

// TestRacyClean writes a file, as often as it takes to get two writes into one tick of the clock, and holds
// that the second is always seen.
func TestRacyClean(t *testing.T) {
	dir, st := write(t, "f"), openStore(t)
	p := filepath.Join(dir, "f")
	sameTick := false
	for i := range 200 {
		contents := [2]string{fmt.Sprintf("%08d", 2*i), fmt.Sprintf("%08d", 2*i+1)}
		var stamps [2]stamp
		for j, content := range contents {
			if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			ix := Open(st)
			tree := scan(t, ix, Selection{Dir: dir})
			stamps[j] = tree.nodes["f"].stamp
			if d, err := tree.Digest("f"); err != nil || d != hashOf(content) {
				t.Fatalf("round %d: digest %s, %v, want that of %s", i, d, err, content)
			}
			if err := ix.Save(); err != nil {
				t.Fatal(err)
			}
		}
		sameTick = sameTick || stamps[0] == stamps[1]
	}
	t.Logf("two writes with equal stamps seen: %v", sameTick)
}

func TestSettled(t *testing.T) {
	read := time.Unix(1000, 0)
	for _, c := range []struct {
		mtime, ctime time.Time
		want         bool
	}{
		{read.Add(-time.Second + 1), read.Add(-time.Second + 1), true},
		{read.Add(-10 * time.Millisecond), read.Add(-time.Hour), false},
		{read.Add(-time.Hour + 1), read.Add(-10 * time.Millisecond), false},
		{read.Add(-time.Second), read.Add(-time.Second), false}, // no fraction: may be a coarse clock
		{read.Add(-3 * time.Second), read.Add(-3 * time.Second), true},
		{read.Add(time.Hour + 1), read, false}, // from the future
	} {
		s := stamp{mtime: c.mtime.UnixNano(), ctime: c.ctime.UnixNano()}
		if got := s.settled(read); got != c.want {
			t.Errorf("modified %v, changed %v, read %v: %v", c.mtime, c.ctime, read, got)
		}
	}
}

func TestSumChanges(t *testing.T) {
	of := func(change func(dir string) error) string {
		dir := write(t, "a", "d/b", "l -> a")
		if change != nil {
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
		}
		return sum(t, scan(t, Open(nil), Selection{Dir: dir}))
	}
	first := of(nil)
	if again := of(func(dir string) error { return os.Chtimes(filepath.Join(dir, "a"), time.Unix(1, 0), time.Unix(1, 0)) }); again != first {
		t.Error("times change the sum")
	}
	for name, change := range map[string]func(dir string) error{
		"content": func(dir string) error { return os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o644) },
		"mode":    func(dir string) error { return os.Chmod(filepath.Join(dir, "a"), 0o755) },
		"dir":     func(dir string) error { return os.Chmod(filepath.Join(dir, "d"), 0o700) },
		"name":    func(dir string) error { return os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "A")) },
		"new":     func(dir string) error { return os.Mkdir(filepath.Join(dir, "n"), 0o755) },
		"link": func(dir string) error {
			os.Remove(filepath.Join(dir, "l"))
			return os.Symlink("b", filepath.Join(dir, "l"))
		},
	} {
		if of(change) == first {
			t.Errorf("a change of %s leaves the sum as it is", name)
		}
	}
}

func TestChanged(t *testing.T) {
	dir := write(t, "a", "b", "c")
	tree := scan(t, Open(nil), Selection{Dir: dir})
	for _, name := range []string{"a", "b"} {
		if _, err := tree.Digest(name); err != nil {
			t.Fatal(err)
		}
	}
	if got := tree.Changed(nil); len(got) != 0 {
		t.Errorf("nothing changed, got %q", got)
	}
	for _, name := range []string{"b", "c"} { // nobody asked for c
		if err := os.WriteFile(filepath.Join(dir, name), []byte("longer"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := tree.Changed(nil); !slices.Equal(got, []string{"b"}) {
		t.Errorf("got %q, want b", got)
	}
	if d, err := tree.Digest("b"); err != nil || d != hashOf("b") {
		t.Errorf("the digest of b is now %s, %v", d, err)
	}
	os.Remove(filepath.Join(dir, "a"))
	if got := tree.Changed(nil); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("got %q, want a and b", got)
	}
}

// TestGrowingFile reads a log that is written to all the time: it has a digest, and is told as changed.
func TestGrowingFile(t *testing.T) {
	dir := write(t, "log")
	f, err := os.OpenFile(filepath.Join(dir, "log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(64 << 20); err != nil { // sparse, but takes a while to hash
		t.Fatal(err)
	}
	stop, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				f.WriteString("line\n")
			}
		}
	}()
	tree := scan(t, Open(nil), Selection{Dir: dir})
	_, err = tree.Digest("log")
	close(stop)
	<-done
	if err != nil {
		t.Fatal(err)
	}
	if got := tree.Changed(nil); !slices.Equal(got, []string{"log"}) {
		t.Errorf("changed: %q", got)
	}
}

func TestForget(t *testing.T) {
	d := &dirIndex{entries: map[string]*indexEntry{"seen": {seen: true}}}
	for i := range 3000 {
		d.entries[fmt.Sprint(i)] = &indexEntry{}
	}
	d.forget()
	if len(d.entries) != 1 || d.entries["seen"] == nil {
		t.Errorf("%d entries left", len(d.entries))
	}
	d.entries["unseen"] = &indexEntry{}
	if d.forget(); len(d.entries) != 2 {
		t.Error("forgot one of two")
	}
}

func FuzzDecode(f *testing.F) {
	good := encode(map[string]*indexEntry{"a": {content: content{stamp: stamp{size: 1, mtime: 2, ctime: 3, ino: 4, mode: 5}}}, "b/\xff": {}}, "/dir")
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := decode(b, "/dir")
		if err != nil {
			return
		}
		again, err := decode(encode(entries, "/dir"), "/dir")
		if err != nil || len(again) != len(entries) || !bytes.Equal(encode(again, "/dir"), encode(entries, "/dir")) {
			t.Errorf("%d entries, then %d, %v", len(entries), len(again), err)
		}
	})
}

// BenchmarkDecode reads an index of 50,000 files.
func BenchmarkDecode(b *testing.B) {
	entries := map[string]*indexEntry{}
	for i := range 50_000 {
		e := &indexEntry{content: content{stamp: stamp{size: 10_000, mtime: 1 << 60, ctime: 1 << 60, ino: uint64(1<<23 + i), mode: 0o644}}}
		entries[fmt.Sprintf("d%03d/e%d/file%06d.txt", i/1000, i/100%10, i)] = e
	}
	data := encode(entries, "/dir")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decode(data, "/dir"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNoChange is what an unchanged build of 10,000 files pays: list and then look up and sum, or remember the sum.
func BenchmarkNoChange(b *testing.B) {
	dir, st := b.TempDir(), openStore(b)
	for i := range 10_000 {
		p := filepath.Join(dir, fmt.Sprint(i%100), fmt.Sprint(i))
		if i < 100 {
			if err := os.Mkdir(filepath.Dir(p), 0o755); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.WriteFile(p, []byte(p), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	time.Sleep(tick + 20*time.Millisecond)
	ix := Open(st)
	first := sum(b, scan(b, ix, Selection{Dir: dir}))
	if err := ix.Save(); err != nil {
		b.Fatal(err)
	}
	for name, read := range map[string]func(*Tree) (string, error){
		"looked up": func(t *Tree) (string, error) { return t.Sum(b.Context()) },
		"remembered": func(t *Tree) (string, error) {
			return t.Remember("sum", func() (string, error) { return t.Sum(b.Context()) })
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ix := Open(st)
				if again, err := read(scan(b, ix, Selection{Dir: dir})); err != nil || again != first {
					b.Fatal("changed", err)
				}
				if err := ix.Save(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
