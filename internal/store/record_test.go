package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRecords(t *testing.T) {
	s := open(t, t.TempDir())
	var got string
	if err := s.Get("kind", Key{1}, &got); !errors.Is(err, ErrMiss) {
		t.Errorf("before Put: %v", err)
	}
	for _, v := range []string{"one", "two"} {
		if err := s.Put("kind", Key{1}, v); err != nil {
			t.Fatal(err)
		}
		if err := s.Get("kind", Key{1}, &got); err != nil || got != v {
			t.Errorf("Get: %q %v, want %q", got, err, v)
		}
	}
	if err := s.Get("other", Key{1}, &got); !errors.Is(err, ErrMiss) {
		t.Errorf("another kind: %v", err)
	}
	for range 2 {
		if err := s.Delete("kind", Key{1}); err != nil {
			t.Error(err)
		}
	}
	if err := s.Get("kind", Key{1}, &got); !errors.Is(err, ErrMiss) {
		t.Errorf("after Delete: %v", err)
	}
}

func TestBrokenRecordIsMiss(t *testing.T) {
	s := open(t, t.TempDir())
	for i, bad := range []string{"", "{", "null", `{"v":`, `{"boot":"x"}`, `{"v":17}`, recordMagic, "\x00\x00\x00"} {
		k := Key{byte(i)}
		if err := s.Put("kind", k, "text"); err != nil {
			t.Fatal(err)
		}
		write(t, s.recordPath("kind", k), bad)
		var got string
		if err := s.Get("kind", k, &got); !errors.Is(err, ErrMiss) {
			t.Errorf("%q: %v, want a miss", bad, err)
		}
		if err := s.Put("kind", k, "text"); err != nil {
			t.Errorf("%q: Put: %v", bad, err)
		}
		if err := s.Get("kind", k, &got); err != nil || got != "text" {
			t.Errorf("%q: after Put: %q %v", bad, got, err)
		}
	}
}

func TestEach(t *testing.T) {
	s := open(t, t.TempDir())
	for i := range 10 {
		if err := s.Put("kind", Key{byte(i)}, i); err != nil {
			t.Fatal(err)
		}
	}
	write(t, s.recordPath("kind", Key{3}), "broken")
	write(t, s.path("records", "kind", "zz", "not-a-key"), "{}")
	write(t, s.path("records", "kind", "stray"), "{}")
	var seen []string
	err := s.Each("kind", func(k Key, raw []byte, used time.Time) error {
		if time.Since(used) > time.Minute {
			t.Errorf("%s used at %v", k, used)
		}
		seen = append(seen, fmt.Sprintf("%d=%s", k[0], raw))
		return nil
	})
	if got, want := strings.Join(seen, " "), "0=0 1=1 2=2 4=4 5=5 6=6 7=7 8=8 9=9"; err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	stop := errors.New("stop")
	if err := s.Each("kind", func(Key, []byte, time.Time) error { return stop }); err != stop {
		t.Errorf("error of fn: %v", err)
	}
	if err := s.Each("none", func(Key, []byte, time.Time) error { return stop }); err != nil {
		t.Errorf("no such kind: %v", err)
	}
}

func TestGetRenewsOldRecord(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.Put("kind", Key{}, 1); err != nil {
		t.Fatal(err)
	}
	path := s.recordPath("kind", Key{})
	for _, c := range []struct {
		age   time.Duration
		renew bool
	}{{touchAfter / 2, false}, {2 * touchAfter, true}} {
		old := time.Now().Add(-c.age)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
		var v int
		if err := s.Get("kind", Key{}, &v); err != nil {
			t.Fatal(err)
		}
		i, _ := os.Stat(path)
		if renewed := time.Since(i.ModTime()) < time.Minute; renewed != c.renew {
			t.Errorf("age %v: renewed %v", c.age, renewed)
		}
	}
}

// A power cut: what was written since the last syncfs is not trusted in the next boot.
func TestRecordsAfterReboot(t *testing.T) {
	root := t.TempDir()
	boot := func(id string) *Store {
		s := open(t, root)
		s.boot = id
		return s
	}
	has := func(s *Store, k Key) bool {
		var v int
		err := s.Get("kind", k, &v)
		if err != nil && !errors.Is(err, ErrMiss) {
			t.Fatal(err)
		}
		return err == nil
	}
	put := func(s *Store, k Key) {
		if err := s.Put("kind", k, 1); err != nil {
			t.Fatal(err)
		}
	}
	first := boot("first")
	put(first, Key{1})
	if err := first.Sync(); err != nil {
		t.Fatal(err)
	}
	put(first, Key{2})
	if !has(first, Key{1}) || !has(first, Key{2}) || !has(boot("first"), Key{2}) {
		t.Error("within a boot every record counts")
	}

	second := boot("second")
	if !has(second, Key{1}) {
		t.Error("a record that was synced is lost")
	}
	if has(second, Key{2}) {
		t.Error("a record that was not synced counts after a reboot")
	}
	put(second, Key{3})
	// A sync of this boot says nothing about records of an earlier one.
	for range 3 {
		if err := second.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	third := boot("third")
	if has(third, Key{2}) || !has(third, Key{1}) || !has(third, Key{3}) {
		t.Errorf("in the third boot: %v %v %v", has(third, Key{1}), has(third, Key{2}), has(third, Key{3}))
	}

	// Without the list of what was synced nothing of earlier boots counts.
	if err := os.Remove(filepath.Join(root, "synced")); err != nil {
		t.Fatal(err)
	}
	if s := boot("fourth"); has(s, Key{1}) || has(s, Key{3}) {
		t.Error("records count though nothing says that they were synced")
	}
}

func TestSyncedIsBounded(t *testing.T) {
	s := open(t, t.TempDir())
	for i := range maxBoots + 10 {
		s.boot = fmt.Sprint("boot", i)
		if err := s.updateSynced(func(g *generations) { g.Now = 5 }); err != nil {
			t.Fatal(err)
		}
	}
	v := s.readSynced()
	if len(v.Boots) > maxBoots || v.Boots[s.boot].Now != 5 {
		t.Errorf("%d boots are kept, the last with %v", len(v.Boots), v.Boots[s.boot])
	}
}

func TestData(t *testing.T) {
	s := open(t, t.TempDir())
	var k Key
	data := []byte("a\nb\x00\n")
	if _, err := s.GetData("index", k); !errors.Is(err, ErrMiss) {
		t.Errorf("nothing there: %v", err)
	}
	if err := s.PutData("index", k, map[string][]string{"layers": {"x"}}, data); err != nil {
		t.Fatal(err)
	}
	if got, err := s.GetData("index", k); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%q, %v", got, err)
	}
	var v struct{ Layers []string }
	if err := s.Get("index", k, &v); err != nil || !slices.Equal(v.Layers, []string{"x"}) {
		t.Errorf("the value beside the data: %v, %v", v, err)
	}
	if err := s.Put("index", k, v); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetData("index", k); !errors.Is(err, ErrMiss) {
		t.Errorf("a record without data: %v", err)
	}
}

// Whatever byte of a record changes, and wherever it is cut off, it is a miss and never another value; so is a record that stands
// in the place of another one.
func TestDamagedRecordIsMiss(t *testing.T) {
	s := open(t, t.TempDir())
	k := Key{7}
	if err := s.PutData("kind", k, map[string]string{"digest": "0123456789abcdef"}, []byte("data 123")); err != nil {
		t.Fatal(err)
	}
	path := s.recordPath("kind", k)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	miss := func(what string, kind Kind, k Key, b []byte) {
		t.Helper()
		write(t, s.recordPath(kind, k), string(b))
		var v map[string]string
		if err := s.Get(kind, k, &v); !errors.Is(err, ErrMiss) {
			t.Errorf("%s: Get: %v, %v", what, v, err)
		}
		if data, err := s.GetData(kind, k); !errors.Is(err, ErrMiss) {
			t.Errorf("%s: GetData: %q, %v", what, data, err)
		}
	}
	for i := range good {
		for bit := range 8 {
			b := bytes.Clone(good)
			b[i] ^= 1 << bit
			miss(fmt.Sprintf("bit %d of byte %d", bit, i), "kind", k, b)
		}
		miss(fmt.Sprintf("cut at %d", i), "kind", k, good[:i])
	}
	miss("longer", "kind", k, append(bytes.Clone(good), '\n'))
	miss("another key", "kind", Key{8}, good)
	miss("another kind", "other", k, good)
	_, old, _ := bytes.Cut(good, []byte{'\n'})
	miss("of an older skiff", "kind", k, old)
}
